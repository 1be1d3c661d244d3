package conformance

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
	"testing"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// No batch of entries is too long; a message over 4 MiB is.
func TestS18BatchesAndMessages(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).entries
	parent := idOf("/limits/" + uniqueName())
	entries := manyUnder(parent, 2000)
	ids := []string{}
	for _, result := range createEach(t, s.operator(t), entries) {
		wantStatus(t, result.Status, codes.OK)
		ids = append(ids, result.Entry.Id)
	}
	filter := &entryv1.ListEntriesRequest_Filter{ByParentId: parent}
	if whole := s.list(t, filter, 0); idsOf(whole) != idsOf(s.list(t, filter, 700)) || len(whole) != 2000 {
		t.Errorf("%d are listed", len(whole))
	}
	deleted, err := c.BatchDeleteEntry(deadline(t, callTime), &entryv1.BatchDeleteEntryRequest{Ids: ids})
	must(t, err)
	for _, result := range deleted.Results {
		wantStatus(t, result.Status, codes.OK)
	}
	s.wantCount(t, filter, 0)

	large := make([]*types.Entry, 1200)
	for at := range large {
		large[at] = entryOf(parent, fmt.Sprintf("/limits/large/%d", at))
		large[at].Selectors = []*types.Selector{selector("path:/" + strings.Repeat("x", 3800))}
	}
	if size := proto.Size(&entryv1.BatchCreateEntryRequest{Entries: large}); size < 4<<20 {
		t.Fatalf("a message of %d bytes", size)
	}
	a := s.newAgent(t, nil)
	admin := entryOf(a.id, "/limits/admin-"+uniqueName())
	admin.Admin = true
	for name, one := range map[string]*connection{"the operator": s.operator(t), "an admin": s.workload(t, a, admin)} {
		_, err = one.entries.BatchCreateEntry(deadline(t, callTime), &entryv1.BatchCreateEntryRequest{Entries: large})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.ResourceExhausted)
	}
	s.wantCount(t, filter, 0)
}

func TestS17PageTokens(t *testing.T) {
	s := theServer(t)
	c := s.operator(t)
	for _, token := range []string{"no token", "!", strings.Repeat("a", 10_000)} {
		_, err := c.entries.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{PageSize: 5, PageToken: token})
		t.Logf("%.20s: %v", token, err)
		wantCode(t, err, codes.InvalidArgument)
		_, err = c.bundles.ListFederatedBundles(deadline(t, callTime),
			&bundlev1.ListFederatedBundlesRequest{PageSize: 5, PageToken: token})
		wantCode(t, err, codes.InvalidArgument)
	}
	if all := s.list(t, &entryv1.ListEntriesRequest_Filter{ByParentId: idOf("/pages/none")}, -1); len(all) != 0 {
		t.Errorf("listed %v", all)
	}
	// As many as fit on a page: the next one need not be, and each page is full but the last.
	parent := idOf("/pages/" + uniqueName())
	s.create(t, manyUnder(parent, 6)...)
	for size, wanted := range map[int32]string{1: "1 1 1 1 1 1", 2: "2 2 2", 4: "4 2", 6: "6", 100: "6"} {
		sizes, token := []string{}, ""
		for {
			page, err := c.entries.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{
				Filter: &entryv1.ListEntriesRequest_Filter{ByParentId: parent}, PageSize: size, PageToken: token})
			must(t, err)
			if len(page.Entries) > 0 {
				sizes = append(sizes, fmt.Sprint(len(page.Entries)))
			}
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if got := strings.Join(sizes, " "); got != wanted {
			t.Errorf("pages of %d: %s", size, got)
		}
	}
}

// Filters that are malformed, and one that says the same twice.
func TestS17FiltersRefused(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).entries
	foreign := &types.SPIFFEID{TrustDomain: "other.test", Path: "/a"}
	for name, filter := range map[string]*entryv1.ListEntriesRequest_Filter{
		"a foreign SPIFFE ID":     {BySpiffeId: foreign},
		"a foreign parent":        {ByParentId: foreign},
		"a malformed ID":          {BySpiffeId: idOf("/a/../b")},
		"a selector without type": {BySelectors: &types.SelectorMatch{Selectors: []*types.Selector{{Value: "v"}}}},
		"a malformed domain":      {ByFederatesWith: &types.FederatesWithMatch{TrustDomains: []string{"Upper Case"}}},
		"an empty domain":         {ByFederatesWith: &types.FederatesWithMatch{TrustDomains: []string{""}}},
	} {
		_, err := c.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{Filter: filter})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
		_, err = c.CountEntries(deadline(t, callTime), &entryv1.CountEntriesRequest{
			Filter: &entryv1.CountEntriesRequest_Filter{BySpiffeId: filter.BySpiffeId, ByParentId: filter.ByParentId,
				BySelectors: filter.BySelectors, ByFederatesWith: filter.ByFederatesWith}})
		wantCode(t, err, codes.InvalidArgument)
	}
	stored := s.createOne(t, entryOf(idOf("/twice/"+uniqueName()), "/twice/"+uniqueName()))
	for match := range int32(4) {
		listed := s.list(t, &entryv1.ListEntriesRequest_Filter{ByParentId: stored.ParentId,
			BySelectors: &types.SelectorMatch{Selectors: append(stored.Selectors, stored.Selectors...),
				Match: types.SelectorMatch_MatchBehavior(match)}}, 0)
		if len(listed) != 1 {
			t.Errorf("by a selector twice, match %d: %v", match, listed)
		}
	}
}

// What SPIRE takes, and what one would not expect it to refuse.
func TestS15Surprises(t *testing.T) {
	s := theServer(t)
	spaced := entryOf(idOf("/surprises/node"), "/surprises/"+uniqueName())
	spaced.DnsNames = []string{"a b"}
	if stored := s.createOne(t, spaced); len(stored.DnsNames) != 1 || stored.DnsNames[0] != "a b" {
		t.Errorf("stored %v", stored)
	}
	twice := entryOf(idOf("/surprises/node"), "/surprises/"+uniqueName())
	twice.Selectors = append(twice.Selectors, selector("uid:4000000000"))
	wantStatus(t, createEach(t, s.operator(t), []*types.Entry{twice})[0].Status, codes.AlreadyExists)
	none, err := s.operator(t).entries.BatchCreateEntry(deadline(t, callTime), &entryv1.BatchCreateEntryRequest{})
	must(t, err)
	if len(none.Results) != 0 {
		t.Errorf("of none %v", none.Results)
	}
}

func TestS18MintedNames(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).svids
	key := newKey(t)
	csr := func(template *x509.CertificateRequest) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		must(t, err)
		return der
	}
	id := func(text string) *url.URL {
		parsed, err := url.Parse(text)
		must(t, err)
		return parsed
	}
	own := id("spiffe://" + domain + "/minted/" + uniqueName())
	named := csr(&x509.CertificateRequest{URIs: []*url.URL{own}, DNSNames: []string{"first.test", "second.test"},
		Subject: pkix.Name{Organization: []string{"Example"}, Country: []string{"CH"}}})
	minted, err := c.MintX509SVID(deadline(t, callTime), &svidv1.MintX509SVIDRequest{Csr: named, Ttl: 600})
	must(t, err)
	leaf := parsed(t, minted.Svid.CertChain[0])
	if strings.Join(leaf.DNSNames, " ") != "first.test second.test" || leaf.URIs[0].String() != own.String() {
		t.Errorf("the names %v %v", leaf.DNSNames, leaf.URIs)
	}
	if subject := leaf.Subject.String(); !strings.HasSuffix(subject, "O=Example,C=CH") {
		t.Errorf("the subject %s", subject)
	}
	lintLeaf(t, s.bundle(t), (&issued{chain: minted.Svid.CertChain}).certificates(t))
	forged := append([]byte{}, named...)
	forged[len(forged)-1] ^= 1
	for name, refused := range map[string][]byte{
		"two IDs":              csr(&x509.CertificateRequest{URIs: []*url.URL{own, id("spiffe://" + domain + "/b")}}),
		"another trust domain": csr(&x509.CertificateRequest{URIs: []*url.URL{id("spiffe://other.test/a")}}),
		"no SPIFFE ID":         csr(&x509.CertificateRequest{URIs: []*url.URL{id("https://" + domain + "/a")}}),
		"a DNS name a..b":      csr(&x509.CertificateRequest{URIs: []*url.URL{own}, DNSNames: []string{"a..b"}}),
		"a wrong signature":    forged,
		"a wildcard and a name below it": csr(&x509.CertificateRequest{URIs: []*url.URL{own},
			DNSNames: []string{"*.first.test", "a.first.test"}}),
	} {
		_, err := c.MintX509SVID(deadline(t, callTime), &svidv1.MintX509SVIDRequest{Csr: refused})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
}
