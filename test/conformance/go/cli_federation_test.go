package conformance

import (
	"testing"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	trustv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// bundle show, count, list, set, delete.
func TestS18Bundle(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t).bundles
	own := s.bundle(t)
	if own.TrustDomain != domain || len(own.X509Authorities) != 1 || len(own.JwtAuthorities) != 1 || own.RefreshHint <= 0 {
		t.Errorf("the bundle %v", own)
	}
	masked, err := c.GetBundle(deadline(t, callTime), &bundlev1.GetBundleRequest{OutputMask: &types.BundleMask{SequenceNumber: true}})
	must(t, err)
	if !proto.Equal(masked, &types.Bundle{TrustDomain: domain, SequenceNumber: own.SequenceNumber}) {
		t.Errorf("masked %v", masked)
	}
	first, second := foreignBundle(t, "first.test"), foreignBundle(t, "second.test")
	created, err := c.BatchCreateFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchCreateFederatedBundleRequest{Bundle: []*types.Bundle{first, first, {TrustDomain: domain}, {}}})
	must(t, err)
	for at, wanted := range []codes.Code{codes.OK, codes.AlreadyExists, codes.InvalidArgument, codes.InvalidArgument} {
		wantStatus(t, created.Results[at].Status, wanted)
	}
	changed := foreignBundle(t, "first.test")
	updated, err := c.BatchUpdateFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchUpdateFederatedBundleRequest{Bundle: []*types.Bundle{changed, second}})
	must(t, err)
	wantStatus(t, updated.Results[0].Status, codes.OK)
	wantStatus(t, updated.Results[1].Status, codes.NotFound)
	set, err := c.BatchSetFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{second}})
	must(t, err)
	wantStatus(t, set.Results[0].Status, codes.OK)
	counted, err := c.CountBundles(deadline(t, callTime), &bundlev1.CountBundlesRequest{})
	must(t, err)
	if counted.Count != 3 {
		t.Errorf("counted %d", counted.Count)
	}
	listed := map[string]*types.Bundle{}
	for token := ""; ; {
		page, err := c.ListFederatedBundles(deadline(t, callTime),
			&bundlev1.ListFederatedBundlesRequest{PageSize: 1, PageToken: token})
		must(t, err)
		for _, one := range page.Bundles {
			listed[one.TrustDomain] = one
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if len(listed) != 2 || !proto.Equal(listed["first.test"], changed) || !proto.Equal(listed["second.test"], second) {
		t.Errorf("listed %v", listed)
	}
	for _, name := range []string{"first.test", "second.test"} {
		s.unfederate(t, name, restrict, codes.OK)
	}
}

// federation create, list, show, update, refresh, delete.
func TestS18Federation(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t).federation
	web := &types.FederationRelationship{TrustDomain: "web.test", BundleEndpointUrl: "https://127.0.0.1:1/bundle",
		BundleEndpointProfile: &types.FederationRelationship_HttpsWeb{HttpsWeb: &types.HTTPSWebProfile{}}}
	spiffe := &types.FederationRelationship{TrustDomain: "spiffe.test", BundleEndpointUrl: "https://127.0.0.1:1/bundle",
		BundleEndpointProfile: &types.FederationRelationship_HttpsSpiffe{
			HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "spiffe://spiffe.test/endpoint"}},
		TrustDomainBundle: foreignBundle(t, "spiffe.test")}
	plain := proto.CloneOf(web)
	plain.TrustDomain, plain.BundleEndpointUrl = "plain.test", "http://127.0.0.1:1/bundle"
	userinfo := proto.CloneOf(web)
	userinfo.TrustDomain, userinfo.BundleEndpointUrl = "user.test", "https://a:b@127.0.0.1:1/bundle"
	profile := proto.CloneOf(web)
	profile.TrustDomain, profile.BundleEndpointProfile = "profile.test", nil
	itself := proto.CloneOf(web)
	itself.TrustDomain = domain
	created, err := c.BatchCreateFederationRelationship(deadline(t, callTime),
		&trustv1.BatchCreateFederationRelationshipRequest{
			FederationRelationships: []*types.FederationRelationship{web, spiffe, web, plain, userinfo, profile, itself}})
	must(t, err)
	for at, wanted := range []codes.Code{codes.OK, codes.OK, codes.AlreadyExists, codes.InvalidArgument,
		codes.InvalidArgument, codes.InvalidArgument, codes.InvalidArgument} {
		t.Logf("create %d: %v", at, created.Results[at].Status)
		wantStatus(t, created.Results[at].Status, wanted)
	}
	listed, err := c.ListFederationRelationships(deadline(t, callTime), &trustv1.ListFederationRelationshipsRequest{})
	must(t, err)
	if len(listed.FederationRelationships) != 2 {
		t.Errorf("listed %v", listed)
	}
	shown, err := c.GetFederationRelationship(deadline(t, callTime),
		&trustv1.GetFederationRelationshipRequest{TrustDomain: "spiffe.test"})
	must(t, err)
	if !proto.Equal(shown, spiffe) {
		t.Errorf("shown %v for %v", shown, spiffe)
	}
	_, err = c.GetFederationRelationship(deadline(t, callTime), &trustv1.GetFederationRelationshipRequest{TrustDomain: "none.test"})
	wantCode(t, err, codes.NotFound)
	web.BundleEndpointUrl = "https://127.0.0.1:1/other"
	absent := proto.CloneOf(web)
	absent.TrustDomain = "none.test"
	updated, err := c.BatchUpdateFederationRelationship(deadline(t, callTime),
		&trustv1.BatchUpdateFederationRelationshipRequest{FederationRelationships: []*types.FederationRelationship{web, absent}})
	must(t, err)
	wantStatus(t, updated.Results[0].Status, codes.OK)
	wantStatus(t, updated.Results[1].Status, codes.NotFound)
	if updated.Results[0].FederationRelationship.BundleEndpointUrl != web.BundleEndpointUrl {
		t.Errorf("updated to %v", updated.Results[0])
	}
	_, err = c.RefreshBundle(deadline(t, callTime), &trustv1.RefreshBundleRequest{TrustDomain: "none.test"})
	wantCode(t, err, codes.NotFound)
	deleted, err := c.BatchDeleteFederationRelationship(deadline(t, callTime),
		&trustv1.BatchDeleteFederationRelationshipRequest{TrustDomains: []string{"web.test", "spiffe.test", "none.test"}})
	must(t, err)
	for at, wanted := range []codes.Code{codes.OK, codes.OK, codes.NotFound} {
		wantStatus(t, deleted.Results[at].Status, wanted)
	}
}
