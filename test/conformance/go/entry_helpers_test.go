package conformance

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"testing"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// A path segment that no other test has.
func uniqueName() string {
	var bytes [6]byte
	_, _ = rand.Read(bytes[:])
	return hex.EncodeToString(bytes[:])
}

func selector(value string) *types.Selector { return &types.Selector{Type: "unix", Value: value} }

// An entry under a parent, with a selector that nothing has.
func entryOf(parent *types.SPIFFEID, path string) *types.Entry {
	return &types.Entry{SpiffeId: idOf(path), ParentId: parent,
		Selectors: []*types.Selector{selector("uid:4000000000")}}
}

func createEach(
	t *testing.T, c *connection, entries []*types.Entry,
) []*entryv1.BatchCreateEntryResponse_Result {
	t.Helper()
	answer, err := c.entries.BatchCreateEntry(deadline(t, callTime),
		&entryv1.BatchCreateEntryRequest{Entries: entries})
	must(t, err)
	if len(answer.Results) != len(entries) {
		t.Fatalf("%d results for %d entries", len(answer.Results), len(entries))
	}
	return answer.Results
}

// Makes entries that have to be taken; as they are stored.
func (s *server) create(t *testing.T, entries ...*types.Entry) []*types.Entry {
	t.Helper()
	var stored []*types.Entry
	for _, result := range createEach(t, s.operator(t), entries) {
		wantStatus(t, result.Status, codes.OK)
		stored = append(stored, result.Entry)
	}
	return stored
}

func (s *server) createOne(t *testing.T, entry *types.Entry) *types.Entry {
	t.Helper()
	return s.create(t, entry)[0]
}

func (s *server) update(t *testing.T, entry *types.Entry, mask *types.EntryMask) *types.Entry {
	t.Helper()
	answer, err := s.operator(t).entries.BatchUpdateEntry(deadline(t, callTime),
		&entryv1.BatchUpdateEntryRequest{Entries: []*types.Entry{entry}, InputMask: mask})
	must(t, err)
	wantStatus(t, answer.Results[0].Status, codes.OK)
	return answer.Results[0].Entry
}

func (s *server) deleteEntry(t *testing.T, id string) {
	t.Helper()
	answer, err := s.operator(t).entries.BatchDeleteEntry(deadline(t, callTime),
		&entryv1.BatchDeleteEntryRequest{Ids: []string{id}})
	must(t, err)
	wantStatus(t, answer.Results[0].Status, codes.OK)
}

// What a spire-agent asks of an entry.
func agentMask() *types.EntryMask {
	return &types.EntryMask{SpiffeId: true, Selectors: true, FederatesWith: true, Admin: true,
		Downstream: true, RevisionNumber: true, StoreSvid: true, Hint: true, CreatedAt: true}
}

// An agent's copy of its entries, kept as a spire-agent keeps it.
type copyOfEntries struct {
	byID map[string]*types.Entry
	// Entries that the last sync transferred in full.
	transferred int
	// Requests by ids that the last sync made.
	requests int
}

func (c *copyOfEntries) sync(t *testing.T, a *agent) {
	t.Helper()
	must(t, c.trySync(t, a))
}

func (c *copyOfEntries) trySync(t *testing.T, a *agent) error {
	stream, err := a.entries.SyncAuthorizedEntries(deadline(t, callTime))
	if err != nil {
		return err
	}
	if err = stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: agentMask()}); err != nil && err != io.EOF {
		return err
	}
	c.transferred, c.requests = 0, 0
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(first.EntryRevisions) == 0 {
		c.byID = map[string]*types.Entry{}
		c.take(first.Entries)
		return stream.CloseSend()
	}
	revisions := first.EntryRevisions
	for page := first; page.More; {
		if page, err = stream.Recv(); err != nil {
			return err
		}
		revisions = append(revisions, page.EntryRevisions...)
	}
	stale := c.compare(revisions)
	for len(stale) > 0 {
		part := stale[:min(500, len(stale))]
		stale = stale[len(part):]
		c.requests++
		if err = stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: part}); err != nil {
			return err
		}
		for more := true; more; {
			page, err := stream.Recv()
			if err != nil {
				return err
			}
			c.take(page.Entries)
			more = page.More
		}
	}
	return stream.CloseSend()
}

func (c *copyOfEntries) take(entries []*types.Entry) {
	for _, entry := range entries {
		c.byID[entry.Id] = entry
		c.transferred++
	}
}

// Drops what is gone; the ids of what is new or has changed.
func (c *copyOfEntries) compare(revisions []*entryv1.EntryRevision) []string {
	kept, stale := map[string]*types.Entry{}, []string{}
	for _, revision := range revisions {
		known := c.byID[revision.Id]
		if known != nil && known.RevisionNumber == revision.RevisionNumber && known.CreatedAt == revision.CreatedAt {
			kept[revision.Id] = known
		} else {
			stale = append(stale, revision.Id)
		}
	}
	c.byID = kept
	return stale
}

func (a *agent) authorized(t *testing.T) map[string]*types.Entry {
	t.Helper()
	var own copyOfEntries
	own.sync(t, a)
	return own.byID
}

func manyUnder(parent *types.SPIFFEID, count int) []*types.Entry {
	run := uniqueName()
	entries := make([]*types.Entry, count)
	for at := range entries {
		entries[at] = entryOf(parent, fmt.Sprintf("/many/%s/%d", run, at))
	}
	return entries
}
