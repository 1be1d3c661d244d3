package conformance

import (
	"testing"
	"time"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// Every call that is an agent's says why it is refused, on an open connection and on a new one.
func (a *agent) wantDeniedEverywhere(t *testing.T, s *server, reason types.PermissionDeniedDetails_Reason) {
	t.Helper()
	for _, c := range []*connection{a.connection, s.dial(t, a.pair)} {
		for _, method := range methodsOf(remoteServices) {
			if name := string(method.Name()); mayCall("agent", name) && !mayCall("nobody", name) {
				wantDenial(t, callEmpty(deadline(t, callTime), c, method, nil), reason)
			}
		}
	}
}

func TestS08EveryCallIsDenied(t *testing.T) {
	s := theServer(t)
	evicted, banned, replaced := s.newAgent(t, nil), s.newAgent(t, nil), s.newAgent(t, nil)
	for _, a := range []*agent{evicted, banned, replaced} {
		must(t, a.trySync(t))
	}
	s.writ(t, "agent", "evict", textOf(evicted.id))
	evicted.wantDeniedEverywhere(t, s, types.PermissionDeniedDetails_AGENT_NOT_ATTESTED)
	s.writ(t, "agent", "ban", textOf(banned.id))
	banned.wantDeniedEverywhere(t, s, types.PermissionDeniedDetails_AGENT_BANNED)
	must(t, replaced.renew(t, s).trySync(t))
	replaced.wantDeniedEverywhere(t, s, types.PermissionDeniedDetails_AGENT_NOT_ACTIVE)
}

// An SVID that ends while its connection is open.
func TestS08ExpiredOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"ttl": fields{"agent_svid": "15s"}})
	a := s.newAgent(t, nil)
	must(t, a.trySync(t))
	time.Sleep(time.Until(a.leaf.NotAfter.Add(100 * time.Millisecond)))
	wantDenial(t, a.trySync(t), types.PermissionDeniedDetails_AGENT_EXPIRED)
}
