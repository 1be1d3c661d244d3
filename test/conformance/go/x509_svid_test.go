package conformance

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

func TestS12BatchKeepsItsOrder(t *testing.T) {
	s := theServer(t)
	a, other := s.newAgent(t, nil), s.newAgent(t, nil)
	stored := s.create(t, manyUnder(a.id, 2)...)
	foreign := s.createOne(t, entryOf(other.id, "/foreign/"+uniqueName()))
	first, second := newKey(t), newKey(t)
	forged := csrFor(t, newKey(t))
	forged[len(forged)-1] ^= 1
	trailing := append(csrFor(t, newKey(t)), 0)
	params := []*svidv1.NewX509SVIDParams{
		{EntryId: stored[1].Id, Csr: csrFor(t, second)},
		{EntryId: foreign.Id, Csr: csrFor(t, newKey(t))},
		{EntryId: stored[0].Id, Csr: []byte("garbage")},
		{EntryId: "no-such-entry", Csr: csrFor(t, newKey(t))},
		{EntryId: stored[0].Id, Csr: csrFor(t, first)},
		{EntryId: stored[0].Id, Csr: forged},
		{EntryId: stored[0].Id, Csr: trailing},
		{EntryId: stored[0].Id},
		{Csr: csrFor(t, newKey(t))},
	}
	results := a.tryX509(t, params...)
	for at, wanted := range []codes.Code{0, 5, 3, 5, 0, 3, 3, 3, 3} {
		if got := codes.Code(results[at].Status.Code); got != wanted {
			t.Errorf("item %d: %v, not %v: %s", at, got, wanted, results[at].Status.Message)
		}
		if (results[at].Svid != nil) != (wanted == codes.OK) {
			t.Errorf("item %d: an SVID %v", at, results[at].Svid)
		}
	}
	for at, wanted := range map[int]struct {
		path string
		key  any
	}{0: {stored[1].SpiffeId.Path, &second.PublicKey}, 4: {stored[0].SpiffeId.Path, &first.PublicKey}} {
		leaf, err := x509.ParseCertificate(results[at].Svid.CertChain[0])
		must(t, err)
		if results[at].Svid.Id.Path != wanted.path || leaf.URIs[0].Path != wanted.path {
			t.Errorf("item %d is of %s", at, leaf.URIs[0])
		}
		if got, _ := x509.MarshalPKIXPublicKey(leaf.PublicKey); !bytes.Equal(got, spki(t, wanted.key)) {
			t.Errorf("item %d has another key", at)
		}
		if results[at].Svid.ExpiresAt != leaf.NotAfter.Unix() {
			t.Errorf("item %d: expires_at %d, the leaf's %d", at, results[at].Svid.ExpiresAt, leaf.NotAfter.Unix())
		}
	}
}

// The key is the request's, all else is the entry's.
func TestS12OnlyTheKeyIsTaken(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	entry := entryOf(a.id, "/only/"+uniqueName())
	entry.DnsNames = []string{"entry.test"}
	stored := s.createOne(t, entry)
	for name, key := range map[string]crypto.Signer{"P-256": newKey(t), "RSA-2048": rsaKey(t)} {
		other, err := url.Parse("spiffe://" + domain + "/spire/server")
		must(t, err)
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			URIs: []*url.URL{other}, DNSNames: []string{"csr.test"}, EmailAddresses: []string{"a@csr.test"},
			Subject: pkix.Name{CommonName: "csr", Organization: []string{"csr"}}}, key)
		must(t, err)
		result := a.tryX509(t, &svidv1.NewX509SVIDParams{EntryId: stored.Id, Csr: csr})[0]
		wantStatus(t, result.Status, codes.OK)
		if len(result.Svid.CertChain) != 1 {
			t.Errorf("%s: a chain of %d below a self-signed authority", name, len(result.Svid.CertChain))
		}
		svid := &issued{leaf: parsed(t, result.Svid.CertChain[0]), chain: result.Svid.CertChain}
		lintLeaf(t, s.bundle(t), svid.certificates(t))
		if subject := svid.leaf.Subject.String(); subject != "CN=entry.test,O=SPIRE,C=US" {
			t.Errorf("%s: the subject %s", name, subject)
		}
		if svid.leaf.URIs[0].Path != entry.SpiffeId.Path || len(svid.leaf.EmailAddresses) != 0 ||
			len(svid.leaf.DNSNames) != 1 || svid.leaf.DNSNames[0] != "entry.test" {
			t.Errorf("%s: the names %v %v %v", name, svid.leaf.URIs, svid.leaf.DNSNames, svid.leaf.EmailAddresses)
		}
		if !bytes.Equal(spki(t, svid.leaf.PublicKey), spki(t, key.Public())) {
			t.Errorf("%s: another key", name)
		}
	}
}

func spki(t *testing.T, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	return der
}

func TestS12BatchSizes(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(a.id, "/batch/"+uniqueName()))
	csr := csrFor(t, newKey(t))
	params := make([]*svidv1.NewX509SVIDParams, 501)
	for at := range params {
		params[at] = &svidv1.NewX509SVIDParams{EntryId: entry.Id, Csr: csr}
	}
	for _, result := range a.tryX509(t, params[:500]...) {
		wantStatus(t, result.Status, codes.OK)
	}
	_, err := a.svids.BatchNewX509SVID(deadline(t, callTime), &svidv1.BatchNewX509SVIDRequest{Params: params})
	wantCode(t, err, codes.ResourceExhausted)
	_, err = a.svids.BatchNewX509SVID(deadline(t, callTime), &svidv1.BatchNewX509SVIDRequest{})
	wantCode(t, err, codes.InvalidArgument)
}

func TestS13Lint(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	plain := s.createOne(t, entryOf(a.id, "/lint/"+uniqueName()))
	full := entryOf(a.id, "/lint/Full_"+uniqueName()+"/.x/a-b")
	full.DnsNames, full.Hint, full.X509SvidTtl = []string{"first.test", "second.test"}, "h", 120
	named := s.createOne(t, full)
	long := entryOf(a.id, "/lint/long-"+uniqueName())
	long.X509SvidTtl = 7 * 24 * 3600
	beyond := s.createOne(t, long)
	bundle := s.bundle(t)
	for _, entry := range []*types.Entry{plain, named, beyond} {
		svid := a.x509SVID(t, entry.Id)
		lintLeaf(t, bundle, svid.certificates(t))
		id, _, err := x509svid.Verify(svid.certificates(t), x509Bundle(t, bundle))
		must(t, err)
		if id.String() != textOf(entry.SpiffeId) {
			t.Errorf("the SVID is of %s", id)
		}
		if !bytes.Equal(spki(t, svid.leaf.PublicKey), spki(t, &svid.key.PublicKey)) {
			t.Error("another key")
		}
	}
	serials := []*big.Int{}
	csr := csrFor(t, newKey(t))
	params := make([]*svidv1.NewX509SVIDParams, 200)
	for at := range params {
		params[at] = &svidv1.NewX509SVIDParams{EntryId: plain.Id, Csr: csr}
	}
	for _, result := range a.tryX509(t, params...) {
		leaf, err := x509.ParseCertificate(result.Svid.CertChain[0])
		must(t, err)
		serials = append(serials, leaf.SerialNumber)
	}
	lintSerials(t, serials)
	// The server's own SVID, and one that the operator mints.
	lintLeaf(t, bundle, s.ownCertificates(t))
	key := newKey(t)
	minted, err := s.operator(t).svids.MintX509SVID(deadline(t, callTime),
		&svidv1.MintX509SVIDRequest{Csr: csrWithID(t, key, "/lint/minted"), Ttl: 60})
	must(t, err)
	lintLeaf(t, bundle, (&issued{chain: minted.Svid.CertChain}).certificates(t))
	if life := time.Until(time.Unix(minted.Svid.ExpiresAt, 0)); life > time.Minute {
		t.Errorf("it lives for %s", life)
	}
}
