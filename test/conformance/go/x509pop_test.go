package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// An authority for nodes' certificates.
type nodeCA struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func certify(
	t *testing.T, template *x509.Certificate, public any, parent *x509.Certificate, key crypto.Signer,
) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	must(t, err)
	template.SerialNumber = serial
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return certificate
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

func newNodeCA(t *testing.T) *nodeCA {
	t.Helper()
	key := newKey(t)
	return &nodeCA{certify(t, caTemplate("nodes "+uniqueName()), key.Public(), nil, key), key}
}

// An authority below this one.
func (ca *nodeCA) below(t *testing.T) *nodeCA {
	t.Helper()
	key := newKey(t)
	return &nodeCA{certify(t, caTemplate("between "+uniqueName()), key.Public(), ca.certificate, ca.key), key}
}

func (ca *nodeCA) node(t *testing.T, public any) *x509.Certificate {
	t.Helper()
	return certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "node-" + uniqueName()},
		KeyUsage: x509.KeyUsageDigitalSignature}, public, ca.certificate, ca.key)
}

// A server that takes nodes of this authority.
func (ca *nodeCA) server(t *testing.T) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nodes.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.certificate.Raw})
	must(t, os.WriteFile(file, text, 0o600))
	return startServer(t, fields{"node_attestors": fields{
		"join_token": fields{}, "x509pop": fields{"ca_bundle_files": []string{file}}}})
}

func x509popData(t *testing.T, chain ...*x509.Certificate) *types.AttestationData {
	t.Helper()
	var certificates [][]byte
	for _, one := range chain {
		certificates = append(certificates, one.Raw)
	}
	payload, err := json.Marshal(fields{"certificates": certificates})
	must(t, err)
	return &types.AttestationData{Type: "x509pop", Payload: payload}
}

type popChallenge struct {
	RSA   *struct{ Nonce []byte } `json:"rsa_signature"`
	ECDSA *struct{ Nonce []byte } `json:"ecdsa_signature"`
}

// Answers a challenge with a key; `nonce` in place of the challenge's own if it is set.
func popSolver(key crypto.Signer, nonce []byte) solver {
	return func(challenge []byte) ([]byte, error) {
		var asked popChallenge
		if err := json.Unmarshal(challenge, &asked); err != nil {
			return nil, err
		}
		if (asked.RSA == nil) == (asked.ECDSA == nil) {
			return nil, fmt.Errorf("not one challenge: %s", challenge)
		}
		theirs := nonce
		switch {
		case theirs != nil:
		case asked.RSA != nil:
			theirs = asked.RSA.Nonce
		case asked.ECDSA != nil:
			theirs = asked.ECDSA.Nonce
		}
		if len(theirs) != 32 {
			return nil, fmt.Errorf("a nonce of %d bytes in %s", len(theirs), challenge)
		}
		return popResponse(key, theirs)
	}
}

func popResponse(key crypto.Signer, theirs []byte) ([]byte, error) {
	ours := make([]byte, 32)
	_, _ = rand.Read(ours)
	digest := sha256.Sum256(append(append([]byte{}, theirs...), ours...))
	switch key := key.(type) {
	case *rsa.PrivateKey:
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
		if err != nil {
			return nil, err
		}
		return json.Marshal(fields{"rsa_signature": fields{"nonce": ours, "signature": signature}})
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return nil, err
		}
		return json.Marshal(fields{"ecdsa_signature": fields{"nonce": ours, "r": r.Bytes(), "s": s.Bytes()}})
	default:
		return nil, fmt.Errorf("a key of type %T", key)
	}
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return key
}

func TestS03X509PopAttests(t *testing.T) {
	ca := newNodeCA(t)
	s := ca.server(t)
	between := ca.below(t)
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey(t), "ECDSA": newKey(t)} {
		for depth, issuer := range []*nodeCA{ca, between} {
			leaf := issuer.node(t, key.Public())
			chain := []*x509.Certificate{leaf, between.certificate}[:depth+1]
			a := s.attestWith(t, x509popData(t, chain...), popSolver(key, nil))
			wantNodeID(t, a, leaf)
			a.authorized(t)
			// Again: the same node, by the same proof.
			again := s.attestWith(t, x509popData(t, chain...), popSolver(key, nil))
			wantNodeID(t, again, leaf)
			t.Logf("%s with %d intermediates", name, depth)
		}
	}
}

func wantNodeID(t *testing.T, a *agent, node *x509.Certificate) {
	t.Helper()
	sum := sha1.Sum(node.Raw)
	if wanted := "/spire/agent/x509pop/" + hex.EncodeToString(sum[:]); a.id.Path != wanted {
		t.Fatalf("the ID is %s, not %s", a.id.Path, wanted)
	}
}

func TestS04AgentSVIDByX509Pop(t *testing.T) {
	ca := newNodeCA(t)
	s := ca.server(t)
	key := newKey(t)
	leaf := ca.node(t, key.Public())
	a := s.attestWith(t, x509popData(t, leaf), popSolver(key, nil))
	wantNodeID(t, a, leaf)
	verifyAgent(t, s, a)
}

func TestS03X509PopRefuses(t *testing.T) {
	ca := newNodeCA(t)
	s := ca.server(t)
	ec, rs := newKey(t), rsaKey(t)
	for _, key := range []crypto.Signer{ec, rs} {
		leaf := ca.node(t, key.Public())
		wrong := crypto.Signer(newKey(t))
		if key == crypto.Signer(rs) {
			wrong = rsaKey(t)
		}
		old := make([]byte, 32)
		s.refusesNode(t, "another key", x509popData(t, leaf), popSolver(wrong, nil))
		s.refusesNode(t, "another nonce", x509popData(t, leaf), popSolver(key, old))
		s.refusesNode(t, "a replayed response", x509popData(t, leaf), replayed(t, s, leaf, key))
		s.refusesNode(t, "no response", x509popData(t, leaf), func([]byte) ([]byte, error) { return []byte("{}"), nil })
		s.refusesNode(t, "another authority", x509popData(t, newNodeCA(t).node(t, key.Public())), popSolver(key, nil))
	}
	chain := []*x509.Certificate{}
	for issuer, depth := ca, 0; depth < 5; depth++ {
		issuer = issuer.below(t)
		chain = append([]*x509.Certificate{issuer.certificate}, chain...)
		leaf := issuer.node(t, ec.Public())
		data := x509popData(t, append([]*x509.Certificate{leaf}, chain...)...)
		if depth < 4 {
			s.attestWith(t, data, popSolver(ec, nil))
		} else {
			s.refusesNode(t, "5 intermediates", data, popSolver(ec, nil))
		}
	}
	noSigning := certify(t, &x509.Certificate{KeyUsage: x509.KeyUsageKeyAgreement}, ec.Public(), ca.certificate, ca.key)
	s.refusesNode(t, "no digitalSignature", x509popData(t, noSigning), popSolver(ec, nil))
	expired := certify(t, &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature,
		NotAfter: time.Now().Add(-time.Minute)}, ec.Public(), ca.certificate, ca.key)
	s.refusesNode(t, "expired", x509popData(t, expired), popSolver(ec, nil))
	s.refusesNode(t, "no JSON", &types.AttestationData{Type: "x509pop", Payload: []byte("certificate")}, nil)
}

func (s *server) refusesNode(t *testing.T, what string, data *types.AttestationData, solve solver) {
	t.Helper()
	_, err := attest(deadline(t, callTime), s.dial(t, nil), data, csrFor(t, newKey(t)), solve)
	t.Logf("%s: %v", what, err)
	wantCode(t, err, codes.PermissionDenied, codes.InvalidArgument)
}

// Answers with what once was a right response.
func replayed(t *testing.T, s *server, leaf *x509.Certificate, key crypto.Signer) solver {
	t.Helper()
	var response []byte
	s.attestWith(t, x509popData(t, leaf), func(challenge []byte) ([]byte, error) {
		var err error
		response, err = popSolver(key, nil)(challenge)
		return response, err
	})
	return func([]byte) ([]byte, error) { return response, nil }
}
