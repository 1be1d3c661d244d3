package conformance

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestS52X509AuthorityTaintedAndRevoked(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	raw, own, other := s.newAgent(t, nil), s.ownAgent(t), s.ownAgent(t)
	rawEntry := s.createOne(t, entryOf(raw.id, "/tainted/raw"))
	s.create(t, own.entry("/tainted/own"), own.entry("/tainted/too"), other.entry("/tainted/elsewhere"))
	source := own.source(t)
	workloads := []*seen{own.watch(t), other.watch(t)}
	counts := []int{2, 1}
	before, beforeRaw := wantVerified(t, source), raw.x509SVID(t, rawEntry.Id)

	all := x509Authorities(t, s)
	first, second := all.replace(t)
	if signedBy(before) != first {
		t.Fatalf("the first SVID was signed by %s", signedBy(before))
	}
	if by := hexID(raw.x509SVID(t, rawEntry.Id).leaf.AuthorityKeyId); by != second {
		t.Fatalf("after the activation %s signs", by)
	}
	// What the old one signed is good until it is revoked.
	must(t, raw.trySync(t))
	_, _, err := x509svid.Verify(beforeRaw.certificates(t), x509Bundle(t, s.bundle(t)))
	must(t, err)

	tainted, err := all.taint(first)
	must(t, err)
	if tainted != first {
		t.Fatalf("tainted %s", tainted)
	}
	all.wantBundled(t, first, true)
	all.wantBundled(t, second, false)
	until(t, followTime, "the workload has an SVID of the new authority", func() bool {
		return signedBy(wantVerified(t, source)) == second
	})
	// Of every agent all SVIDs.
	for at, workload := range workloads {
		workload.until("all SVIDs are of the new authority", func(now *workloadapi.X509Context) bool {
			return len(now.SVIDs) == counts[at] && allSignedBy(now.SVIDs, second)
		})
	}
	// The agent that this test plays renews as well, and uses what it got.
	renewed := raw.renew(t, s)
	must(t, renewed.trySync(t))
	if by := hexID(renewed.leaf.AuthorityKeyId); by != second {
		t.Fatalf("the agent's new SVID is signed by %s", by)
	}
	s.revokeOnceFree(t, all, first)
	until(t, followTime, "the workload trusts the old authority no more", func() bool {
		wantVerified(t, source)
		return trustedBy(source)[first] == nil && trustedBy(source)[second] != nil
	})
	if _, _, err := x509svid.Verify(beforeRaw.certificates(t), x509Bundle(t, s.bundle(t))); err == nil {
		t.Error("an SVID of the revoked authority verifies")
	}
	s.refusesClient(t, "an SVID of the revoked authority", raw.pair)
	must(t, renewed.trySync(t))
	must(t, s.dial(t, renewed.pair).sync(t))
	wantRefused(t, "revoke once more", all.revoke, first, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition)
	all.wantState(t, second, "", "")
}

func allSignedBy(svids []*x509svid.SVID, authority string) bool {
	for _, svid := range svids {
		if signedBy(svid) != authority {
			return false
		}
	}
	return true
}

// Revokes an authority as soon as no agent depends on it.
func (s *server) revokeOnceFree(t *testing.T, all *authorities, id string) {
	t.Helper()
	until(t, followTime, "the authority can be revoked", func() bool {
		revoked, err := all.revoke(id)
		if status.Code(err) == codes.FailedPrecondition {
			return false
		}
		must(t, err)
		return revoked == id
	})
	if _, found := all.bundled()[id]; found {
		t.Fatal("the revoked authority is in the bundle")
	}
}

// Taint and revoke at once: either the server waits for its agents, or they are not locked out.
func TestS52TaintAndRevokeAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	own := s.ownAgent(t)
	s.createOne(t, own.entry("/tainted/own"))
	source := own.source(t)
	all := x509Authorities(t, s)
	first, second := all.replace(t)
	_, err := all.taint(first)
	must(t, err)
	_, err = all.revoke(first)
	t.Logf("revoke at once: %v", err)
	if err != nil {
		wantCode(t, err, codes.FailedPrecondition)
		s.revokeOnceFree(t, all, first)
	}
	until(t, followTime, "the workload has left the revoked authority", func() bool {
		svid, err := source.GetX509SVID()
		return err == nil && signedBy(svid) == second && trustedBy(source)[first] == nil
	})
	wantVerified(t, source)
}

func TestS53JWTAuthorityTaintedAndRevoked(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	raw, own := s.newAgent(t, nil), s.ownAgent(t)
	rawEntry := s.createOne(t, entryOf(raw.id, "/tainted/raw"))
	s.createOne(t, own.entry("/tainted/own"))
	own.source(t)
	tokens, err := workloadapi.NewJWTSource(deadline(t, callTime),
		workloadapi.WithClientOptions(workloadapi.WithAddr(own.address)))
	must(t, err)
	t.Cleanup(func() { tokens.Close() })
	fetch := func() (token, kid string) {
		svid, err := tokens.FetchJWTSVID(deadline(t, callTime), jwtsvid.Params{Audience: "audience"})
		must(t, err)
		header, _ := jwtParts(t, svid.Marshal())
		return svid.Marshal(), header["kid"].(string)
	}
	valid := func(token string, bundles *workloadapi.JWTSource) bool {
		_, err := jwtsvid.ParseAndValidate(token, bundles, []string{"audience"})
		return err == nil
	}

	all := jwtAuthorities(t, s)
	old, signer := fetch()
	first, second := all.replace(t)
	if signer != first {
		t.Fatalf("the first token was signed by %s", signer)
	}
	if header, _ := jwtParts(t, raw.jwtSVID(t, rawEntry.Id, "audience").Token); header["kid"] != second {
		t.Fatalf("after the activation %v signs", header["kid"])
	}
	if !valid(old, tokens) {
		t.Fatal("a token of the old authority fails before it is revoked")
	}
	_, err = all.taint(first)
	must(t, err)
	all.wantBundled(t, first, true)
	until(t, followTime, "the agent has dropped its token of the tainted authority", func() bool {
		token, kid := fetch()
		return kid == second && valid(token, tokens)
	})
	revoked, err := all.revoke(first)
	must(t, err)
	if _, found := all.bundled()[first]; found || revoked != first {
		t.Fatalf("revoked %s, in the bundle: %v", revoked, found)
	}
	until(t, followTime, "the workload refuses tokens of the revoked authority", func() bool {
		return !valid(old, tokens)
	})
	if _, err := jwtsvid.ParseAndValidate(old, jwtBundle(t, s.bundle(t)), []string{"audience"}); err == nil {
		t.Error("a token of the revoked authority is valid")
	}
	token, kid := fetch()
	if kid != second || !valid(token, tokens) {
		t.Errorf("a new token of %s", kid)
	}
	all.wantState(t, second, "", "")
}
