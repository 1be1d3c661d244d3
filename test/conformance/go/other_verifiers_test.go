package conformance

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

func pemOf(certificates ...[]byte) string {
	var text strings.Builder
	for _, der := range certificates {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return text.String()
}

// What OpenSSL and Node say of a chain: as a server's and as a client's.
func verifyElsewhere(t *testing.T, bundle *types.Bundle, chain []*x509.Certificate) {
	t.Helper()
	var roots, between [][]byte
	for _, authority := range bundle.X509Authorities {
		roots = append(roots, authority.Asn1)
	}
	for _, one := range chain[1:] {
		between = append(between, one.Raw)
	}
	folder := t.TempDir()
	for name, text := range map[string]string{
		"leaf": pemOf(chain[0].Raw), "roots": pemOf(roots...), "between": pemOf(between...)} {
		must(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	for _, purpose := range []string{"sslserver", "sslclient"} {
		arguments := []string{"verify", "-x509_strict", "-no-CApath", "-purpose", purpose, "-CAfile", "roots"}
		if len(between) > 0 {
			arguments = append(arguments, "-untrusted", "between")
		}
		openssl := exec.Command("openssl", append(arguments, "leaf")...)
		openssl.Dir = folder
		if output, err := openssl.CombinedOutput(); err != nil {
			t.Errorf("openssl, %s: %v: %s", purpose, err, output)
		}
	}
	var answer struct {
		URI  string   `json:"uri"`
		Said []string `json:"said"`
	}
	must(t, ask("/x509/check", fields{"chain": pemsOf(chain), "roots": split(roots)}, &answer))
	if len(answer.Said) > 0 || answer.URI != chain[0].URIs[0].String() {
		t.Errorf("Node: %v, the ID %q", answer.Said, answer.URI)
	}
}

func pemsOf(chain []*x509.Certificate) []string {
	var all []string
	for _, one := range chain {
		all = append(all, pemOf(one.Raw))
	}
	return all
}

func split(certificates [][]byte) []string {
	var all []string
	for _, der := range certificates {
		all = append(all, pemOf(der))
	}
	return all
}
