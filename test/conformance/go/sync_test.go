package conformance

import (
	"reflect"
	"testing"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
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
		if pages := (size + 499) / 500; size > 500 && own.requests != pages {
			t.Fatalf("%d requests for %d entries", own.requests, size)
		}
		own.sync(t, a)
		if size > 500 && own.transferred != 0 {
			t.Fatalf("%d transferred though nothing changed", own.transferred)
		}
		got, err := a.entries.GetAuthorizedEntries(deadline(t, callTime), &entryv1.GetAuthorizedEntriesRequest{})
		must(t, err)
		if len(got.Entries) != size {
			t.Fatalf("GetAuthorizedEntries gives %d of %d", len(got.Entries), size)
		}
		t.Logf("%d entries in %d requests", size, own.requests)
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
