package conformance

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func clientTemplate(ids ...string) *x509.Certificate {
	template := &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}
	for _, id := range ids {
		uri, err := url.Parse(id)
		if err != nil {
			panic(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	return template
}

// An authority with a SPIFFE ID, as a trust domain's are.
func newDomainCA(t *testing.T, id string) *nodeCA {
	t.Helper()
	key := newKey(t)
	template := caTemplate("authority " + uniqueName())
	uri, err := url.Parse(id)
	must(t, err)
	template.URIs = []*url.URL{uri}
	return &nodeCA{certify(t, template, key.Public(), nil, key), key}
}

func (ca *nodeCA) clientPair(t *testing.T, template *x509.Certificate) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := certify(t, template, key.Public(), ca.certificate, ca.key)
	return pairOf([][]byte{leaf.Raw, ca.certificate.Raw}, crypto.Signer(key))
}

func TestS06ForeignClientCertificates(t *testing.T) {
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	unknown := newDomainCA(t, "spiffe://"+domain)
	// In the bundle, so that its signature is good and what else is wrong has to count.
	trusted := newDomainCA(t, "spiffe://"+domain)
	_, err := s.operator(t).bundles.AppendBundle(deadline(t, callTime), &bundlev1.AppendBundleRequest{
		X509Authorities: []*types.X509Certificate{{Asn1: trusted.certificate.Raw}}})
	must(t, err)

	own := textOf(a.id)
	expired := clientTemplate(own)
	expired.NotAfter = time.Now().Add(-time.Minute)
	future := clientTemplate(own)
	future.NotBefore = time.Now().Add(30 * time.Minute)
	authority := caTemplate("an authority")
	authority.URIs = clientTemplate(own).URIs
	signing := clientTemplate(own)
	signing.KeyUsage |= x509.KeyUsageCertSign
	for name, pair := range map[string]*tls.Certificate{
		"unknown CA":           unknown.clientPair(t, clientTemplate(own)),
		"expired":              trusted.clientPair(t, expired),
		"not yet valid":        trusted.clientPair(t, future),
		"two URI SANs":         trusted.clientPair(t, clientTemplate(own, "spiffe://"+domain+"/other")),
		"no URI SAN":           trusted.clientPair(t, clientTemplate()),
		"another trust domain": trusted.clientPair(t, clientTemplate("spiffe://other.test/spire/agent/join_token/x")),
		"no path":              trusted.clientPair(t, clientTemplate("spiffe://"+domain)),
		"no SPIFFE ID":         trusted.clientPair(t, clientTemplate("https://"+domain+"/agent")),
		"a CA":                 trusted.clientPair(t, authority),
		"a leaf that signs":    trusted.clientPair(t, signing),
		"another key":          pairOf(a.chain, newKey(t)),
	} {
		s.refusesClient(t, name, pair)
	}
	// Nothing is wrong with this one but that the agent's record has another serial number.
	forged := s.dial(t, trusted.clientPair(t, clientTemplate(own)))
	for method, call := range withIdentity(t, forged) {
		if code := status.Code(call()); code != codes.PermissionDenied {
			t.Errorf("an agent's ID: %s gives %v", method, code)
		}
	}
	must(t, a.trySync(t))
	t.Run("an SVID of its own that has expired", func(t *testing.T) {
		t.Parallel()
		entry := s.createOne(t, entryOf(a.id, "/expired/"+uniqueName()))
		entry.X509SvidTtl = 1
		s.update(t, entry, &types.EntryMask{X509SvidTtl: true})
		svid := a.x509SVID(t, entry.Id)
		time.Sleep(time.Until(svid.leaf.NotAfter.Add(time.Second)))
		s.refusesClient(t, "expired", svid.pair())
	})
}

// Calls that need an agent's identity.
func withIdentity(t *testing.T, c *connection) map[string]func() error {
	t.Helper()
	csr := csrFor(t, newKey(t))
	return map[string]func() error{
		"a sync": func() error { return new(copyOfEntries).trySync(t, &agent{connection: c}) },
		"a renewal": func() error {
			_, err := c.agents.RenewAgent(deadline(t, callTime), &agentv1.RenewAgentRequest{
				Params: &agentv1.AgentX509SVIDParams{Csr: csr}})
			return err
		},
		"issuing": func() error {
			_, err := c.svids.BatchNewX509SVID(deadline(t, callTime), &svidv1.BatchNewX509SVIDRequest{
				Params: []*svidv1.NewX509SVIDParams{{EntryId: "x", Csr: csr}}})
			return err
		},
	}
}

// No RPC runs, not even those that need no identity: the connection is refused.
func (s *server) refusesClient(t *testing.T, name string, pair *tls.Certificate) {
	t.Helper()
	c := s.dial(t, pair)
	calls := withIdentity(t, c)
	calls["the bundle"] = func() error {
		_, err := c.bundles.GetBundle(deadline(t, callTime), &bundlev1.GetBundleRequest{})
		return err
	}
	token := s.joinToken(t, 600, nil)
	csr := csrFor(t, newKey(t))
	calls["an attestation"] = func() error {
		_, err := attest(deadline(t, callTime), c, joinTokenData(token), csr, nil)
		return err
	}
	for method, call := range calls {
		if err := call(); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %s gives %v", name, method, err)
		}
	}
	// The token was not looked at.
	must(t, s.tryJoin(t, token))
}
