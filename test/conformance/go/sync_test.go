package conformance

import (
	"io"
	"reflect"
	"sort"
	"testing"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

func TestS10SyncOfAllSizes(t *testing.T) {
	s := theServer(t)
	for _, size := range []int{0, 1, 500, 501, 1500} {
		a := s.newAgent(t, nil)
		stored := map[string]bool{}
		if size > 0 {
			for _, entry := range s.create(t, manyUnder(a.id, size)...) {
				stored[entry.Id] = true
			}
		}
		var own copyOfEntries
		own.sync(t, a)
		if !reflect.DeepEqual(sorted(own.byID), sorted(stored)) {
			t.Fatalf("%d entries of %d", len(own.byID), size)
		}
		if own.transferred != size {
			t.Fatalf("%d transferred of %d", own.transferred, size)
		}
		pages := (size + 499) / 500
		if size <= 500 {
			pages = 0
		}
		if own.requests != pages {
			t.Fatalf("%d requests for %d entries", own.requests, size)
		}
		own.sync(t, a)
		if size > 500 && own.transferred != 0 {
			t.Fatalf("%d transferred though nothing changed", own.transferred)
		}
		if !reflect.DeepEqual(sorted(own.byID), sorted(stored)) {
			t.Fatalf("%d entries of %d after another sync", len(own.byID), size)
		}
		got, err := a.entries.GetAuthorizedEntries(deadline(t, callTime), &entryv1.GetAuthorizedEntriesRequest{})
		must(t, err)
		if len(got.Entries) != size {
			t.Fatalf("GetAuthorizedEntries gives %d of %d", len(got.Entries), size)
		}
		t.Logf("%d entries in %d requests", size, pages)
	}
}

func TestS10SyncOfChanges(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	stored := s.create(t, manyUnder(a.id, 600)...)
	var own copyOfEntries
	own.sync(t, a)

	changed := stored[300]
	changed.Hint = "changed"
	s.update(t, changed, &types.EntryMask{Hint: true})
	own.sync(t, a)
	if own.transferred != 1 || own.byID[changed.Id].Hint != "changed" {
		t.Fatalf("%d transferred, hint %q", own.transferred, own.byID[changed.Id].Hint)
	}
	if own.byID[changed.Id].RevisionNumber != changed.RevisionNumber+1 {
		t.Fatalf("revision %d after %d", own.byID[changed.Id].RevisionNumber, changed.RevisionNumber)
	}

	s.deleteEntry(t, stored[301].Id)
	own.sync(t, a)
	if len(own.byID) != 599 || own.transferred != 0 || own.byID[stored[301].Id] != nil {
		t.Fatalf("%d entries, %d transferred after a deletion", len(own.byID), own.transferred)
	}
}

// The same id and revision, but another entry: its creation tells.
func TestS10SyncOfRecreated(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	s.create(t, manyUnder(a.id, 600)...)
	entry := entryOf(a.id, "/recreated/"+uniqueName())
	entry.Id = "recreated-" + uniqueName()
	first := s.createOne(t, entry)
	var own copyOfEntries
	own.sync(t, a)
	s.deleteEntry(t, entry.Id)
	waitForNextSecond()
	entry.SpiffeId = idOf("/recreated/" + uniqueName())
	second := s.createOne(t, entry)
	if second.Id != first.Id || second.RevisionNumber != first.RevisionNumber || second.CreatedAt <= first.CreatedAt {
		t.Fatalf("first %v, second %v", first, second)
	}
	own.sync(t, a)
	if own.byID[entry.Id].SpiffeId.Path != entry.SpiffeId.Path || own.transferred != 1 {
		t.Fatalf("%v, %d transferred", own.byID[entry.Id], own.transferred)
	}
}

func TestS11SyncRefusesItsStart(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	stored := s.createOne(t, entryOf(a.id, "/sync/"+uniqueName()))
	for name, first := range map[string]*entryv1.SyncAuthorizedEntriesRequest{
		"ids":                         {Ids: []string{stored.Id}},
		"ids and a mask":              {Ids: []string{stored.Id}, OutputMask: agentMask()},
		"a mask without the revision": {OutputMask: &types.EntryMask{SpiffeId: true, Selectors: true}},
		"an empty mask":               {OutputMask: &types.EntryMask{}},
	} {
		stream, err := a.entries.SyncAuthorizedEntries(deadline(t, callTime))
		must(t, err)
		must(t, stream.Send(first))
		_, err = stream.Recv()
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
}

// A sync by hand: what stands in its messages.
type syncStream struct {
	t *testing.T
	entryv1.Entry_SyncAuthorizedEntriesClient
}

func (a *agent) startSync(t *testing.T, mask *types.EntryMask) syncStream {
	t.Helper()
	stream, err := a.entries.SyncAuthorizedEntries(deadline(t, callTime))
	must(t, err)
	must(t, stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: mask}))
	return syncStream{t, stream}
}

func (s syncStream) next() *entryv1.SyncAuthorizedEntriesResponse {
	s.t.Helper()
	message, err := s.Recv()
	must(s.t, err)
	return message
}

// The entries that a request by ids is answered with, and the pages they come in.
func (s syncStream) ask(ids ...string) (entries []*types.Entry, pages int) {
	s.t.Helper()
	must(s.t, s.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: ids}))
	for more := true; more; {
		page := s.next()
		if len(page.EntryRevisions) != 0 || len(page.Entries) > 500 {
			s.t.Fatalf("a page of %d entries and %d revisions", len(page.Entries), len(page.EntryRevisions))
		}
		entries, more, pages = append(entries, page.Entries...), page.More, pages+1
	}
	return entries, pages
}

func (s syncStream) wantEnd() {
	s.t.Helper()
	must(s.t, s.CloseSend())
	if message, err := s.Recv(); err != io.EOF {
		s.t.Fatalf("after the end %v, %v", message, err)
	}
}

// Up to 500 entries are one message; of more the revisions come in pages, then what is asked for.
func TestS10SyncMessages(t *testing.T) {
	s := theServer(t)
	mask := &types.EntryMask{RevisionNumber: true, SpiffeId: true}
	for _, size := range []int{0, 1, 500} {
		a := s.newAgent(t, nil)
		if size > 0 {
			s.create(t, manyUnder(a.id, size)...)
		}
		stream := a.startSync(t, mask)
		whole := stream.next()
		if len(whole.Entries) != size || len(whole.EntryRevisions) != 0 || whole.More {
			t.Fatalf("of %d entries %d, %d revisions, more: %v", size, len(whole.Entries), len(whole.EntryRevisions), whole.More)
		}
		wantMasked(t, whole.Entries)
		stream.wantEnd()
	}
	a := s.newAgent(t, nil)
	ids, revisions := []string{}, []string{}
	for _, entry := range s.create(t, manyUnder(a.id, 1200)...) {
		ids = append(ids, entry.Id)
	}
	stream := a.startSync(t, mask)
	for more := true; more; {
		page := stream.next()
		if len(page.Entries) != 0 || len(page.EntryRevisions) > 500 {
			t.Fatalf("a page of %d revisions and %d entries", len(page.EntryRevisions), len(page.Entries))
		}
		for _, revision := range page.EntryRevisions {
			revisions = append(revisions, revision.Id)
			if revision.RevisionNumber != 0 || revision.CreatedAt == 0 {
				t.Errorf("the revision %v", revision)
			}
		}
		more = page.More
	}
	sort.Strings(ids)
	sort.Strings(revisions)
	if !reflect.DeepEqual(ids, revisions) {
		t.Fatalf("%d revisions of %d entries", len(revisions), len(ids))
	}
	// What is not its own is skipped, and the mask of the beginning holds.
	foreign := s.createOne(t, entryOf(s.newAgent(t, nil).id, "/sync/"+uniqueName()))
	some, pages := stream.ask("no-such-entry", ids[1], foreign.Id, ids[0])
	if len(some) != 2 || pages != 1 {
		t.Fatalf("for two of four %v", some)
	}
	wantMasked(t, some)
	if none, _ := stream.ask("no-such-entry"); len(none) != 0 {
		t.Errorf("for none %v", none)
	}
	all, pages := stream.ask(ids...)
	if len(all) != 1200 || pages != 3 {
		t.Fatalf("%d entries in %d pages", len(all), pages)
	}
	wantMasked(t, all)
	stream.wantEnd()
}

// An id, the SPIFFE ID and the revision, and nothing else.
func wantMasked(t *testing.T, entries []*types.Entry) {
	t.Helper()
	for _, entry := range entries {
		only := &types.Entry{Id: entry.Id, SpiffeId: entry.SpiffeId, RevisionNumber: entry.RevisionNumber}
		if !proto.Equal(entry, only) || entry.Id == "" || entry.SpiffeId == nil {
			t.Fatalf("beyond the mask: %v", entry)
		}
	}
}
