package conformance

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"testing"
)

func csrWithID(t *testing.T, key crypto.Signer, path string) []byte {
	t.Helper()
	id := &url.URL{Scheme: "spiffe", Host: domain, Path: path}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	must(t, err)
	return csr
}

// What the server shows on its TLS port.
func (s *server) ownCertificates(t *testing.T) []*x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Address, s.tlsConfig(t, nil))
	must(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates
}
