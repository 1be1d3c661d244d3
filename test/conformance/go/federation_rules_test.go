package conformance

import (
	"strings"
	"sync"
	"testing"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	trustv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Each item of a batch that removes bundles has its own status, and names what it is about.
func TestS48DeletionByItem(t *testing.T) {
	s := theServer(t)
	first, second := uniqueName()+".test", uniqueName()+".test"
	s.federate(t, first)
	s.federate(t, second)
	for _, mode := range []bundlev1.BatchDeleteFederatedBundleRequest_Mode{restrict, dissociate, remove} {
		names := []string{first, domain, "none.test", "Upper Case", "", second, first}
		answer, err := s.operator(t).bundles.BatchDeleteFederatedBundle(deadline(t, callTime),
			&bundlev1.BatchDeleteFederatedBundleRequest{TrustDomains: names, Mode: mode})
		must(t, err)
		for at, wanted := range []codes.Code{codes.OK, codes.InvalidArgument, codes.NotFound, codes.InvalidArgument,
			codes.InvalidArgument, codes.OK, codes.NotFound} {
			result := answer.Results[at]
			t.Logf("%s: %v", mode, result)
			wantStatus(t, result.Status, wanted)
			if result.TrustDomain != names[at] {
				t.Errorf("the result is of %q, not %q", result.TrustDomain, names[at])
			}
		}
		s.federate(t, first)
		s.federate(t, second)
	}
	_, err := s.operator(t).bundles.BatchDeleteFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchDeleteFederatedBundleRequest{TrustDomains: []string{first}, Mode: 77})
	wantCode(t, err, codes.InvalidArgument)
	s.unfederate(t, first, restrict, codes.OK)
	s.unfederate(t, second, restrict, codes.OK)
}

// What is no bundle is refused as one item; the others are stored.
func TestS18BundleRules(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).bundles
	name := uniqueName() + ".test"
	bundles := []*types.Bundle{foreignBundle(t, name)}
	broken := func(change func(*types.Bundle)) {
		one := foreignBundle(t, uniqueName()+".test")
		change(one)
		bundles = append(bundles, one)
	}
	broken(func(b *types.Bundle) { b.TrustDomain = domain })
	broken(func(b *types.Bundle) { b.TrustDomain = "Upper Case" })
	broken(func(b *types.Bundle) { b.TrustDomain = "" })
	broken(func(b *types.Bundle) { b.X509Authorities[0].Asn1 = []byte("garbage") })
	broken(func(b *types.Bundle) { b.JwtAuthorities[0].PublicKey = []byte("garbage") })
	broken(func(b *types.Bundle) { b.JwtAuthorities[0].KeyId = "" })
	broken(func(b *types.Bundle) { b.RefreshHint = -1 })
	created, err := c.BatchCreateFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchCreateFederatedBundleRequest{Bundle: bundles})
	must(t, err)
	set, err := c.BatchSetFederatedBundle(deadline(t, callTime), &bundlev1.BatchSetFederatedBundleRequest{Bundle: bundles})
	must(t, err)
	for at := range bundles {
		wanted := codes.InvalidArgument
		if at == 0 {
			wanted = codes.OK
		}
		wantStatus(t, created.Results[at].Status, wanted)
		wantStatus(t, set.Results[at].Status, wanted)
		if at > 0 && (created.Results[at].Bundle != nil || set.Results[at].Bundle != nil) {
			t.Errorf("%d: a bundle in a refused item", at)
		}
	}
	s.unfederate(t, name, restrict, codes.OK)
	for _, wanted := range []string{"", "Upper Case", domain} {
		_, err := c.GetFederatedBundle(deadline(t, callTime), &bundlev1.GetFederatedBundleRequest{TrustDomain: wanted})
		wantCode(t, err, codes.InvalidArgument)
	}
}

// bundle append: the trust domain's own bundle gets authorities that are not the server's.
func TestS18BundleAppend(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t).bundles
	before, added := s.bundle(t), foreignBundle(t, domain)
	answer, err := c.AppendBundle(deadline(t, callTime), &bundlev1.AppendBundleRequest{
		X509Authorities: added.X509Authorities, JwtAuthorities: added.JwtAuthorities,
		OutputMask: &types.BundleMask{JwtAuthorities: true}})
	must(t, err)
	after := s.bundle(t)
	if len(after.X509Authorities) != 2 || len(after.JwtAuthorities) != 2 || after.SequenceNumber <= before.SequenceNumber {
		t.Errorf("the bundle %v", after)
	}
	if !proto.Equal(answer, &types.Bundle{TrustDomain: domain, JwtAuthorities: after.JwtAuthorities}) {
		t.Errorf("by the mask %v", answer)
	}
	_, err = c.AppendBundle(deadline(t, callTime), &bundlev1.AppendBundleRequest{
		X509Authorities: added.X509Authorities, JwtAuthorities: added.JwtAuthorities})
	must(t, err)
	if again := s.bundle(t); !proto.Equal(again, after) {
		t.Errorf("the same once more: %v", again)
	}
	for name, request := range map[string]*bundlev1.AppendBundleRequest{
		"nothing":  {},
		"garbage":  {X509Authorities: []*types.X509Certificate{{Asn1: []byte("garbage")}}},
		"no key":   {JwtAuthorities: []*types.JWTKey{{KeyId: "x"}}},
		"no keyID": {JwtAuthorities: []*types.JWTKey{{PublicKey: added.JwtAuthorities[0].PublicKey}}},
	} {
		_, err := c.AppendBundle(deadline(t, callTime), request)
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
}

func TestS18FederationRules(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t).federation
	of := func(change func(*types.FederationRelationship)) *types.FederationRelationship {
		one := &types.FederationRelationship{TrustDomain: "of.test", BundleEndpointUrl: "https://127.0.0.1:1/bundle",
			BundleEndpointProfile: &types.FederationRelationship_HttpsSpiffe{
				HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "spiffe://of.test/endpoint"}}}
		change(one)
		return one
	}
	broken := []*types.FederationRelationship{
		of(func(r *types.FederationRelationship) { r.TrustDomain = "" }),
		of(func(r *types.FederationRelationship) { r.TrustDomain = "Upper Case" }),
		of(func(r *types.FederationRelationship) { r.BundleEndpointUrl = "" }),
		of(func(r *types.FederationRelationship) { r.BundleEndpointUrl = "127.0.0.1/bundle" }),
		of(func(r *types.FederationRelationship) { r.TrustDomainBundle = foreignBundle(t, "other.test") }),
		of(func(r *types.FederationRelationship) {
			r.BundleEndpointProfile = &types.FederationRelationship_HttpsSpiffe{HttpsSpiffe: &types.HTTPSSPIFFEProfile{}}
		}),
		of(func(r *types.FederationRelationship) {
			r.BundleEndpointProfile = &types.FederationRelationship_HttpsSpiffe{
				HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "of.test/endpoint"}}
		}),
	}
	created, err := c.BatchCreateFederationRelationship(deadline(t, callTime),
		&trustv1.BatchCreateFederationRelationshipRequest{FederationRelationships: append(broken, of(func(*types.FederationRelationship) {}))})
	must(t, err)
	for at, result := range created.Results {
		t.Logf("create %d: %v", at, result.Status)
		if at == len(broken) {
			wantStatus(t, result.Status, codes.OK)
			continue
		}
		wantStatus(t, result.Status, codes.InvalidArgument)
		if result.FederationRelationship != nil {
			t.Errorf("%d: a relationship in a refused item", at)
		}
	}
	updated, err := c.BatchUpdateFederationRelationship(deadline(t, callTime),
		&trustv1.BatchUpdateFederationRelationshipRequest{FederationRelationships: broken})
	must(t, err)
	for _, result := range updated.Results {
		wantStatus(t, result.Status, codes.InvalidArgument)
	}
	// A bundle that comes with it is the trust domain's from then on.
	with := of(func(r *types.FederationRelationship) { r.TrustDomainBundle = foreignBundle(t, "of.test") })
	updated, err = c.BatchUpdateFederationRelationship(deadline(t, callTime),
		&trustv1.BatchUpdateFederationRelationshipRequest{FederationRelationships: []*types.FederationRelationship{with}})
	must(t, err)
	wantStatus(t, updated.Results[0].Status, codes.OK)
	bundle, err := s.operator(t).bundles.GetFederatedBundle(deadline(t, callTime),
		&bundlev1.GetFederatedBundleRequest{TrustDomain: "of.test"})
	must(t, err)
	if !proto.Equal(bundle, with.TrustDomainBundle) {
		t.Errorf("the bundle %v", bundle)
	}
	_, err = c.RefreshBundle(deadline(t, callTime), &trustv1.RefreshBundleRequest{TrustDomain: "of.test"})
	t.Logf("a refresh from where nobody listens: %v", err)
	if code := status.Code(err); code == codes.NotFound || code == codes.Unknown {
		t.Errorf("a refresh from where nobody listens: %v", err)
	}
	for _, name := range []string{"", "Upper Case"} {
		_, err := c.GetFederationRelationship(deadline(t, callTime), &trustv1.GetFederationRelationshipRequest{TrustDomain: name})
		wantCode(t, err, codes.InvalidArgument)
		_, err = c.RefreshBundle(deadline(t, callTime), &trustv1.RefreshBundleRequest{TrustDomain: name})
		wantCode(t, err, codes.InvalidArgument)
	}
	names := []string{"", "Upper Case", "spiffe://of.test", "of.test"}
	deleted, err := c.BatchDeleteFederationRelationship(deadline(t, callTime),
		&trustv1.BatchDeleteFederationRelationshipRequest{TrustDomains: names})
	must(t, err)
	for at, wanted := range []codes.Code{codes.InvalidArgument, codes.InvalidArgument, codes.OK, codes.NotFound} {
		wantStatus(t, deleted.Results[at].Status, wanted)
		if deleted.Results[at].TrustDomain != strings.TrimPrefix(names[at], "spiffe://") {
			t.Errorf("the result is of %q", deleted.Results[at].TrustDomain)
		}
	}
}

// Changes of one entry at once: each counts, and none is lost.
func TestS18UpdatesAtOnce(t *testing.T) {
	s := theServer(t)
	stored := s.createOne(t, entryOf(idOf("/at-once/node"), "/at-once/"+uniqueName()))
	const writers = 20
	revisions := make([]int64, writers)
	var all sync.WaitGroup
	for at := range revisions {
		c, ctx := s.operator(t), deadline(t, callTime)
		all.Add(1)
		go func() {
			defer all.Done()
			update := &types.Entry{Id: stored.Id, X509SvidTtl: int32(100 + at)}
			answer, err := c.entries.BatchUpdateEntry(ctx, &entryv1.BatchUpdateEntryRequest{
				Entries: []*types.Entry{update}, InputMask: &types.EntryMask{X509SvidTtl: true}})
			if err == nil {
				revisions[at] = answer.Results[0].GetEntry().GetRevisionNumber()
			}
		}()
	}
	all.Wait()
	seen := map[int64]bool{}
	for _, revision := range revisions {
		seen[revision] = true
	}
	if last, err := s.getEntry(t, stored.Id); err != nil || last.RevisionNumber != writers || len(seen) != writers || seen[0] {
		t.Errorf("the revisions %v, the last %v, %v", revisions, last, err)
	}
}
