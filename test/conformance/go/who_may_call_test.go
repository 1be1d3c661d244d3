package conformance

import (
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	localv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	loggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	trustv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// What an operator or an admin may do, by name.
func administration(t *testing.T, c *connection, csr []byte) map[string]func() error {
	t.Helper()
	ctx := deadline(t, callTime)
	return map[string]func() error{
		"CountEntries": func() error {
			_, err := c.entries.CountEntries(ctx, &entryv1.CountEntriesRequest{})
			return err
		},
		"ListEntries": func() error {
			_, err := c.entries.ListEntries(ctx, &entryv1.ListEntriesRequest{PageSize: 1})
			return err
		},
		"BatchCreateEntry": func() error {
			_, err := c.entries.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{
				Entries: []*types.Entry{entryOf(idOf("/admin/node"), "/admin/"+uniqueName())}})
			return err
		},
		"BatchDeleteEntry": func() error {
			_, err := c.entries.BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: []string{"none"}})
			return err
		},
		"ListAgents": func() error {
			_, err := c.agents.ListAgents(ctx, &agentv1.ListAgentsRequest{PageSize: 1})
			return err
		},
		"CreateJoinToken": func() error {
			_, err := c.agents.CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 5})
			return err
		},
		"MintX509SVID": func() error {
			_, err := c.svids.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: csr})
			return err
		},
		"MintJWTSVID": func() error {
			_, err := c.svids.MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{Id: idOf("/admin/minted"), Audience: []string{"a"}})
			return err
		},
		"ListFederatedBundles": func() error {
			_, err := c.bundles.ListFederatedBundles(ctx, &bundlev1.ListFederatedBundlesRequest{})
			return err
		},
		"ListFederationRelationships": func() error {
			_, err := c.federation.ListFederationRelationships(ctx, &trustv1.ListFederationRelationshipsRequest{})
			return err
		},
		"GetX509AuthorityState": func() error {
			_, err := c.local.GetX509AuthorityState(ctx, &localv1.GetX509AuthorityStateRequest{})
			return err
		},
		"GetJWTAuthorityState": func() error {
			_, err := c.local.GetJWTAuthorityState(ctx, &localv1.GetJWTAuthorityStateRequest{})
			return err
		},
	}
}

// What the socket alone offers: over TCP these services are not there.
func localOnly(t *testing.T, c *connection) map[string]func() error {
	t.Helper()
	ctx := deadline(t, callTime)
	return map[string]func() error{
		"Debug": func() error {
			_, err := debugv1.NewDebugClient(c).GetInfo(ctx, &debugv1.GetInfoRequest{})
			return err
		},
		"Logger": func() error {
			_, err := loggerv1.NewLoggerClient(c).GetLogger(ctx, &loggerv1.GetLoggerRequest{})
			return err
		},
		"Health": func() error {
			_, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			return err
		},
	}
}

// A connection as the workload of one entry.
func (s *server) workload(t *testing.T, a *agent, entry *types.Entry) *connection {
	t.Helper()
	return s.dial(t, a.x509SVID(t, s.createOne(t, entry).Id).pair())
}

func TestS20AdminsAndOthersOverTCP(t *testing.T) {
	named := "/admin/by-configuration"
	s := startServer(t, fields{"admin_ids": []string{"spiffe://" + domain + named}})
	a := s.newAgent(t, nil)
	byEntry := entryOf(a.id, "/admin/by-entry")
	byEntry.Admin = true
	downstream := entryOf(a.id, "/downstream")
	downstream.Downstream = true
	csr := csrWithID(t, newKey(t), "/admin/minted")
	for name, c := range map[string]*connection{
		"the operator":          s.operator(t),
		"an admin by its entry": s.workload(t, a, byEntry),
		"an admin by its ID":    s.workload(t, a, entryOf(a.id, named)),
	} {
		for method, call := range administration(t, c, csr) {
			if err := call(); err != nil {
				t.Errorf("%s: %s: %v", name, method, err)
			}
		}
	}
	for name, c := range map[string]*connection{
		"an agent":               a.connection,
		"a workload":             s.workload(t, a, entryOf(a.id, "/plain")),
		"an ID below an admin's": s.workload(t, a, entryOf(a.id, named+"/below")),
		"a downstream server":    s.workload(t, a, downstream),
		"nobody":                 s.dial(t, nil),
	} {
		for method, call := range administration(t, c, csr) {
			if err := call(); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s: %s: %v", name, method, err)
			}
		}
		if name != "an agent" {
			wantCode(t, c.sync(t), codes.PermissionDenied)
		}
	}
}

func TestS20LocalServicesAreLocal(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	admin := entryOf(a.id, "/admin/"+uniqueName())
	admin.Admin = true
	for name, call := range localOnly(t, s.operator(t)) {
		if err := call(); err != nil {
			t.Errorf("the operator: %s: %v", name, err)
		}
	}
	for name, call := range localOnly(t, s.workload(t, a, admin)) {
		if code := status.Code(call()); code != codes.Unimplemented {
			t.Errorf("an admin: %s: %v", name, code)
		}
	}
}

// An admin's rights end with its entry's flag, on a connection that is open.
func TestS20AdminNoMore(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	entry := entryOf(a.id, "/admin/"+uniqueName())
	entry.Admin = true
	stored := s.createOne(t, entry)
	c := s.dial(t, a.x509SVID(t, stored.Id).pair())
	_, err := c.entries.CountEntries(deadline(t, callTime), &entryv1.CountEntriesRequest{})
	must(t, err)
	stored.Admin = false
	s.update(t, stored, &types.EntryMask{Admin: true})
	_, err = c.entries.CountEntries(deadline(t, callTime), &entryv1.CountEntriesRequest{})
	wantCode(t, err, codes.PermissionDenied)
}
