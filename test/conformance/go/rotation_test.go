package conformance

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

const (
	shortCA = 72 * time.Second
	// How far from its planned time a step may be.
	stepTime = 5 * time.Second
)

// Server with authorities of a short life, and SVIDs that fit into a sixth of it.
func startRotating(t *testing.T) *server {
	t.Helper()
	return startServer(t, fields{
		"ca":  fields{"ttl": "72s"},
		"ttl": fields{"x509_svid": "12s", "agent_svid": "36s", "jwt_svid": "12s"}})
}

// When something was seen first: it came about between the beginning of the last look that did not see it
// and the end of the one that did.
type sighting struct{ after, by time.Time }

// When authorities were first seen in the bundle, and first seen to sign.
type sightings struct {
	published, signed map[string]sighting
	// When the looks at each of the two began last.
	publishedLook, signedLook time.Time
}

func newSightings() *sightings {
	return &sightings{published: map[string]sighting{}, signed: map[string]sighting{}}
}

// Looks at what is published.
func (s *sightings) publish(look func() map[string]bool) {
	begun := time.Now()
	for id := range look() {
		if _, known := s.published[id]; !known {
			s.published[id] = sighting{s.publishedLook, time.Now()}
		}
	}
	s.publishedLook = begun
}

// Looks at who signs.
func (s *sightings) sign(look func() string) {
	begun := time.Now()
	id := look()
	if _, known := s.signed[id]; !known {
		s.signed[id] = sighting{s.signedLook, time.Now()}
	}
	s.signedLook = begun
}

// Checks a successor: in the bundle at half of the first one's life, signing at five sixths.
func (s *sightings) check(t *testing.T, first string, end time.Time) {
	t.Helper()
	for id, signed := range s.signed {
		published, known := s.published[id]
		if !known || (id != first && published.by.After(signed.after)) {
			t.Errorf("%s signs %v, published %v", id, signed, published)
		}
		if id == first {
			continue
		}
		wantAbout(t, "published", published, end.Add(-shortCA/2))
		wantAbout(t, "signs", signed, end.Add(-shortCA/6))
	}
	if len(s.signed) != 2 {
		t.Errorf("%d authorities signed", len(s.signed))
	}
}

func wantAbout(t *testing.T, what string, got sighting, planned time.Time) {
	t.Helper()
	t.Logf("%s between %s and %s after the plan", what,
		got.after.Sub(planned).Round(time.Millisecond), got.by.Sub(planned).Round(time.Millisecond))
	if got.by.Before(planned.Add(-stepTime)) || got.after.After(planned.Add(stepTime)) {
		t.Errorf("%s at %s to %s, planned for %s", what, got.after, got.by, planned)
	}
}

func TestS51AuthoritiesRotate(t *testing.T) {
	t.Parallel()
	s := startRotating(t)
	own := s.ownAgent(t)
	s.createOne(t, own.entry("/rotating/own"))
	source := own.source(t)
	raw := s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(raw.id, "/rotating/raw"))
	x509All, jwtAll := x509Authorities(t, s), jwtAuthorities(t, s)
	firstX509, _, _, err := x509All.state()
	must(t, err)
	firstJWT, _, _, err := jwtAll.state()
	must(t, err)
	root := trustedBy(source)[firstX509]
	if root == nil {
		t.Fatal("the workload does not trust the active authority")
	}
	end := root.NotAfter

	x509Seen, jwtSeen, workloadSeen := newSightings(), newSightings(), newSightings()
	renewAt := time.Now().Add(5 * time.Second)
	for ; time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(renewAt) {
			raw, renewAt = raw.renew(t, s), time.Now().Add(5*time.Second)
		}
		workloadSeen.see(t, source)
		var bundle *types.Bundle
		x509Seen.publish(func() map[string]bool {
			bundle = s.bundle(t)
			return x509IDs(t, bundle)
		})
		jwtSeen.publish(func() map[string]bool { return jwtIDs(bundle) })
		x509Seen.sign(func() string {
			leaf := raw.x509SVID(t, entry.Id).leaf
			wantWithin(t, leaf, bundle)
			return hexID(leaf.AuthorityKeyId)
		})
		jwtSeen.sign(func() string {
			header, _ := jwtParts(t, raw.jwtSVID(t, entry.Id, "audience").Token)
			return header["kid"].(string)
		})
	}
	x509Seen.check(t, firstX509, end)
	jwtSeen.check(t, firstJWT, end)
	workloadSeen.follows(t, x509Seen)
}

// No leaf outlives its authority.
func wantWithin(t *testing.T, leaf *x509.Certificate, bundle *types.Bundle) {
	t.Helper()
	for _, authority := range x509Bundle(t, bundle).X509Authorities() {
		if hexID(authority.SubjectKeyId) == hexID(leaf.AuthorityKeyId) && leaf.NotAfter.After(authority.NotAfter) {
			t.Fatalf("a leaf ends %s, its authority %s", leaf.NotAfter, authority.NotAfter)
		}
	}
}

// What a workload has must verify against what it trusts, at any time.
func (s *sightings) see(t *testing.T, source *workloadapi.X509Source) {
	t.Helper()
	s.publish(func() map[string]bool {
		ids := map[string]bool{}
		for id := range trustedBy(source) {
			ids[id] = true
		}
		return ids
	})
	s.sign(func() string { return signedBy(wantVerified(t, source)) })
}

// The workload came to trust an authority before that signed anything anywhere, and got SVIDs of it.
func (s *sightings) follows(t *testing.T, server *sightings) {
	t.Helper()
	for id, signed := range server.signed {
		trusted, known := s.published[id]
		if !known || (!signed.after.IsZero() && trusted.by.After(signed.by)) {
			t.Errorf("the workload trusts %s from %v on, it signs from %v on", id, trusted, signed)
		}
	}
	if len(s.signed) != 2 {
		t.Errorf("the workload saw SVIDs of %s", strings.Join(sorted(s.signed), " "))
	}
}
