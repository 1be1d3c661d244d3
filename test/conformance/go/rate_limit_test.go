package conformance

import (
	"context"
	"testing"
	"time"

	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"google.golang.org/grpc/codes"
)

// A token comes back each second: three attestations at once take two seconds together.
func TestS21AttestationsWait(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": true, "signing": true}})
	tokens := []string{s.joinToken(t, 600, nil), s.joinToken(t, 600, nil), s.joinToken(t, 600, nil)}
	c, ctx := s.dial(t, nil), deadline(t, callTime)
	start := time.Now()
	ended := make(chan error, len(tokens))
	for _, token := range tokens {
		csr := csrFor(t, newKey(t))
		go func() {
			_, err := attest(ctx, c, joinTokenData(token), csr, nil)
			ended <- err
		}()
	}
	for range tokens {
		must(t, <-ended)
	}
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("three attestations took %s", took)
	}
}

// One that cannot be served within its deadline is told so; its token is not spent.
func TestS21AttestationWithoutTimeToWait(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": true, "signing": true}})
	first, second := s.joinToken(t, 600, nil), s.joinToken(t, 600, nil)
	c := s.dial(t, nil)
	_, err := attest(deadline(t, callTime), c, joinTokenData(first), csrFor(t, newKey(t)), nil)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = attest(ctx, c, joinTokenData(second), csrFor(t, newKey(t)), nil)
	wantCode(t, err, codes.ResourceExhausted, codes.DeadlineExceeded)
	_, err = attest(deadline(t, callTime), c, joinTokenData(second), csrFor(t, newKey(t)), nil)
	must(t, err)
}

// Signing has 500 a second: what is beyond waits as well.
func TestS21SigningWaits(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": false, "signing": true}})
	a := s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(a.id, "/limited/"+uniqueName()))
	csr := csrFor(t, newKey(t))
	params := make([]*svidv1.NewX509SVIDParams, 500)
	for at := range params {
		params[at] = &svidv1.NewX509SVIDParams{EntryId: entry.Id, Csr: csr}
	}
	start := time.Now()
	for range 3 {
		for _, result := range a.tryX509(t, params...) {
			wantStatus(t, result.Status, codes.OK)
		}
	}
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("1,500 signatures took %s", took)
	}
}

// Switched off, nobody waits; the operator's socket never does.
func TestS21LimitsOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": false, "signing": false}})
	start := time.Now()
	const agents = 12
	for range agents {
		s.newAgent(t, nil)
	}
	if took := time.Since(start); took > (agents-1)*time.Second {
		t.Errorf("%d attestations took %s", agents, took)
	}
}
