package conformance

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (s *server) tryJoin(t *testing.T, token string) error {
	t.Helper()
	_, err := attest(deadline(t, callTime), s.dial(t, nil), joinTokenData(token), csrFor(t, newKey(t)), nil)
	return err
}

func TestS02JoinTokenOnce(t *testing.T) {
	s := theServer(t)
	token := s.joinToken(t, 600, nil)
	must(t, s.tryJoin(t, token))
	wantCode(t, s.tryJoin(t, token), codes.InvalidArgument)
	wantCode(t, s.tryJoin(t, "no-such-token"), codes.InvalidArgument)
}

func TestS02JoinTokenExpired(t *testing.T) {
	s := theServer(t)
	token := s.joinToken(t, 1, nil)
	time.Sleep(1100 * time.Millisecond)
	wantCode(t, s.tryJoin(t, token), codes.InvalidArgument)
	wantCode(t, s.tryJoin(t, token), codes.InvalidArgument)
	if left := s.count(t, "select count(*) from join_tokens where expires_at_ms < "+milliseconds(time.Now())); left != 0 {
		t.Fatalf("%d expired tokens are left", left)
	}
}

func TestS02JoinTokenRaced(t *testing.T) {
	s := theServer(t)
	for round := 0; round < 5; round++ {
		token := s.joinToken(t, 600, nil)
		const racers = 8
		outcomes := make([]codes.Code, racers)
		var all sync.WaitGroup
		for at := range outcomes {
			c, csr, ctx := s.dial(t, nil), csrFor(t, newKey(t)), deadline(t, callTime)
			all.Add(1)
			go func() {
				defer all.Done()
				_, err := attest(ctx, c, joinTokenData(token), csr, nil)
				outcomes[at] = status.Code(err)
			}()
		}
		all.Wait()
		won := 0
		for _, code := range outcomes {
			switch code {
			case codes.OK:
				won++
			case codes.InvalidArgument:
			default:
				t.Fatalf("a loser got %v", code)
			}
		}
		if won != 1 {
			t.Fatalf("%d of %d won", won, racers)
		}
	}
}

func TestS04AgentSVIDByJoinToken(t *testing.T) {
	s := theServer(t)
	token := s.joinToken(t, 600, nil)
	a := s.attestWith(t, joinTokenData(token), nil)
	if !strings.HasPrefix(a.id.Path, "/spire/agent/join_token/") {
		t.Fatalf("the ID is %s", textOf(a.id))
	}
	if strings.Contains(textOf(a.id), token) {
		t.Fatal("the ID holds the token")
	}
	verifyAgent(t, s, a)
}

// By go-spiffe, and by crypto/x509's own path validation.
func verifyAgent(t *testing.T, s *server, a *agent) {
	t.Helper()
	svid := &issued{leaf: a.leaf, chain: a.chain}
	id, _, err := x509svid.Verify(svid.certificates(t), x509Bundle(t, s.bundle(t)))
	must(t, err)
	if id.String() != textOf(a.id) {
		t.Fatalf("the SVID is of %s, the answer of %s", id, textOf(a.id))
	}
	lintLeaf(t, s.bundle(t), svid.certificates(t))
}

func TestS05AttestWithoutCertificate(t *testing.T) {
	s := theServer(t)
	nobody := s.dial(t, nil)
	token := s.joinToken(t, 600, nil)
	_, err := attest(deadline(t, callTime), nobody, joinTokenData(token), csrFor(t, newKey(t)), nil)
	must(t, err)
	_, err = nobody.bundles.GetBundle(deadline(t, callTime), &bundlev1.GetBundleRequest{})
	must(t, err)
	a := &agent{connection: nobody}
	wantCode(t, new(copyOfEntries).trySync(t, a), codes.PermissionDenied)
	_, err = nobody.agents.RenewAgent(deadline(t, callTime), &agentv1.RenewAgentRequest{
		Params: &agentv1.AgentX509SVIDParams{Csr: csrFor(t, newKey(t))}})
	wantCode(t, err, codes.PermissionDenied)
	_, err = nobody.agents.ListAgents(deadline(t, callTime), &agentv1.ListAgentsRequest{})
	wantCode(t, err, codes.PermissionDenied)
}
