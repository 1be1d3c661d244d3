package conformance

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

func TestS24RestartKeepsTheAuthority(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	raw, own := s.newAgent(t, nil), s.ownAgent(t)
	entry := s.createOne(t, entryOf(raw.id, "/restart/raw"))
	s.createOne(t, own.entry("/restart/own"))
	source := own.source(t)
	before := s.bundle(t)
	active, _, _, err := x509Authorities(t, s).state()
	must(t, err)
	for _, signal := range []string{"SIGTERM", "SIGKILL"} {
		s.end(t, signal)
		wantVerified(t, source)
		s.again(t)
		raw.connection = s.dial(t, raw.pair)
		if by := hexID(raw.x509SVID(t, entry.Id).leaf.AuthorityKeyId); by != active {
			t.Fatalf("after %s, %s signs in place of %s", signal, by, active)
		}
		x509Authorities(t, s).wantState(t, active, "", "")
		after := s.bundle(t)
		if !reflect.DeepEqual(x509IDs(t, before), x509IDs(t, after)) || !reflect.DeepEqual(jwtIDs(before), jwtIDs(after)) {
			t.Fatalf("after %s the bundle is %v", signal, after)
		}
	}
	// A change of the entry reaches the workload: its agent is back.
	changed := own.entry("/restart/later")
	changed.Selectors = append(changed.Selectors, selector("gid:4000000000"))
	s.createOne(t, changed)
	wantVerified(t, source)
}

func TestS24LostKeysMakeANewAuthority(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	raw, own := s.newAgent(t, nil), s.ownAgent(t)
	entry := s.createOne(t, entryOf(raw.id, "/lost/raw"))
	ownEntry := s.createOne(t, own.entry("/lost/own"))
	source := own.source(t)
	old, _, _, err := x509Authorities(t, s).state()
	must(t, err)
	earlier := raw.x509SVID(t, entry.Id)
	oldTLS := s.tlsConfig(t, raw.pair)

	s.end(t, "SIGTERM")
	removeKeys(t, s)
	s.again(t)
	active, _, _, err := x509Authorities(t, s).state()
	must(t, err)
	if active == old {
		t.Fatal("the authority whose key is lost is active")
	}
	published := x509IDs(t, s.bundle(t))
	if _, found := published[active]; !found {
		t.Fatalf("the new authority is not in the bundle: %v", published)
	}
	// An agent that knows the old authority alone gets in, and learns of the new one.
	raw.connection = connect(t, s.Address, tlsOf(oldTLS))
	svid := raw.x509SVID(t, entry.Id)
	if by := hexID(svid.leaf.AuthorityKeyId); by != active {
		t.Fatalf("%s signs in place of %s", by, active)
	}
	for _, one := range []*issued{earlier, svid} {
		_, _, err = x509svid.Verify(one.certificates(t), x509Bundle(t, s.bundle(t)))
		must(t, err)
	}
	// The workload is served all the while, comes to trust the new authority, and gets its next SVID of it.
	until(t, followTime, "the workload trusts the new authority", func() bool {
		wantVerified(t, source)
		return trustedBy(source)[active] != nil && trustedBy(source)[old] != nil
	})
	ownEntry.DnsNames = []string{"renewed.test"}
	s.update(t, ownEntry, &types.EntryMask{DnsNames: true})
	until(t, followTime, "the workload has an SVID of the new authority", func() bool {
		return signedBy(wantVerified(t, source)) == active
	})
}

// The keys of the authorities, as the key manager `disk` keeps them.
func removeKeys(t *testing.T, s *server) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.StateDir, "keys", "*.pem"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no keys are there")
	}
	for _, file := range files {
		must(t, os.Remove(file))
	}
}

const batchOfCrash = 50

// Creates batches until the connection breaks; the entries that were acknowledged, by id.
func (c *connection) createUntilItEnds(
	ctx context.Context, parent *types.SPIFFEID, acknowledged func(*types.Entry),
) {
	for {
		answer, err := c.entries.BatchCreateEntry(ctx,
			&entryv1.BatchCreateEntryRequest{Entries: crashEntries(parent)})
		if err != nil {
			return
		}
		for _, result := range answer.Results {
			if codes.Code(result.Status.Code) == codes.OK {
				acknowledged(result.Entry)
			}
		}
	}
}

func crashEntries(parent *types.SPIFFEID) []*types.Entry {
	entries := manyUnder(parent, batchOfCrash)
	for _, entry := range entries {
		entry.Selectors = append(entry.Selectors, selector("gid:1"), selector("path:/usr/bin/app"))
		entry.DnsNames = []string{"one.test", "two.test"}
	}
	return entries
}

func TestS25KilledDuringCreates(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	acknowledged := map[string]*types.Entry{}
	for round := range 3 {
		var lock sync.Mutex
		var writers sync.WaitGroup
		first := make(chan struct{})
		var once sync.Once
		for range 4 {
			c, ctx := s.operator(t), deadline(t, callTime)
			writers.Add(1)
			go func() {
				defer writers.Done()
				c.createUntilItEnds(ctx, a.id, func(entry *types.Entry) {
					lock.Lock()
					acknowledged[entry.Id] = entry
					lock.Unlock()
					once.Do(func() { close(first) })
				})
			}()
		}
		select {
		case <-first:
		case <-time.After(callTime):
			t.Fatal("nothing was created")
		}
		time.Sleep(time.Duration(20*(round+1)) * time.Millisecond)
		s.end(t, "SIGKILL")
		writers.Wait()
		s.again(t)
		s.wantWhole(t, a, acknowledged)
	}
}

// Nothing acknowledged is lost, nothing is half there, and the agent sees what the store has.
func (s *server) wantWhole(t *testing.T, a *agent, acknowledged map[string]*types.Entry) {
	t.Helper()
	listed := map[string]*types.Entry{}
	for _, entry := range s.list(t, &entryv1.ListEntriesRequest_Filter{ByParentId: a.id}, 500) {
		listed[entry.Id] = entry
		if len(entry.Selectors) != 3 || len(entry.DnsNames) != 2 || entry.SpiffeId.GetPath() == "" {
			t.Errorf("a half entry %v", entry)
		}
	}
	for id, entry := range acknowledged {
		if !proto.Equal(listed[id], entry) {
			t.Errorf("%v was acknowledged, and there is %v", entry, listed[id])
		}
	}
	a.connection = s.dial(t, a.pair)
	if !reflect.DeepEqual(sorted(a.authorized(t)), sorted(listed)) {
		t.Error("the agent sees other entries than the store has")
	}
	counted := s.count(t, "select count(*) from entries where parent_id = '"+textOf(a.id)+"'")
	if counted != len(listed) {
		t.Errorf("%d rows, %d listed", counted, len(listed))
	}
	t.Logf("%d acknowledged, %d there", len(acknowledged), len(listed))
}
