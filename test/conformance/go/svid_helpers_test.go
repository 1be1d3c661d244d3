package conformance

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"testing"

	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// One X509-SVID by BatchNewX509SVID.
type issued struct {
	leaf  *x509.Certificate
	chain [][]byte
	key   *ecdsa.PrivateKey
}

func (i *issued) pair() *tls.Certificate { return pairOf(i.chain, i.key) }

// The chain as go-spiffe takes it.
func (i *issued) certificates(t *testing.T) []*x509.Certificate {
	t.Helper()
	var result []*x509.Certificate
	for _, der := range i.chain {
		certificate, err := x509.ParseCertificate(der)
		must(t, err)
		result = append(result, certificate)
	}
	return result
}

func (a *agent) tryX509(
	t *testing.T, params ...*svidv1.NewX509SVIDParams,
) []*svidv1.BatchNewX509SVIDResponse_Result {
	t.Helper()
	answer, err := a.svids.BatchNewX509SVID(deadline(t, callTime),
		&svidv1.BatchNewX509SVIDRequest{Params: params})
	must(t, err)
	if len(answer.Results) != len(params) {
		t.Fatalf("%d results for %d", len(answer.Results), len(params))
	}
	return answer.Results
}

func (a *agent) x509SVID(t *testing.T, entryID string) *issued {
	t.Helper()
	key := newKey(t)
	result := a.tryX509(t, &svidv1.NewX509SVIDParams{EntryId: entryID, Csr: csrFor(t, key)})[0]
	wantStatus(t, result.Status, codes.OK)
	leaf, err := x509.ParseCertificate(result.Svid.CertChain[0])
	must(t, err)
	return &issued{leaf, result.Svid.CertChain, key}
}

// Asks for an SVID of an entry and wants the item to be refused.
func (a *agent) refusedX509(t *testing.T, entryID string, code codes.Code) {
	t.Helper()
	result := a.tryX509(t, &svidv1.NewX509SVIDParams{EntryId: entryID, Csr: csrFor(t, newKey(t))})[0]
	wantStatus(t, result.Status, code)
	if result.Svid != nil {
		t.Fatal("an SVID in a refused item")
	}
}

func (a *agent) tryJWT(t *testing.T, entryID string, audience ...string) (*types.JWTSVID, error) {
	t.Helper()
	answer, err := a.svids.NewJWTSVID(deadline(t, callTime),
		&svidv1.NewJWTSVIDRequest{EntryId: entryID, Audience: audience})
	return answer.GetSvid(), err
}

func (a *agent) jwtSVID(t *testing.T, entryID string, audience ...string) *types.JWTSVID {
	t.Helper()
	svid, err := a.tryJWT(t, entryID, audience...)
	must(t, err)
	return svid
}

func newParams(t *testing.T, entryID string) *svidv1.NewX509SVIDParams {
	t.Helper()
	return &svidv1.NewX509SVIDParams{EntryId: entryID, Csr: csrFor(t, newKey(t))}
}
