package conformance

import (
	"context"
	"encoding/hex"
	"testing"

	localv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// The authorities of one kind, as LocalAuthority shows and changes them. Each call gives the authority's ID.
type authorities struct {
	state    func() (active, prepared, old string, err error)
	prepare  func() (string, error)
	activate func(id string) (string, error)
	taint    func(id string) (string, error)
	revoke   func(id string) (string, error)
	// The IDs that the bundle has, and whether each is tainted.
	bundled func() map[string]bool
}

func x509Authorities(t *testing.T, s *server) *authorities {
	local := s.operator(t).local
	return &authorities{
		state: func() (string, string, string, error) {
			r, err := local.GetX509AuthorityState(anyCall(t), &localv1.GetX509AuthorityStateRequest{})
			return r.GetActive().GetAuthorityId(), r.GetPrepared().GetAuthorityId(), r.GetOld().GetAuthorityId(), err
		},
		prepare: func() (string, error) {
			r, err := local.PrepareX509Authority(anyCall(t), &localv1.PrepareX509AuthorityRequest{})
			return r.GetPreparedAuthority().GetAuthorityId(), err
		},
		activate: func(id string) (string, error) {
			r, err := local.ActivateX509Authority(anyCall(t), &localv1.ActivateX509AuthorityRequest{AuthorityId: id})
			return r.GetActivatedAuthority().GetAuthorityId(), err
		},
		taint: func(id string) (string, error) {
			r, err := local.TaintX509Authority(anyCall(t), &localv1.TaintX509AuthorityRequest{AuthorityId: id})
			return r.GetTaintedAuthority().GetAuthorityId(), err
		},
		revoke: func(id string) (string, error) {
			r, err := local.RevokeX509Authority(anyCall(t), &localv1.RevokeX509AuthorityRequest{AuthorityId: id})
			return r.GetRevokedAuthority().GetAuthorityId(), err
		},
		bundled: func() map[string]bool { return x509IDs(t, s.bundle(t)) },
	}
}

func jwtAuthorities(t *testing.T, s *server) *authorities {
	local := s.operator(t).local
	return &authorities{
		state: func() (string, string, string, error) {
			r, err := local.GetJWTAuthorityState(anyCall(t), &localv1.GetJWTAuthorityStateRequest{})
			return r.GetActive().GetAuthorityId(), r.GetPrepared().GetAuthorityId(), r.GetOld().GetAuthorityId(), err
		},
		prepare: func() (string, error) {
			r, err := local.PrepareJWTAuthority(anyCall(t), &localv1.PrepareJWTAuthorityRequest{})
			return r.GetPreparedAuthority().GetAuthorityId(), err
		},
		activate: func(id string) (string, error) {
			r, err := local.ActivateJWTAuthority(anyCall(t), &localv1.ActivateJWTAuthorityRequest{AuthorityId: id})
			return r.GetActivatedAuthority().GetAuthorityId(), err
		},
		taint: func(id string) (string, error) {
			r, err := local.TaintJWTAuthority(anyCall(t), &localv1.TaintJWTAuthorityRequest{AuthorityId: id})
			return r.GetTaintedAuthority().GetAuthorityId(), err
		},
		revoke: func(id string) (string, error) {
			r, err := local.RevokeJWTAuthority(anyCall(t), &localv1.RevokeJWTAuthorityRequest{AuthorityId: id})
			return r.GetRevokedAuthority().GetAuthorityId(), err
		},
		bundled: func() map[string]bool { return jwtIDs(s.bundle(t)) },
	}
}

func anyCall(t *testing.T) context.Context { return deadline(t, callTime) }

// An X.509 authority's ID is its subject key id.
func x509IDs(t *testing.T, bundle *types.Bundle) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, authority := range bundle.X509Authorities {
		ids[hex.EncodeToString(parsed(t, authority.Asn1).SubjectKeyId)] = authority.Tainted
	}
	return ids
}

func jwtIDs(bundle *types.Bundle) map[string]bool {
	ids := map[string]bool{}
	for _, authority := range bundle.JwtAuthorities {
		ids[authority.KeyId] = authority.Tainted
	}
	return ids
}

func (a *authorities) wantState(t *testing.T, active, prepared, old string) {
	t.Helper()
	gotActive, gotPrepared, gotOld, err := a.state()
	must(t, err)
	if gotActive != active || gotPrepared != prepared || gotOld != old {
		t.Fatalf("active %q, prepared %q, old %q; wanted %q, %q, %q",
			gotActive, gotPrepared, gotOld, active, prepared, old)
	}
}

func (a *authorities) wantBundled(t *testing.T, id string, tainted bool) {
	t.Helper()
	if got, found := a.bundled()[id]; !found || got != tainted {
		t.Fatalf("%s in the bundle: %v, tainted: %v", id, found, got)
	}
}

func wantRefused(t *testing.T, what string, call func(string) (string, error), id string, wanted ...codes.Code) {
	t.Helper()
	_, err := call(id)
	t.Logf("%s: %v", what, err)
	wantCode(t, err, wanted...)
}

// From a new server to a second authority that signs, with every step that is out of order in between;
// the first and the second authority's ID.
func (a *authorities) replace(t *testing.T) (first, second string) {
	t.Helper()
	first, prepared, _, err := a.state()
	must(t, err)
	if first == "" || prepared != "" {
		t.Fatalf("a new server has the active authority %q and the prepared %q", first, prepared)
	}
	const invalid, failed = codes.InvalidArgument, codes.FailedPrecondition
	wantRefused(t, "activate none", a.activate, "", invalid)
	wantRefused(t, "activate the active one", a.activate, first, invalid, failed)
	wantRefused(t, "taint the active one", a.taint, first, invalid)
	wantRefused(t, "revoke the active one", a.revoke, first, invalid)
	wantRefused(t, "taint what is not there", a.taint, "00ff", invalid, codes.NotFound, failed)
	wantRefused(t, "revoke what is not there", a.revoke, "00ff", invalid, codes.NotFound, failed)

	second, err = a.prepare()
	must(t, err)
	a.wantState(t, first, second, "")
	a.wantBundled(t, first, false)
	a.wantBundled(t, second, false)
	wantRefused(t, "taint the prepared one", a.taint, second, invalid, failed)
	wantRefused(t, "revoke the prepared one", a.revoke, second, invalid, failed)
	wantRefused(t, "activate another", a.activate, "00ff", invalid, failed)
	activated, err := a.activate(second)
	must(t, err)
	if activated != second {
		t.Fatalf("activated %s", activated)
	}
	a.wantState(t, second, "", first)
	a.wantBundled(t, first, false)
	wantRefused(t, "activate the old one", a.activate, first, invalid, failed)
	wantRefused(t, "revoke what is not tainted", a.revoke, first, invalid, failed)
	return first, second
}

func hexID(bytes []byte) string { return hex.EncodeToString(bytes) }
