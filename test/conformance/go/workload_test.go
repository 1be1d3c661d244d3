package conformance

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// How long an agent of ours takes at most to show its workloads what has changed.
const followTime = 15 * time.Second

// An agent of ours, and the alias that entries for its node have as parent.
type ownAgent struct {
	address string
	alias   *types.SPIFFEID
}

// Starts an agent of ours on a join string.
func (s *server) ownAgent(t *testing.T) *ownAgent {
	t.Helper()
	alias := idOf("/node/" + uniqueName())
	joinString := s.writ(t, "token", "create", "--agent-id", textOf(alias))
	return &ownAgent{s.startAgent(t, strings.TrimSpace(joinString)), alias}
}

// An entry for this very process.
func (o *ownAgent) entry(path string) *types.Entry {
	return &types.Entry{SpiffeId: idOf(path), ParentId: o.alias,
		Selectors: []*types.Selector{selector(fmt.Sprintf("uid:%d", os.Getuid()))}}
}

func (o *ownAgent) source(t *testing.T) *workloadapi.X509Source {
	t.Helper()
	source, err := workloadapi.NewX509Source(deadline(t, callTime),
		workloadapi.WithClientOptions(workloadapi.WithAddr(o.address)))
	must(t, err)
	t.Cleanup(func() { source.Close() })
	return source
}

// The ID of the authority that signed a workload's SVID.
func signedBy(svid *x509svid.SVID) string {
	return hex.EncodeToString(svid.Certificates[len(svid.Certificates)-1].AuthorityKeyId)
}

// The authorities that a workload trusts for its own trust domain.
func trustedBy(source *workloadapi.X509Source) map[string]*x509.Certificate {
	found := map[string]*x509.Certificate{}
	bundle, err := source.GetX509BundleForTrustDomain(trustDomain)
	if err != nil {
		return found
	}
	for _, authority := range bundle.X509Authorities() {
		found[hex.EncodeToString(authority.SubjectKeyId)] = authority
	}
	return found
}

// Checks a workload's SVID against what it trusts at that time.
func wantVerified(t *testing.T, source *workloadapi.X509Source) *x509svid.SVID {
	t.Helper()
	svid, err := source.GetX509SVID()
	must(t, err)
	_, _, err = x509svid.Verify(svid.Certificates, source)
	must(t, err)
	return svid
}
