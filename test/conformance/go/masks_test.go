package conformance

import (
	"strings"
	"testing"
	"time"

	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	trustv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A mask, and what is left of a message under it.
type maskedCase struct{ mask, wanted proto.Message }

// The masks that name nothing, each one field, and everything; `always` is left by each.
func eachMask(t *testing.T, whole, mask proto.Message, always string) []maskedCase {
	t.Helper()
	every := proto.Clone(mask)
	cases := []maskedCase{{proto.Clone(mask), leaving(whole, always)}}
	names := mask.ProtoReflect().Descriptor().Fields()
	for at := range names.Len() {
		field := names.Get(at)
		one := proto.Clone(mask)
		for _, into := range []proto.Message{one, every} {
			into.ProtoReflect().Set(field, protoreflect.ValueOfBool(true))
		}
		cases = append(cases, maskedCase{one, leaving(whole, always, string(field.Name()))})
	}
	if names.Len() < 3 {
		t.Fatalf("a mask of %d fields", names.Len())
	}
	return append(cases, maskedCase{every, proto.Clone(whole)})
}

// A message without all but these fields; a oneof by its own name.
func leaving(whole proto.Message, names ...string) proto.Message {
	copied := proto.Clone(whole)
	kept := setOf(names...)
	copied.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		name := string(field.Name())
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			name = string(oneof.Name())
		}
		if !kept[name] {
			copied.ProtoReflect().Clear(field)
		}
		return true
	})
	return copied
}

// An entry in which every field is set.
func (s *server) fullEntry(t *testing.T, parent *types.SPIFFEID) *types.Entry {
	t.Helper()
	foreign := uniqueName() + ".test"
	s.federate(t, foreign)
	return &types.Entry{SpiffeId: idOf("/masked/" + uniqueName()), ParentId: parent,
		Selectors:   []*types.Selector{selector("uid:1"), selector("gid:2")},
		X509SvidTtl: 100, JwtSvidTtl: 50, DnsNames: []string{"a.test"}, Hint: "hint", Admin: true,
		Downstream: true, ExpiresAt: time.Now().Add(time.Hour).Unix(), StoreSvid: true,
		FederatesWith:        []string{foreign},
		AdditionalAttributes: &types.Entry_AdditionalAttributes{JwtSvidIncludeJti: true}}
}

func TestS18EntryOutputMasks(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).entries
	a := s.newAgent(t, nil)
	stored := s.createOne(t, s.fullEntry(t, a.id))
	filter := &entryv1.ListEntriesRequest_Filter{ByParentId: a.id}
	for _, one := range eachMask(t, stored, &types.EntryMask{}, "id") {
		mask := one.mask.(*types.EntryMask)
		got, err := c.GetEntry(deadline(t, callTime), &entryv1.GetEntryRequest{Id: stored.Id, OutputMask: mask})
		must(t, err)
		listed, err := c.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{Filter: filter, OutputMask: mask})
		must(t, err)
		served, err := a.entries.GetAuthorizedEntries(deadline(t, callTime),
			&entryv1.GetAuthorizedEntriesRequest{OutputMask: mask})
		must(t, err)
		again, err := c.BatchCreateEntry(deadline(t, callTime),
			&entryv1.BatchCreateEntryRequest{Entries: []*types.Entry{stored}, OutputMask: mask})
		must(t, err)
		for name, entry := range map[string]*types.Entry{
			"got": got, "listed": listed.Entries[0], "served": served.Entries[0], "created": again.Results[0].Entry} {
			if !proto.Equal(entry, one.wanted) {
				t.Errorf("%s by %v: %v", name, mask, entry)
			}
		}
	}
}

// Each field of an entry changes alone under its mask; what is the server's own never does.
func TestS18EntryInputMasks(t *testing.T) {
	s := theServer(t)
	before := s.createOne(t, s.fullEntry(t, idOf("/masks/node-"+uniqueName())))
	other := s.fullEntry(t, idOf("/masks/other-node"))
	other.Selectors = []*types.Selector{selector("uid:3")}
	other.X509SvidTtl, other.JwtSvidTtl, other.DnsNames, other.Hint = 200, 60, []string{"b.test"}, "other"
	other.Admin, other.Downstream, other.StoreSvid = false, false, false
	other.ExpiresAt += 60
	other.AdditionalAttributes = &types.Entry_AdditionalAttributes{}
	other.Id, other.RevisionNumber, other.CreatedAt = before.Id, 77, 1
	own := setOf("id", "revision_number", "created_at")
	fieldsOf := before.ProtoReflect().Descriptor().Fields()
	for at := range fieldsOf.Len() {
		field := fieldsOf.Get(at)
		mask := &types.EntryMask{}
		inMask := mask.ProtoReflect().Descriptor().Fields().ByName(field.Name())
		if inMask == nil {
			continue
		}
		mask.ProtoReflect().Set(inMask, protoreflect.ValueOfBool(true))
		after := s.update(t, other, mask)
		wanted := proto.CloneOf(before)
		wanted.RevisionNumber++
		if !own[string(field.Name())] {
			if other.ProtoReflect().Has(field) {
				wanted.ProtoReflect().Set(field, other.ProtoReflect().Get(field))
			} else {
				wanted.ProtoReflect().Clear(field)
			}
		}
		if !proto.Equal(after, wanted) {
			t.Errorf("%s: %v, wanted %v", field.Name(), after, wanted)
		}
		before = after
	}
	// What the mask names is checked, and what it leaves out is not.
	broken := &types.Entry{Id: before.Id, Hint: strings.Repeat("h", 1025)}
	for mask, wanted := range map[*types.EntryMask]codes.Code{
		{Hint: true}: codes.InvalidArgument, {Selectors: true}: codes.InvalidArgument,
		{SpiffeId: true}: codes.InvalidArgument, {X509SvidTtl: true}: codes.OK} {
		answer, err := s.operator(t).entries.BatchUpdateEntry(deadline(t, callTime),
			&entryv1.BatchUpdateEntryRequest{Entries: []*types.Entry{broken}, InputMask: mask,
				OutputMask: &types.EntryMask{X509SvidTtl: true}})
		must(t, err)
		wantStatus(t, answer.Results[0].Status, wanted)
		if wanted == codes.OK && !proto.Equal(answer.Results[0].Entry, &types.Entry{Id: before.Id}) {
			t.Errorf("by the mask %v", answer.Results[0].Entry)
		}
	}
}

func TestS18BundleMasks(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t).bundles
	foreign := s.federate(t, "masked.test")
	for _, one := range eachMask(t, foreign, &types.BundleMask{}, "trust_domain") {
		mask := one.mask.(*types.BundleMask)
		got, err := c.GetFederatedBundle(deadline(t, callTime),
			&bundlev1.GetFederatedBundleRequest{TrustDomain: "masked.test", OutputMask: mask})
		must(t, err)
		listed, err := c.ListFederatedBundles(deadline(t, callTime), &bundlev1.ListFederatedBundlesRequest{OutputMask: mask})
		must(t, err)
		set, err := c.BatchSetFederatedBundle(deadline(t, callTime),
			&bundlev1.BatchSetFederatedBundleRequest{Bundle: []*types.Bundle{foreign}, OutputMask: mask})
		must(t, err)
		updated, err := c.BatchUpdateFederatedBundle(deadline(t, callTime),
			&bundlev1.BatchUpdateFederatedBundleRequest{Bundle: []*types.Bundle{foreign}, OutputMask: mask})
		must(t, err)
		for name, bundle := range map[string]*types.Bundle{"got": got, "listed": listed.Bundles[0],
			"set": set.Results[0].Bundle, "updated": updated.Results[0].Bundle} {
			if !proto.Equal(bundle, one.wanted) {
				t.Errorf("%s by %v: %v", name, mask, bundle)
			}
		}
	}
	own := s.bundle(t)
	for _, one := range eachMask(t, own, &types.BundleMask{}, "trust_domain") {
		got, err := s.dial(t, nil).bundles.GetBundle(deadline(t, callTime),
			&bundlev1.GetBundleRequest{OutputMask: one.mask.(*types.BundleMask)})
		must(t, err)
		if !proto.Equal(got, one.wanted) {
			t.Errorf("the own bundle by %v: %v", one.mask, got)
		}
	}
	// An update changes what its mask names.
	other := foreignBundle(t, "masked.test")
	other.RefreshHint, other.SequenceNumber = 77, 9
	before := foreign
	for _, mask := range []*types.BundleMask{{RefreshHint: true}, {SequenceNumber: true}, {X509Authorities: true}, {JwtAuthorities: true}} {
		updated, err := c.BatchUpdateFederatedBundle(deadline(t, callTime),
			&bundlev1.BatchUpdateFederatedBundleRequest{Bundle: []*types.Bundle{other}, InputMask: mask})
		must(t, err)
		wantStatus(t, updated.Results[0].Status, codes.OK)
		wanted := proto.CloneOf(before)
		mask.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			named := wanted.ProtoReflect().Descriptor().Fields().ByName(field.Name())
			wanted.ProtoReflect().Set(named, other.ProtoReflect().Get(named))
			return true
		})
		if !proto.Equal(updated.Results[0].Bundle, wanted) {
			t.Errorf("by %v: %v, wanted %v", mask, updated.Results[0].Bundle, wanted)
		}
		before = updated.Results[0].Bundle
	}
}

func TestS18FederationMasksAndPages(t *testing.T) {
	s := startServer(t, fields{})
	c := s.operator(t).federation
	of := func(name string) *types.FederationRelationship {
		return &types.FederationRelationship{TrustDomain: name, BundleEndpointUrl: "https://127.0.0.1:1/" + name,
			BundleEndpointProfile: &types.FederationRelationship_HttpsSpiffe{
				HttpsSpiffe: &types.HTTPSSPIFFEProfile{EndpointSpiffeId: "spiffe://" + name + "/endpoint"}},
			TrustDomainBundle: foreignBundle(t, name)}
	}
	first := of("a.test")
	created, err := c.BatchCreateFederationRelationship(deadline(t, callTime),
		&trustv1.BatchCreateFederationRelationshipRequest{FederationRelationships: []*types.FederationRelationship{
			first, of("b.test"), of("c.test"), of("d.test"), of("e.test")}})
	must(t, err)
	for _, result := range created.Results {
		wantStatus(t, result.Status, codes.OK)
	}
	for _, one := range eachMask(t, first, &types.FederationRelationshipMask{}, "trust_domain") {
		mask := one.mask.(*types.FederationRelationshipMask)
		got, err := c.GetFederationRelationship(deadline(t, callTime),
			&trustv1.GetFederationRelationshipRequest{TrustDomain: "a.test", OutputMask: mask})
		must(t, err)
		listed, err := c.ListFederationRelationships(deadline(t, callTime),
			&trustv1.ListFederationRelationshipsRequest{OutputMask: mask, PageSize: 1})
		must(t, err)
		if !proto.Equal(got, one.wanted) || !proto.Equal(listed.FederationRelationships[0], one.wanted) {
			t.Errorf("by %v: %v and %v", mask, got, listed)
		}
	}
	names, pages := []string{}, 0
	for token := ""; ; {
		page, err := c.ListFederationRelationships(deadline(t, callTime),
			&trustv1.ListFederationRelationshipsRequest{PageSize: 2, PageToken: token})
		must(t, err)
		pages++
		for _, one := range page.FederationRelationships {
			names = append(names, one.TrustDomain)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "a.test b.test c.test d.test e.test" || pages != 3 {
		t.Errorf("in %d pages %s", pages, got)
	}
	// An update changes what its mask names.
	other := proto.CloneOf(first)
	other.BundleEndpointUrl = "https://127.0.0.1:1/other"
	other.BundleEndpointProfile = &types.FederationRelationship_HttpsWeb{HttpsWeb: &types.HTTPSWebProfile{}}
	for _, step := range []struct {
		mask   *types.FederationRelationshipMask
		change func()
	}{
		{&types.FederationRelationshipMask{BundleEndpointUrl: true}, func() { first.BundleEndpointUrl = other.BundleEndpointUrl }},
		{&types.FederationRelationshipMask{BundleEndpointProfile: true}, func() { first.BundleEndpointProfile = other.BundleEndpointProfile }},
	} {
		updated, err := c.BatchUpdateFederationRelationship(deadline(t, callTime),
			&trustv1.BatchUpdateFederationRelationshipRequest{
				FederationRelationships: []*types.FederationRelationship{other}, InputMask: step.mask})
		must(t, err)
		wantStatus(t, updated.Results[0].Status, codes.OK)
		step.change()
		if got := updated.Results[0].FederationRelationship; !proto.Equal(got, first) {
			t.Errorf("by %v: %v, wanted %v", step.mask, got, first)
		}
	}
}
