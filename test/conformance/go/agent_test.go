package conformance

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// An agent as the server knows it, and its connection.
type agent struct {
	*connection
	id    *types.SPIFFEID
	leaf  *x509.Certificate
	chain [][]byte
	pair  *tls.Certificate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func csrFor(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(t, err)
	return csr
}

func (s *server) joinToken(t *testing.T, ttl int32, alias *types.SPIFFEID) string {
	t.Helper()
	token, err := s.operator(t).agents.CreateJoinToken(deadline(t, callTime),
		&agentv1.CreateJoinTokenRequest{Ttl: ttl, AgentId: alias})
	must(t, err)
	return token.Value
}

// Answers a challenge.
type solver func(challenge []byte) ([]byte, error)

func joinTokenData(token string) *types.AttestationData {
	return &types.AttestationData{Type: "join_token", Payload: []byte(token)}
}

// The exchange of AttestAgent, up to its result or the server's refusal.
func attest(
	ctx context.Context, c *connection, data *types.AttestationData, csr []byte, solve solver,
) (*agentv1.AttestAgentResponse_Result, error) {
	stream, err := c.agents.AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	params := &agentv1.AttestAgentRequest_Params{Data: data, Params: &agentv1.AgentX509SVIDParams{Csr: csr}}
	// A refusal shows at Recv, whatever Send says.
	_ = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: params}})
	for {
		answer, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if result := answer.GetResult(); result != nil {
			return result, stream.CloseSend()
		}
		if solve == nil {
			return nil, errors.New("a challenge without need")
		}
		response, err := solve(answer.GetChallenge())
		if err != nil {
			return nil, err
		}
		_ = stream.Send(&agentv1.AttestAgentRequest{
			Step: &agentv1.AttestAgentRequest_ChallengeResponse{ChallengeResponse: response}})
	}
}

func (s *server) attestWith(t *testing.T, data *types.AttestationData, solve solver) *agent {
	t.Helper()
	key := newKey(t)
	result, err := attest(deadline(t, callTime), s.dial(t, nil), data, csrFor(t, key), solve)
	must(t, err)
	if result.Reattestable == (data.Type == "join_token") {
		t.Errorf("by %s it is reattestable: %v", data.Type, result.Reattestable)
	}
	return s.agentOf(t, result.Svid, key)
}

func (s *server) agentOf(t *testing.T, svid *types.X509SVID, key crypto.Signer) *agent {
	t.Helper()
	leaf, err := x509.ParseCertificate(svid.CertChain[0])
	must(t, err)
	if svid.ExpiresAt != leaf.NotAfter.Unix() || len(leaf.URIs) != 1 || leaf.URIs[0].String() != textOf(svid.Id) {
		t.Errorf("of %v until %d is told, the SVID is of %v until %s", svid.Id, svid.ExpiresAt, leaf.URIs, leaf.NotAfter)
	}
	pair := pairOf(svid.CertChain, key)
	return &agent{s.dial(t, pair), svid.Id, leaf, svid.CertChain, pair}
}

// A new agent by a join token.
func (s *server) newAgent(t *testing.T, alias *types.SPIFFEID) *agent {
	t.Helper()
	return s.attestWith(t, joinTokenData(s.joinToken(t, 600, alias)), nil)
}
