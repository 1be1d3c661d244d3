package conformance

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

func foreignBundle(t *testing.T, name string) *types.Bundle {
	t.Helper()
	ca := newDomainCA(t, "spiffe://"+name)
	return &types.Bundle{TrustDomain: name, RefreshHint: 60, SequenceNumber: 1,
		X509Authorities: []*types.X509Certificate{{Asn1: ca.certificate.Raw}},
		JwtAuthorities:  []*types.JWTKey{{KeyId: "key-of-" + name, PublicKey: spki(t, newKey(t).Public())}}}
}

// Stores a bundle of another trust domain.
func (s *server) federate(t *testing.T, name string) *types.Bundle {
	t.Helper()
	bundle := foreignBundle(t, name)
	answer, err := s.operator(t).bundles.BatchSetFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{bundle}})
	must(t, err)
	wantStatus(t, answer.Results[0].Status, codes.OK)
	return bundle
}

const (
	restrict   = bundlev1.BatchDeleteFederatedBundleRequest_RESTRICT
	dissociate = bundlev1.BatchDeleteFederatedBundleRequest_DISSOCIATE
	remove     = bundlev1.BatchDeleteFederatedBundleRequest_DELETE
)

func (s *server) unfederate(
	t *testing.T, name string, mode bundlev1.BatchDeleteFederatedBundleRequest_Mode, wanted codes.Code,
) {
	t.Helper()
	answer, err := s.operator(t).bundles.BatchDeleteFederatedBundle(deadline(t, callTime),
		&bundlev1.BatchDeleteFederatedBundleRequest{TrustDomains: []string{name}, Mode: mode})
	must(t, err)
	wantStatus(t, answer.Results[0].Status, wanted)
	if answer.Results[0].TrustDomain != name {
		t.Errorf("the result is of %q", answer.Results[0].TrustDomain)
	}
}

func (s *server) getEntry(t *testing.T, id string) (*types.Entry, error) {
	t.Helper()
	return s.operator(t).entries.GetEntry(deadline(t, callTime), &entryv1.GetEntryRequest{Id: id})
}

func (a *agent) foreignBundle(t *testing.T, name string) (*types.Bundle, error) {
	t.Helper()
	return a.bundles.GetFederatedBundle(deadline(t, callTime), &bundlev1.GetFederatedBundleRequest{TrustDomain: name})
}

func TestS48FederatesWithNeedsABundle(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	known, unknown := uniqueName()+".test", uniqueName()+".test"
	bundle := s.federate(t, known)
	entry := entryOf(a.id, "/federated/"+uniqueName())
	entry.FederatesWith = []string{known, unknown}
	result := createEach(t, s.operator(t), []*types.Entry{entry})[0]
	t.Logf("an unknown trust domain: %v", result.Status)
	if code := codes.Code(result.Status.Code); code == codes.OK || result.Entry != nil {
		t.Fatalf("it was taken: %v", result)
	}
	entry.FederatesWith = []string{known}
	stored := s.createOne(t, entry)
	stored.FederatesWith = []string{unknown}
	answer, err := s.operator(t).entries.BatchUpdateEntry(deadline(t, callTime), &entryv1.BatchUpdateEntryRequest{
		Entries: []*types.Entry{stored}, InputMask: &types.EntryMask{FederatesWith: true}})
	must(t, err)
	if code := codes.Code(answer.Results[0].Status.Code); code == codes.OK {
		t.Fatal("a change to an unknown trust domain was taken")
	}
	got, err := a.foreignBundle(t, known)
	must(t, err)
	if !proto.Equal(got, bundle) {
		t.Errorf("the agent gets %v for %v", got, bundle)
	}
	_, err = a.foreignBundle(t, unknown)
	wantCode(t, err, codes.NotFound)
	_, err = a.foreignBundle(t, domain)
	wantCode(t, err, codes.InvalidArgument)
}

func TestS48BundleDeletion(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	name, other := uniqueName()+".test", uniqueName()+".test"
	s.federate(t, name)
	s.federate(t, other)
	of := func(domains ...string) *types.Entry {
		entry := entryOf(a.id, "/federated/"+uniqueName())
		entry.FederatesWith = domains
		return s.createOne(t, entry)
	}
	both, alone := of(name, other), of(name)

	s.unfederate(t, name, restrict, codes.FailedPrecondition)
	_, err := a.foreignBundle(t, name)
	must(t, err)

	s.unfederate(t, name, dissociate, codes.OK)
	_, err = a.foreignBundle(t, name)
	wantCode(t, err, codes.NotFound)
	for id, wanted := range map[string]int{both.Id: 1, alone.Id: 0} {
		entry, err := s.getEntry(t, id)
		must(t, err)
		if len(entry.FederatesWith) != wanted {
			t.Errorf("%v federates with %v", id, entry.FederatesWith)
		}
		if served := a.authorized(t)[id]; len(served.GetFederatesWith()) != wanted {
			t.Errorf("the agent is told that %v federates with %v", id, served.GetFederatesWith())
		}
	}

	s.unfederate(t, other, remove, codes.OK)
	_, err = s.getEntry(t, both.Id)
	wantCode(t, err, codes.NotFound)
	_, err = s.getEntry(t, alone.Id)
	must(t, err)
	served := a.authorized(t)
	if served[both.Id] != nil || served[alone.Id] == nil {
		t.Errorf("served are %v", sorted(served))
	}
	s.unfederate(t, other, restrict, codes.NotFound)

	s.federate(t, name)
	s.unfederate(t, name, restrict, codes.OK)
}

func TestS48DeletedBundleLeavesTheStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	own := s.ownAgent(t)
	s.federate(t, "foreign.test")
	entry := own.entry("/federated/stream")
	entry.FederatesWith = []string{"foreign.test"}
	s.createOne(t, entry)
	watcher := own.watch(t)
	foreign := spiffeid.RequireTrustDomainFromString("foreign.test")
	watcher.until("the foreign bundle", func(now *workloadapi.X509Context) bool { return now.Bundles.Has(foreign) })
	keys, err := workloadapi.NewBundleSource(deadline(t, callTime),
		workloadapi.WithClientOptions(workloadapi.WithAddr(own.address)))
	must(t, err)
	t.Cleanup(func() { keys.Close() })
	trustsKeys := func() bool {
		_, err := keys.GetJWTBundleForTrustDomain(foreign)
		return err == nil
	}
	until(t, followTime, "the foreign JWT keys", trustsKeys)
	s.unfederate(t, "foreign.test", dissociate, codes.OK)
	now := watcher.until("no foreign bundle", func(now *workloadapi.X509Context) bool { return !now.Bundles.Has(foreign) })
	if len(now.SVIDs) != 1 || !now.Bundles.Has(trustDomain) {
		t.Errorf("left are %d SVIDs and %d bundles", len(now.SVIDs), now.Bundles.Len())
	}
	until(t, followTime, "no foreign JWT keys", func() bool { return !trustsKeys() })
}
