package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const (
	shortCA = 48 * time.Second
	// How much later than planned a step may be seen: a look takes some time.
	lookTime = 6 * time.Second
)

// Server with authorities of a short life, and SVIDs that fit into a sixth of it.
func startRotating(t *testing.T) *server {
	t.Helper()
	return startServer(t, fields{
		"ca":  fields{"ttl": "48s"},
		"ttl": fields{"x509_svid": "8s", "agent_svid": "24s", "jwt_svid": "8s"}})
}

// When an authority was first seen in the bundle, and first seen to sign.
type sightings struct {
	published, signed map[string]time.Time
}

func newSightings() *sightings {
	return &sightings{map[string]time.Time{}, map[string]time.Time{}}
}

func (s *sightings) publish(ids map[string]bool, at time.Time) {
	for id := range ids {
		if _, known := s.published[id]; !known {
			s.published[id] = at
		}
	}
}

func (s *sightings) sign(id string, at time.Time) {
	if _, known := s.signed[id]; !known {
		s.signed[id] = at
	}
}

// Checks a successor: in the bundle at half of the first one's life, signing at five sixths.
func (s *sightings) check(t *testing.T, first string, end time.Time) {
	t.Helper()
	for id, at := range s.signed {
		if published, known := s.published[id]; !known || published.After(at) {
			t.Errorf("%s signs from %s on, published %s", id, at, published)
		}
		if id == first {
			continue
		}
		wantAbout(t, "published", s.published[id], end.Add(-shortCA/2))
		wantAbout(t, "signs", at, end.Add(-shortCA/6))
	}
	if len(s.signed) != 2 {
		t.Errorf("%d authorities signed", len(s.signed))
	}
}

func wantAbout(t *testing.T, what string, got, planned time.Time) {
	t.Helper()
	t.Logf("%s %s after the plan", what, got.Sub(planned).Round(time.Millisecond))
	if got.Before(planned.Add(-lookTime)) || got.After(planned.Add(lookTime)) {
		t.Errorf("%s at %s, planned for %s", what, got, planned)
	}
}

func TestS51AuthoritiesRotate(t *testing.T) {
	t.Parallel()
	s := startRotating(t)
	raw, own := s.newAgent(t, nil), s.ownAgent(t)
	entry := s.createOne(t, entryOf(raw.id, "/rotating/raw"))
	s.createOne(t, own.entry("/rotating/own"))
	source := own.source(t)
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
		bundle := s.bundle(t)
		x509Seen.publish(x509IDs(t, bundle), time.Now())
		jwtSeen.publish(jwtIDs(bundle), time.Now())
		svid := raw.x509SVID(t, entry.Id)
		x509Seen.sign(hexID(svid.leaf.AuthorityKeyId), time.Now())
		for _, authority := range x509Bundle(t, bundle).X509Authorities() {
			if hexID(authority.SubjectKeyId) == hexID(svid.leaf.AuthorityKeyId) && svid.leaf.NotAfter.After(authority.NotAfter) {
				t.Fatalf("a leaf ends %s, its authority %s", svid.leaf.NotAfter, authority.NotAfter)
			}
		}
		header, _ := jwtParts(t, raw.jwtSVID(t, entry.Id, "audience").Token)
		jwtSeen.sign(header["kid"].(string), time.Now())
		workloadSeen.see(t, source)
		if time.Now().After(renewAt) {
			raw, renewAt = raw.renew(t, s), time.Now().Add(5*time.Second)
		}
	}
	x509Seen.check(t, firstX509, end)
	jwtSeen.check(t, firstJWT, end)
	for id := range workloadSeen.signed {
		if _, known := workloadSeen.published[id]; !known {
			t.Errorf("the workload has an SVID of %s, which it does not trust", id)
		}
	}
	if len(workloadSeen.signed) != 2 {
		t.Errorf("the workload saw SVIDs of %s", strings.Join(sorted(workloadSeen.signed), " "))
	}
}

// What a workload has must verify against what it trusts, at any time.
func (s *sightings) see(t *testing.T, source *workloadapi.X509Source) {
	t.Helper()
	for id := range trustedBy(source) {
		s.publish(map[string]bool{id: true}, time.Now())
	}
	s.sign(signedBy(wantVerified(t, source)), time.Now())
}
