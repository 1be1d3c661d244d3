package conformance

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	debugv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/debug/v1"
	loggerv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/logger/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// x509 mint, jwt mint.
func TestS18Mint(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).svids
	key := newKey(t)
	minted, err := c.MintX509SVID(deadline(t, callTime),
		&svidv1.MintX509SVIDRequest{Csr: csrWithID(t, key, "/cli/minted"), Ttl: 60})
	must(t, err)
	if minted.Svid.Id.Path != "/cli/minted" || minted.Svid.ExpiresAt > time.Now().Unix()+60 {
		t.Errorf("minted %v", minted.Svid)
	}
	for name, csr := range map[string][]byte{
		"a reserved ID": csrWithID(t, key, "/spire/server"),
		"no ID":         csrFor(t, key),
		"no path":       csrWithID(t, key, ""),
		"no CSR":        nil,
		"garbage":       []byte("garbage"),
	} {
		_, err = c.MintX509SVID(deadline(t, callTime), &svidv1.MintX509SVIDRequest{Csr: csr})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
	token, err := c.MintJWTSVID(deadline(t, callTime),
		&svidv1.MintJWTSVIDRequest{Id: idOf("/cli/minted"), Audience: []string{"a", "b"}, Ttl: 60})
	must(t, err)
	_, err = jwtsvid.ParseAndValidate(token.Svid.Token, jwtBundle(t, s.bundle(t)), []string{"b"})
	must(t, err)
	if life := token.Svid.ExpiresAt - token.Svid.IssuedAt; life != 60 {
		t.Errorf("the token lives for %d s", life)
	}
	for name, request := range map[string]*svidv1.MintJWTSVIDRequest{
		"no audience":          {Id: idOf("/cli/minted")},
		"no ID":                {Audience: []string{"a"}},
		"a reserved ID":        {Id: idOf("/spire/agent/x"), Audience: []string{"a"}},
		"no path":              {Id: idOf(""), Audience: []string{"a"}},
		"another trust domain": {Id: &types.SPIFFEID{TrustDomain: "other.test", Path: "/a"}, Audience: []string{"a"}},
	} {
		_, err = c.MintJWTSVID(deadline(t, callTime), request)
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
	_, err = c.MintWITSVID(deadline(t, callTime), &svidv1.MintWITSVIDRequest{Id: idOf("/cli/minted")})
	wantCode(t, err, codes.Unimplemented)
}

// healthcheck; logger get, set, reset; and what debug shows.
func TestS18HealthLoggerDebug(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t)
	health, err := grpc_health_v1.NewHealthClient(c).Check(deadline(t, callTime), &grpc_health_v1.HealthCheckRequest{})
	must(t, err)
	if health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health is %v", health.Status)
	}
	logger := loggerv1.NewLoggerClient(c)
	at, err := logger.GetLogger(deadline(t, callTime), &loggerv1.GetLoggerRequest{})
	must(t, err)
	if at.CurrentLevel != at.LaunchLevel || at.LaunchLevel != types.LogLevel_WARN {
		t.Errorf("the logger is at %v", at)
	}
	set, err := logger.SetLogLevel(deadline(t, callTime), &loggerv1.SetLogLevelRequest{NewLevel: types.LogLevel_DEBUG})
	must(t, err)
	if set.CurrentLevel != types.LogLevel_DEBUG || set.LaunchLevel != types.LogLevel_WARN {
		t.Errorf("set to %v", set)
	}
	_, err = logger.SetLogLevel(deadline(t, callTime), &loggerv1.SetLogLevelRequest{})
	wantCode(t, err, codes.InvalidArgument)
	reset, err := logger.ResetLogLevel(deadline(t, callTime), &loggerv1.ResetLogLevelRequest{})
	must(t, err)
	if reset.CurrentLevel != types.LogLevel_WARN {
		t.Errorf("reset to %v", reset)
	}
	a := s.newAgent(t, nil)
	s.createOne(t, entryOf(a.id, "/cli/debug"))
	s.federate(t, "first.test")
	info, err := debugv1.NewDebugClient(c).GetInfo(deadline(t, callTime), &debugv1.GetInfoRequest{})
	must(t, err)
	// SPIRE counts the own bundle too.
	if info.AgentsCount != 1 || info.EntriesCount != 1 || info.FederatedBundlesCount != 2 || len(info.SvidChain) == 0 ||
		info.SvidChain[0].Id.Path != "/spire/server" {
		t.Errorf("debug shows %v", info)
	}
}

// localauthority, both kinds, all verbs: statements 52 and 53 have what they do.
func TestS18LocalAuthority(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	for _, all := range []*authorities{x509Authorities(t, s), jwtAuthorities(t, s)} {
		first, second := all.replace(t)
		_, err := all.taint(first)
		must(t, err)
		s.revokeOnceFree(t, all, first)
		all.wantState(t, second, "", "")
	}
}
