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
	end := time.Now().Add(5 * time.Second).Truncate(time.Second)
	entry.ExpiresAt = end.Unix()
	stored := s.createOne(t, entry)
	if stored.ExpiresAt != end.Unix() {
		t.Fatalf("expires_at is stored as %d", stored.ExpiresAt)
	}
	lasting := s.createOne(t, entryOf(a.id, "/lasting/"+uniqueName()))
	served := a.authorized(t)
	if served[stored.Id] == nil && time.Now().Before(end) {
		t.Fatal("it is not served before its end")
	}
	// Up to the last moment nothing outlives it, and from its end on there is nothing.
	issuances := 0
	for time.Now().Before(end) {
		issuances += wantEndBy(t, a, stored.Id, end)
	}
	if issuances == 0 {
		t.Fatal("nothing was issued before its end")
	}
	a.refusedX509(t, stored.Id, codes.NotFound)
	_, err := a.tryJWT(t, stored.Id, "audience")
	wantCode(t, err, codes.NotFound)
	served = a.authorized(t)
	if served[stored.Id] != nil || served[lasting.Id] == nil {
		t.Fatalf("served are %v", sorted(served))
	}
	a.x509SVID(t, lasting.Id)
}

// How many SVIDs there were; a refusal has to have come after the end.
func wantEndBy(t *testing.T, a *agent, id string, end time.Time) int {
	t.Helper()
	count := 0
	result := a.tryX509(t, newParams(t, id))[0]
	if code := codes.Code(result.Status.Code); code == codes.OK {
		count++
		if leaf := parsed(t, result.Svid.CertChain[0]); leaf.NotAfter.After(end) {
			t.Fatalf("the X509-SVID ends %s, the entry %s", leaf.NotAfter, end)
		}
	} else if time.Now().Before(end) {
		t.Fatalf("%v before the end", result.Status)
	}
	token, err := a.tryJWT(t, id, "audience")
	if err == nil {
		count++
		parsed, err := jwtsvid.ParseInsecure(token.Token, []string{"audience"})
		must(t, err)
		if parsed.Expiry.After(end) || token.ExpiresAt > end.Unix() {
			t.Fatalf("the JWT-SVID ends %s, the entry %s", parsed.Expiry, end)
		}
	} else if time.Now().Before(end) {
		t.Fatalf("%v before the end", err)
	}
	return count
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
