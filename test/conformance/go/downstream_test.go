package conformance

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// What a nested server asks for its authority with.
func authorityCSR(t *testing.T, key crypto.Signer, ids ...string) []byte {
	t.Helper()
	template := &x509.CertificateRequest{}
	for _, text := range ids {
		id, err := url.Parse(text)
		must(t, err)
		template.URIs = append(template.URIs, id)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	must(t, err)
	return csr
}

// What a nested server does at its start: it gets an authority, and signs a leaf that verifies everywhere.
func TestS23NestedServersAuthority(t *testing.T) {
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	entry := entryOf(a.id, "/nested")
	entry.Downstream = true
	nested, key := s.workload(t, a, entry), newKey(t)
	_, err := nested.bundles.GetBundle(deadline(t, callTime), &bundlev1.GetBundleRequest{})
	must(t, err)
	answer, err := nested.svids.NewDownstreamX509CA(deadline(t, callTime), &svidv1.NewDownstreamX509CARequest{
		Csr: authorityCSR(t, key, "spiffe://"+domain), PreferredTtl: 600})
	must(t, err)
	own := s.bundle(t)
	if len(answer.X509Authorities) != len(own.X509Authorities) || len(answer.CaCertChain) != 1 {
		t.Fatalf("%d roots, a chain of %d", len(answer.X509Authorities), len(answer.CaCertChain))
	}
	authority := parsed(t, answer.CaCertChain[0])
	lintSigner(t, authority)
	if end := time.Now().Add(10 * time.Minute); authority.NotAfter.After(end) || authority.NotAfter.Before(end.Add(-time.Minute)) {
		t.Errorf("asked for 600 s it ends %s", authority.NotAfter)
	}
	if units := strings.Join(authority.Subject.OrganizationalUnit, " "); !strings.HasPrefix(units, "DOWNSTREAM-") {
		t.Errorf("the subject %s", authority.Subject)
	}
	leaf := certify(t, clientTemplate("spiffe://"+domain+"/nested/workload"), newKey(t).Public(), authority, key)
	chain := []*x509.Certificate{leaf, authority}
	_, _, err = x509svid.Verify(chain, x509Bundle(t, own))
	must(t, err)
	verifyElsewhere(t, own, chain)

	long, err := nested.svids.NewDownstreamX509CA(deadline(t, callTime), &svidv1.NewDownstreamX509CARequest{
		Csr: authorityCSR(t, key, "spiffe://"+domain), PreferredTtl: 1 << 30})
	must(t, err)
	if root := parsed(t, own.X509Authorities[0].Asn1); parsed(t, long.CaCertChain[0]).NotAfter.After(root.NotAfter) {
		t.Error("it outlives the authority above it")
	}
	for name, csr := range map[string][]byte{
		"none": nil, "garbage": []byte("garbage"),
		"another trust domain": authorityCSR(t, key, "spiffe://other.test"),
		"a workload's ID":      authorityCSR(t, key, "spiffe://"+domain+"/nested"),
	} {
		_, err := nested.svids.NewDownstreamX509CA(deadline(t, callTime), &svidv1.NewDownstreamX509CARequest{Csr: csr})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
	for name, c := range map[string]*connection{"the operator": s.operator(t), "an agent": a.connection,
		"a workload": s.workload(t, a, entryOf(a.id, "/plain")), "nobody": s.dial(t, nil)} {
		_, err := c.svids.NewDownstreamX509CA(deadline(t, callTime), &svidv1.NewDownstreamX509CARequest{
			Csr: authorityCSR(t, key, "spiffe://"+domain)})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.PermissionDenied)
	}
}

// Its JWT key goes into the bundle of the trust domain, where all agents find it.
func TestS23NestedServersKey(t *testing.T) {
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	entry := entryOf(a.id, "/nested")
	entry.Downstream = true
	nested := s.workload(t, a, entry)
	before := s.bundle(t)
	key := &types.JWTKey{KeyId: "nested-" + uniqueName(), PublicKey: spki(t, newKey(t).Public()),
		ExpiresAt: time.Now().Add(time.Hour).Unix()}
	for range 2 {
		answer, err := nested.bundles.PublishJWTAuthority(deadline(t, callTime),
			&bundlev1.PublishJWTAuthorityRequest{JwtAuthority: key})
		must(t, err)
		if len(answer.JwtAuthorities) != len(before.JwtAuthorities)+1 {
			t.Errorf("published are %v", answer.JwtAuthorities)
		}
	}
	after := s.bundle(t)
	if _, found := jwtIDs(after)[key.KeyId]; !found || after.SequenceNumber <= before.SequenceNumber {
		t.Errorf("the bundle %v", after)
	}
	for name, broken := range map[string]*types.JWTKey{
		"none": nil, "no key ID": {PublicKey: key.PublicKey, ExpiresAt: key.ExpiresAt},
		"no key":  {KeyId: "x", ExpiresAt: key.ExpiresAt},
		"garbage": {KeyId: "x", PublicKey: []byte("garbage"), ExpiresAt: key.ExpiresAt},
	} {
		_, err := nested.bundles.PublishJWTAuthority(deadline(t, callTime),
			&bundlev1.PublishJWTAuthorityRequest{JwtAuthority: broken})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
}
