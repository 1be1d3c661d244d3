package conformance

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// Every rule of X509-SVID for a leaf and its signer, without go-spiffe's help.
func lintLeaf(t *testing.T, bundle *types.Bundle, chain []*x509.Certificate) {
	t.Helper()
	leaf := chain[0]
	lintID(t, leaf)
	lintRawID(t, leaf)
	lintUsage(t, leaf)
	lintNumbers(t, leaf)
	signer := signerOf(t, bundle, chain)
	lintSigner(t, signer)
	if !bytes.Equal(leaf.AuthorityKeyId, signer.SubjectKeyId) || len(leaf.AuthorityKeyId) == 0 {
		t.Errorf("4: AKID %x, the signer's SKID %x", leaf.AuthorityKeyId, signer.SubjectKeyId)
	}
	if len(leaf.SubjectKeyId) == 0 || bytes.Equal(leaf.SubjectKeyId, signer.SubjectKeyId) {
		t.Errorf("4: SKID %x", leaf.SubjectKeyId)
	}
	if leaf.NotAfter.After(signer.NotAfter) {
		t.Errorf("it ends %s, its signer %s", leaf.NotAfter, signer.NotAfter)
	}
	verifyPath(t, bundle, chain)
	verifyElsewhere(t, bundle, chain)
}

// The bytes of the SAN: Go's parsed URL would hide an upper-case scheme or a percent escape.
func lintRawID(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	value, _ := extension(leaf, oidSAN)
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(value, &names); err != nil || len(rest) != 0 {
		t.Fatalf("2: the SAN: %v, %d bytes behind it", err, len(rest))
	}
	const uriTag, dnsTag = 6, 2
	var uris []string
	for _, name := range names {
		switch name.Tag {
		case uriTag:
			uris = append(uris, string(name.Bytes))
		case dnsTag:
		default:
			t.Errorf("2: a name with the tag %d", name.Tag)
		}
	}
	wanted := "spiffe://" + domain + leaf.URIs[0].EscapedPath()
	if len(uris) != 1 || uris[0] != wanted || leaf.URIs[0].EscapedPath() != leaf.URIs[0].Path {
		t.Errorf("2: the URI names %q, parsed %q", uris, leaf.URIs[0])
	}
}

// Section 2, 3.1 and SPIFFE-ID's own rules.
func lintID(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	if len(leaf.URIs) != 1 {
		t.Fatalf("2: %d URI SANs", len(leaf.URIs))
	}
	id := leaf.URIs[0]
	if id.Scheme != "spiffe" || id.Host != domain || id.User != nil || id.Port() != "" ||
		id.RawQuery != "" || id.Fragment != "" {
		t.Errorf("2: the ID is %s", id)
	}
	if id.Path == "" || id.Path == "/" || strings.HasSuffix(id.Path, "/") || len(id.String()) > 2048 {
		t.Errorf("3.1: the path is %q", id.Path)
	}
	for _, segment := range strings.Split(strings.TrimPrefix(id.Path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, segmentLetters) != "" {
			t.Errorf("SPIFFE-ID 2.2: the segment %q", segment)
		}
	}
	san, critical := extension(leaf, oidSAN)
	if san == nil {
		t.Fatal("2: no SAN")
	}
	var subject asn1.RawValue
	if _, err := asn1.Unmarshal(leaf.RawSubject, &subject); err != nil {
		t.Fatal(err)
	}
	if len(subject.Bytes) == 0 && !critical {
		t.Error("3.1: no subject, and the SAN is not critical")
	}
}

const segmentLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

// Section 4.1 to 4.4.
func lintUsage(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	if leaf.IsCA {
		t.Error("4.1: cA")
	}
	if _, critical := extension(leaf, oidBasicConstraints); !leaf.BasicConstraintsValid || !critical {
		t.Error("4.1: basicConstraints is not there or not critical")
	}
	if found, _ := extension(leaf, oidNameConstraints); found != nil {
		t.Error("4.2: nameConstraints in a leaf")
	}
	usage, critical := extension(leaf, oidKeyUsage)
	if usage == nil || !critical {
		t.Error("4.3: keyUsage is not there or not critical")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		t.Error("4.3: no digitalSignature")
	}
	const allowed = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if leaf.KeyUsage&^allowed != 0 {
		t.Errorf("4.3: keyUsage %b", leaf.KeyUsage)
	}
	usages := map[x509.ExtKeyUsage]bool{}
	for _, one := range leaf.ExtKeyUsage {
		usages[one] = true
	}
	if !usages[x509.ExtKeyUsageServerAuth] || !usages[x509.ExtKeyUsageClientAuth] {
		t.Errorf("4.4: extKeyUsage %v", leaf.ExtKeyUsage)
	}
	if len(leaf.UnhandledCriticalExtensions) != 0 {
		t.Errorf("5: critical extensions %v", leaf.UnhandledCriticalExtensions)
	}
}

// RFC 5280 4.1: version, serial number, times.
func lintNumbers(t *testing.T, leaf *x509.Certificate) {
	t.Helper()
	if leaf.Version != 3 {
		t.Errorf("version %d", leaf.Version)
	}
	if leaf.SerialNumber.Sign() <= 0 || leaf.SerialNumber.BitLen() > 159 {
		t.Errorf("the serial number %s", leaf.SerialNumber)
	}
	if now := time.Now(); leaf.NotBefore.After(now.Add(-9*time.Second)) || !leaf.NotAfter.After(now) {
		t.Errorf("valid from %s to %s", leaf.NotBefore, leaf.NotAfter)
	}
}

// Serial numbers of one issuer: all different, and random in at least 64 bits.
func lintSerials(t *testing.T, serials []*big.Int) {
	t.Helper()
	seen, widest := map[string]bool{}, 0
	var ones [64]int
	for _, serial := range serials {
		if seen[serial.String()] {
			t.Errorf("the serial number %s twice", serial)
		}
		seen[serial.String()] = true
		widest = max(widest, serial.BitLen())
		for bit := range ones {
			ones[bit] += int(serial.Bit(bit))
		}
	}
	if widest < 64 {
		t.Errorf("the widest serial number has %d bits", widest)
	}
	// Of n fair coins, fewer than n/4 or more than 3n/4 heads: for n = 200 under 1 in 10^12.
	for bit, count := range ones {
		if count < len(serials)/4 || count > len(serials)*3/4 {
			t.Errorf("bit %d is set in %d of %d", bit, count, len(serials))
		}
	}
}

func signerOf(t *testing.T, bundle *types.Bundle, chain []*x509.Certificate) *x509.Certificate {
	t.Helper()
	if len(chain) > 1 {
		must(t, chain[0].CheckSignatureFrom(chain[1]))
		return chain[1]
	}
	for _, authority := range bundle.X509Authorities {
		certificate, err := x509.ParseCertificate(authority.Asn1)
		must(t, err)
		if chain[0].CheckSignatureFrom(certificate) == nil {
			return certificate
		}
	}
	t.Fatal("5.1: nobody in the bundle signed it")
	return nil
}

// Section 3.2 and 4 for a signing certificate.
func lintSigner(t *testing.T, signer *x509.Certificate) {
	t.Helper()
	if _, critical := extension(signer, oidBasicConstraints); !signer.IsCA || !critical {
		t.Error("4.1: the signer is no CA")
	}
	if _, critical := extension(signer, oidKeyUsage); !critical {
		t.Error("4.3: the signer's keyUsage is not critical")
	}
	if signer.KeyUsage&x509.KeyUsageCertSign == 0 ||
		signer.KeyUsage&^(x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature) != 0 {
		t.Errorf("4.3: the signer's keyUsage %b", signer.KeyUsage)
	}
	own := url.URL{Scheme: "spiffe", Host: domain}
	if len(signer.URIs) != 1 || signer.URIs[0].String() != own.String() {
		t.Errorf("3.2: the signer's IDs %v", signer.URIs)
	}
}

func verifyPath(t *testing.T, bundle *types.Bundle, chain []*x509.Certificate) {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, authority := range bundle.X509Authorities {
		certificate, err := x509.ParseCertificate(authority.Asn1)
		must(t, err)
		roots.AddCert(certificate)
	}
	for _, one := range chain[1:] {
		between.AddCert(one)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
			KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			t.Errorf("5.1: %v", err)
		}
	}
}

func extension(certificate *x509.Certificate, id asn1.ObjectIdentifier) (value []byte, critical bool) {
	for _, one := range certificate.Extensions {
		if one.Id.Equal(id) {
			return one.Value, one.Critical
		}
	}
	return nil, false
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return certificate
}
