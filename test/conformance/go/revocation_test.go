package conformance

import (
	"reflect"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// How long a workload's open stream may hold an identity after the operator's command has ended. Nothing is
// issued to it from the end of the command on.
const revocationTime = 5 * time.Second

func TestS56RevokedIdentityIsNotIssued(t *testing.T) {
	for _, act := range []string{"suspend", "retire"} {
		s := theServer(t)
		a, other := s.newAgent(t, nil), s.newAgent(t, nil)
		path := "/revoked/" + uniqueName()
		entry, elsewhere := s.createOne(t, entryOf(a.id, path)), s.createOne(t, entryOf(other.id, path))
		spared := s.createOne(t, entryOf(a.id, "/spared/"+uniqueName()))
		a.x509SVID(t, entry.Id)
		authority, keys := x509IDs(t, s.bundle(t)), jwtIDs(s.bundle(t))

		s.writ(t, "identity", act, textOf(entry.SpiffeId), "--reason", "conformance")
		for agent, id := range map[*agent]string{a: entry.Id, other: elsewhere.Id} {
			results := agent.refusal(t, id)
			t.Logf("%s: %v", act, results)
			if _, err := agent.tryJWT(t, id, "audience"); err == nil {
				t.Errorf("%s: a JWT-SVID was issued", act)
			}
			if agent.authorized(t)[id] != nil {
				t.Errorf("%s: the entry is served", act)
			}
		}
		a.x509SVID(t, spared.Id)
		a.jwtSVID(t, spared.Id, "audience")
		for id, tainted := range x509IDs(t, s.bundle(t)) {
			if before, known := authority[id]; !known || before != tainted {
				t.Errorf("%s: the authority %s changed", act, id)
			}
		}
		if got := jwtIDs(s.bundle(t)); !reflect.DeepEqual(got, keys) {
			t.Errorf("%s: the JWT authorities %v became %v", act, keys, got)
		}
		// Nor by another door: no operator mints it, and no new entry of its name is issued to.
		_, err := s.operator(t).svids.MintX509SVID(deadline(t, callTime),
			&svidv1.MintX509SVIDRequest{Csr: csrWithID(t, newKey(t), path)})
		t.Logf("%s: minting: %v", act, err)
		if err == nil {
			t.Errorf("%s: an X509-SVID was minted", act)
		}
		again := entryOf(a.id, path)
		again.Selectors = []*types.Selector{selector("gid:4000000000")}
		if result := createEach(t, s.operator(t), []*types.Entry{again})[0]; codes.Code(result.Status.Code) == codes.OK {
			t.Logf("%s: a new entry is told: %s", act, a.refusal(t, result.Entry.Id))
		}
	}
}

// Why one item was refused.
func (a *agent) refusal(t *testing.T, id string) string {
	t.Helper()
	result := a.tryX509(t, newParams(t, id))[0]
	if code := codes.Code(result.Status.Code); code != codes.NotFound && code != codes.PermissionDenied {
		t.Fatalf("the item is %v: %s", code, result.Status.Message)
	}
	if result.Svid != nil {
		t.Fatal("an SVID in a refused item")
	}
	return result.Status.Message
}

// A workload of our agent loses what was revoked, and gets it back.
func TestS56RevokedIdentityLeavesTheStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	own := s.ownAgent(t)
	revoked := s.createOne(t, own.entry("/revoked/one"))
	s.createOne(t, own.entry("/revoked/other"))
	watcher := own.watch(t)
	both := func(now *workloadapi.X509Context) bool { return len(now.SVIDs) == 2 }
	watcher.until("both identities", both)
	s.writ(t, "identity", "suspend", textOf(revoked.SpiffeId), "--reason", "conformance")
	before := time.Now()
	now := watcher.until("one identity", func(now *workloadapi.X509Context) bool { return len(now.SVIDs) == 1 })
	took := time.Since(before).Round(time.Millisecond)
	t.Logf("gone %s after the operator's command", took)
	if took > revocationTime {
		t.Errorf("promised are %s", revocationTime)
	}
	if now.SVIDs[0].ID.Path() != "/revoked/other" {
		t.Errorf("left is %s", now.SVIDs[0].ID)
	}
	s.writ(t, "identity", "activate", textOf(revoked.SpiffeId))
	watcher.until("both identities again", both)
}
