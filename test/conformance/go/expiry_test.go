package conformance

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func TestS19ExpiredEntryIssuesNothing(t *testing.T) {
	t.Parallel()
	s := theServer(t)
	a := s.newAgent(t, nil)
	entry := entryOf(a.id, "/expiring/"+uniqueName())
	end := time.Now().Add(4 * time.Second).Truncate(time.Second)
	entry.ExpiresAt = end.Unix()
	stored := s.createOne(t, entry)
	if stored.ExpiresAt != end.Unix() {
		t.Fatalf("expires_at is stored as %d", stored.ExpiresAt)
	}
	lasting := s.createOne(t, entryOf(a.id, "/lasting/"+uniqueName()))
	wantEndBy(t, a, stored.Id, end)
	if a.authorized(t)[stored.Id] == nil {
		t.Fatal("it is not served before its end")
	}
	// Up to the last moment nothing outlives it, and from its end on there is nothing.
	for time.Until(end) > 300*time.Millisecond {
		wantEndBy(t, a, stored.Id, end)
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Until(end))
	a.refusedX509(t, stored.Id, codes.NotFound)
	_, err := a.tryJWT(t, stored.Id, "audience")
	wantCode(t, err, codes.NotFound, codes.PermissionDenied)
	served := a.authorized(t)
	if served[stored.Id] != nil || served[lasting.Id] == nil {
		t.Fatalf("served are %v", sorted(served))
	}
	a.x509SVID(t, lasting.Id)
}

func wantEndBy(t *testing.T, a *agent, id string, end time.Time) {
	t.Helper()
	if svid := a.x509SVID(t, id); svid.leaf.NotAfter.After(end) {
		t.Fatalf("the X509-SVID ends %s, the entry %s", svid.leaf.NotAfter, end)
	}
	token := a.jwtSVID(t, id, "audience")
	parsed, err := jwtsvid.ParseInsecure(token.Token, []string{"audience"})
	must(t, err)
	if parsed.Expiry.After(end) || token.ExpiresAt > end.Unix() {
		t.Fatalf("the JWT-SVID ends %s, the entry %s", parsed.Expiry, end)
	}
}

func TestS19ExpiryMovedForward(t *testing.T) {
	t.Parallel()
	s := theServer(t)
	a := s.newAgent(t, nil)
	stored := s.createOne(t, entryOf(a.id, "/expiring/"+uniqueName()))
	a.x509SVID(t, stored.Id)
	stored.ExpiresAt = time.Now().Add(-time.Second).Unix()
	s.update(t, stored, &types.EntryMask{ExpiresAt: true})
	a.refusedX509(t, stored.Id, codes.NotFound)
	if a.authorized(t)[stored.Id] != nil {
		t.Fatal("it is served")
	}
}
