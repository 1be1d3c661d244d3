package conformance

import (
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func (a *agent) renew(t *testing.T, s *server) *agent {
	t.Helper()
	key := newKey(t)
	answer, err := a.agents.RenewAgent(deadline(t, callTime), &agentv1.RenewAgentRequest{
		Params: &agentv1.AgentX509SVIDParams{Csr: csrFor(t, key)}})
	must(t, err)
	return s.agentOf(t, answer.Svid, key)
}

func (a *agent) trySync(t *testing.T) error {
	t.Helper()
	return new(copyOfEntries).trySync(t, a)
}

func TestS07RenewedSerials(t *testing.T) {
	s := theServer(t)
	current := s.newAgent(t, nil)
	for rotation := 0; rotation < 5; rotation++ {
		next := current.renew(t, s)
		if next.leaf.SerialNumber.Cmp(current.leaf.SerialNumber) == 0 || textOf(next.id) != textOf(current.id) {
			t.Fatal("no new SVID of the same agent")
		}
		must(t, current.trySync(t))
		must(t, s.dial(t, current.pair).sync(t))
		must(t, next.trySync(t))
		const notActive = types.PermissionDeniedDetails_AGENT_NOT_ACTIVE
		wantDenial(t, current.trySync(t), notActive)
		wantDenial(t, s.dial(t, current.pair).sync(t), notActive)
		must(t, next.trySync(t))
		current = next
	}
}

func (c *connection) sync(t *testing.T) error {
	t.Helper()
	return (&agent{connection: c}).trySync(t)
}

func TestS08EvictJoinToken(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	must(t, a.trySync(t))
	_, err := s.operator(t).agents.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: a.id})
	must(t, err)
	wantDenial(t, a.trySync(t), types.PermissionDeniedDetails_AGENT_NOT_ATTESTED)
	_, err = s.operator(t).agents.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
	wantCode(t, err, codes.NotFound)
}

func TestS08BanJoinToken(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	_, err := s.operator(t).agents.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: a.id})
	must(t, err)
	wantDenial(t, a.trySync(t), types.PermissionDeniedDetails_AGENT_BANNED)
	found, err := s.operator(t).agents.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
	must(t, err)
	if !found.Banned || found.X509SvidSerialNumber != "" {
		t.Fatalf("banned it is %v", found)
	}
	_, err = s.operator(t).agents.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: a.id})
	must(t, err)
	wantDenial(t, a.trySync(t), types.PermissionDeniedDetails_AGENT_BANNED)
}

func TestS08EvictAndBanX509Pop(t *testing.T) {
	ca := newNodeCA(t)
	s := ca.server(t)
	key := newKey(t)
	data, solve := x509popData(t, ca.node(t, key.Public())), popSolver(key, nil)
	a := s.attestWith(t, data, solve)

	_, err := a.agents.RenewAgent(deadline(t, callTime), &agentv1.RenewAgentRequest{
		Params: &agentv1.AgentX509SVIDParams{Csr: csrFor(t, key)}})
	wantDenial(t, err, types.PermissionDeniedDetails_AGENT_MUST_REATTEST)

	_, err = s.operator(t).agents.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: a.id})
	must(t, err)
	wantDenial(t, a.trySync(t), types.PermissionDeniedDetails_AGENT_NOT_ATTESTED)
	a = s.attestWith(t, data, solve)
	must(t, a.trySync(t))

	_, err = s.operator(t).agents.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: a.id})
	must(t, err)
	wantDenial(t, a.trySync(t), types.PermissionDeniedDetails_AGENT_BANNED)
	_, err = attest(deadline(t, callTime), s.dial(t, nil), data, csrFor(t, key), solve)
	wantCode(t, err, codes.PermissionDenied)

	_, err = s.operator(t).agents.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: a.id})
	must(t, err)
	must(t, s.attestWith(t, data, solve).trySync(t))
}
