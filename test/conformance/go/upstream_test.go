package conformance

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	localv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The files of an upstream authority on disk.
type upstreamFiles struct{ certificate, key string }

func (f upstreamFiles) hold(t *testing.T, ca *nodeCA) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(ca.key)
	must(t, err)
	for file, block := range map[string]*pem.Block{
		f.certificate: {Type: "CERTIFICATE", Bytes: ca.certificate.Raw},
		f.key:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		must(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
}

func TestS54UpstreamAuthoritySwapped(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	files := upstreamFiles{filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")}
	first, second := newNodeCA(t), newNodeCA(t)
	files.hold(t, first)
	s := startServer(t, fields{"upstream_authority": fields{
		"disk": fields{"cert_file": files.certificate, "key_file": files.key}}})
	raw, own := s.newAgent(t, nil), s.ownAgent(t)
	entry := s.createOne(t, entryOf(raw.id, "/upstream/raw"))
	s.createOne(t, own.entry("/upstream/own"))
	source := own.source(t)
	wantVerified(t, source)
	before := raw.x509SVID(t, entry.Id)
	wantBelow(t, before, first)
	s.wantRoots(t, first)

	files.hold(t, second)
	local := s.operator(t).local
	prepared, err := local.PrepareX509Authority(anyCall(t), &localv1.PrepareX509AuthorityRequest{})
	must(t, err)
	wantBelow(t, raw.x509SVID(t, entry.Id), first)
	// Published before it signs.
	s.wantRoots(t, first, second)
	_, err = local.ActivateX509Authority(anyCall(t), &localv1.ActivateX509AuthorityRequest{
		AuthorityId: prepared.PreparedAuthority.AuthorityId})
	must(t, err)
	after := raw.x509SVID(t, entry.Id)
	wantBelow(t, after, second)
	s.wantRoots(t, first, second)
	for _, svid := range []*issued{before, after} {
		_, _, err := x509svid.Verify(svid.certificates(t), x509Bundle(t, s.bundle(t)))
		must(t, err)
	}
	must(t, raw.trySync(t))
	must(t, raw.renew(t, s).trySync(t))
	wantVerified(t, source)

	// What this server did not make itself is tainted and revoked upstream.
	_, err = local.TaintX509Authority(anyCall(t), &localv1.TaintX509AuthorityRequest{
		AuthorityId: hexID(parsed(t, before.chain[1]).SubjectKeyId)})
	wantCode(t, err, codes.FailedPrecondition)
}

// taint and revoke of an upstream authority, by its subject key ID: agents re-key, and then trust it no more.
func TestS52UpstreamAuthorityTaintedAndRevoked(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	files := upstreamFiles{filepath.Join(folder, "ca.pem"), filepath.Join(folder, "ca.key")}
	first, second := newNodeCA(t), newNodeCA(t)
	files.hold(t, first)
	s := startServer(t, fields{"upstream_authority": fields{
		"disk": fields{"cert_file": files.certificate, "key_file": files.key}}})
	own := s.ownAgent(t)
	s.createOne(t, own.entry("/upstream/own"))
	source := own.source(t)
	local := s.operator(t).local
	taint := func(id string) (string, error) {
		r, err := local.TaintX509UpstreamAuthority(anyCall(t), &localv1.TaintX509UpstreamAuthorityRequest{SubjectKeyId: id})
		return r.GetUpstreamAuthoritySubjectKeyId(), err
	}
	revoke := func(id string) (string, error) {
		r, err := local.RevokeX509UpstreamAuthority(anyCall(t), &localv1.RevokeX509UpstreamAuthorityRequest{SubjectKeyId: id})
		return r.GetUpstreamAuthoritySubjectKeyId(), err
	}
	firstID, secondID := hexID(first.certificate.SubjectKeyId), hexID(second.certificate.SubjectKeyId)
	const invalid, failed = codes.InvalidArgument, codes.FailedPrecondition
	state, err := local.GetX509AuthorityState(anyCall(t), &localv1.GetX509AuthorityStateRequest{})
	must(t, err)
	if state.Active.UpstreamAuthoritySubjectKeyId != firstID {
		t.Fatalf("the active authority %v", state.Active)
	}
	wantRefused(t, "taint the one in use", taint, firstID, invalid, failed)
	wantRefused(t, "revoke the one in use", revoke, firstID, invalid, failed)
	wantRefused(t, "taint none", taint, "", invalid)
	wantRefused(t, "taint what is not there", taint, "00ff", invalid, codes.NotFound)

	files.hold(t, second)
	prepared, err := local.PrepareX509Authority(anyCall(t), &localv1.PrepareX509AuthorityRequest{})
	must(t, err)
	if prepared.PreparedAuthority.UpstreamAuthoritySubjectKeyId != secondID {
		t.Fatalf("prepared %v", prepared.PreparedAuthority)
	}
	_, err = local.ActivateX509Authority(anyCall(t), &localv1.ActivateX509AuthorityRequest{
		AuthorityId: prepared.PreparedAuthority.AuthorityId})
	must(t, err)
	wantRefused(t, "revoke what is not tainted", revoke, firstID, invalid, failed)
	tainted, err := taint(strings.ToUpper(firstID))
	must(t, err)
	bundled := x509IDs(t, s.bundle(t))
	if tainted != firstID || !bundled[firstID] || bundled[secondID] {
		t.Fatalf("tainted %s, in the bundle %v", tainted, bundled)
	}
	until(t, followTime, "the workload has an SVID below the new root", func() bool {
		svid := wantVerified(t, source)
		return len(svid.Certificates) == 2 && svid.Certificates[1].CheckSignatureFrom(second.certificate) == nil
	})
	until(t, followTime, "the root can be revoked", func() bool {
		revoked, err := revoke(firstID)
		if status.Code(err) == codes.FailedPrecondition {
			return false
		}
		must(t, err)
		return revoked == firstID
	})
	s.wantRoots(t, second)
	until(t, followTime, "the workload trusts the old root no more", func() bool {
		wantVerified(t, source)
		return trustedBy(source)[firstID] == nil && trustedBy(source)[secondID] != nil
	})
}

// Without an upstream authority there is none to taint, and with it what is below is not tainted here.
func TestS52UpstreamCallsWithoutOne(t *testing.T) {
	s := theServer(t)
	local := s.operator(t).local
	_, err := local.TaintX509UpstreamAuthority(anyCall(t), &localv1.TaintX509UpstreamAuthorityRequest{SubjectKeyId: "00ff"})
	wantCode(t, err, codes.FailedPrecondition)
	_, err = local.RevokeX509UpstreamAuthority(anyCall(t), &localv1.RevokeX509UpstreamAuthorityRequest{SubjectKeyId: "00ff"})
	wantCode(t, err, codes.FailedPrecondition)
	_, err = local.GetWITAuthorityState(anyCall(t), &localv1.GetWITAuthorityStateRequest{})
	wantCode(t, err, codes.Unimplemented)
}

func wantBelow(t *testing.T, svid *issued, root *nodeCA) {
	t.Helper()
	chain := svid.certificates(t)
	if len(chain) != 2 {
		t.Fatalf("a chain of %d", len(chain))
	}
	must(t, chain[0].CheckSignatureFrom(chain[1]))
	must(t, chain[1].CheckSignatureFrom(root.certificate))
}

func (s *server) wantRoots(t *testing.T, roots ...*nodeCA) {
	t.Helper()
	bundle := x509Bundle(t, s.bundle(t))
	for _, root := range roots {
		if !bundle.HasX509Authority(root.certificate) {
			t.Errorf("%s is not in the bundle", root.certificate.Subject)
		}
	}
	if got := len(bundle.X509Authorities()); got != len(roots) {
		t.Errorf("%d authorities in the bundle, %d roots", got, len(roots))
	}
}
