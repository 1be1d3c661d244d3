package conformance

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
)

// How long after the operator's act an identity may still be issued to: none, once the act is answered.
func TestS56RevokedIdentityIsNotIssued(t *testing.T) {
	for _, act := range []string{"suspend", "retire"} {
		s := theServer(t)
		a, other := s.newAgent(t, nil), s.newAgent(t, nil)
		path := "/revoked/" + uniqueName()
		entry, elsewhere := s.createOne(t, entryOf(a.id, path)), s.createOne(t, entryOf(other.id, path))
		spared := s.createOne(t, entryOf(a.id, "/spared/"+uniqueName()))
		a.x509SVID(t, entry.Id)
		authority := x509IDs(t, s.bundle(t))

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
	before := time.Now()
	s.writ(t, "identity", "suspend", textOf(revoked.SpiffeId), "--reason", "conformance")
	now := watcher.until("one identity", func(now *workloadapi.X509Context) bool { return len(now.SVIDs) == 1 })
	t.Logf("gone %s after the operator's command began", time.Since(before).Round(time.Millisecond))
	if now.SVIDs[0].ID.Path() != "/revoked/other" {
		t.Errorf("left is %s", now.SVIDs[0].ID)
	}
	s.writ(t, "identity", "activate", textOf(revoked.SpiffeId))
	watcher.until("both identities again", both)
}
