package conformance

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

// What a workload last saw on its stream.
type seen struct {
	t    *testing.T
	last chan *workloadapi.X509Context
}

func (s *seen) OnX509ContextUpdate(now *workloadapi.X509Context) {
	select {
	case <-s.last:
	default:
	}
	s.last <- now
}

func (s *seen) OnX509ContextWatchError(err error) { s.t.Logf("the stream says: %v", err) }

// Watches as a workload of this process does.
func (o *ownAgent) watch(t *testing.T) *seen {
	t.Helper()
	watcher := &seen{t, make(chan *workloadapi.X509Context, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(o.address))
	must(t, err)
	go func() {
		defer close(ended)
		_ = client.WatchX509Context(ctx, watcher)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		client.Close()
	})
	return watcher
}

// Waits for a message that holds something.
func (s *seen) until(what string, holds func(*workloadapi.X509Context) bool) *workloadapi.X509Context {
	s.t.Helper()
	timer := time.NewTimer(followTime)
	defer timer.Stop()
	for {
		select {
		case now := <-s.last:
			if holds(now) {
				return now
			}
		case <-timer.C:
			s.t.Fatalf("not within %s: %s", followTime, what)
		}
	}
}

func TestS14FieldsReachTheWorkload(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	own := s.ownAgent(t)
	bundle := s.federate(t, "foreign.test")
	entry := own.entry("/reached/" + uniqueName())
	entry.X509SvidTtl, entry.JwtSvidTtl = 600, 60
	entry.DnsNames, entry.Hint = []string{"first.test", "second.test"}, "internal"
	entry.FederatesWith = []string{"foreign.test"}
	stored := s.createOne(t, entry)
	watcher := own.watch(t)
	now := watcher.until("the entry's SVID", func(now *workloadapi.X509Context) bool { return len(now.SVIDs) == 1 })
	wantReached(t, now.DefaultSVID(), stored)
	foreign, err := now.Bundles.GetX509BundleForTrustDomain(spiffeid.RequireTrustDomainFromString("foreign.test"))
	must(t, err)
	if !foreign.HasX509Authority(parsed(t, bundle.X509Authorities[0].Asn1)) {
		t.Error("the foreign bundle is another one")
	}
	token, err := workloadapi.FetchJWTSVID(deadline(t, callTime), jwtsvid.Params{Audience: "audience"},
		workloadapi.WithAddr(own.address))
	must(t, err)
	_, claims := jwtParts(t, token.Marshal())
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 60 || token.Hint != "internal" {
		t.Errorf("the token lives for %v s, its hint is %q", life, token.Hint)
	}

	stored.DnsNames, stored.Hint, stored.X509SvidTtl = []string{"third.test"}, "external", 300
	stored.FederatesWith = nil
	changed := s.update(t, stored, &types.EntryMask{DnsNames: true, Hint: true, X509SvidTtl: true, FederatesWith: true})
	if changed.RevisionNumber != stored.RevisionNumber+1 {
		t.Fatalf("revision %d after %d", changed.RevisionNumber, stored.RevisionNumber)
	}
	now = watcher.until("the changed entry's SVID", func(now *workloadapi.X509Context) bool {
		svid := now.DefaultSVID()
		return svid.Hint == "external" && svid.Certificates[0].Subject.CommonName == "third.test" && now.Bundles.Len() == 1
	})
	wantReached(t, now.DefaultSVID(), changed)
}

func wantReached(t *testing.T, svid *x509svid.SVID, entry *types.Entry) {
	t.Helper()
	leaf := svid.Certificates[0]
	if svid.ID.String() != textOf(entry.SpiffeId) || svid.Hint != entry.Hint {
		t.Errorf("the SVID is of %s, its hint %q", svid.ID, svid.Hint)
	}
	if !reflect.DeepEqual(leaf.DNSNames, entry.DnsNames) || leaf.Subject.CommonName != entry.DnsNames[0] {
		t.Errorf("DNS names %v, CN %s", leaf.DNSNames, leaf.Subject.CommonName)
	}
	// It is backdated, so that clocks may differ.
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	asked := time.Duration(entry.X509SvidTtl) * time.Second
	if life < asked || life > asked+30*time.Second {
		t.Errorf("it lives for %s, asked were %s", life, asked)
	}
}
