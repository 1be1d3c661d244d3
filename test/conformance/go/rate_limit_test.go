package conformance

import (
	"context"
	"net"
	"testing"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// A token comes back each second: three attestations at once take two seconds together.
func TestS21AttestationsWait(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": true, "signing": true}})
	tokens := []string{s.joinToken(t, 600, nil), s.joinToken(t, 600, nil), s.joinToken(t, 600, nil)}
	ctx := deadline(t, callTime)
	start := time.Now()
	ended := make(chan error, len(tokens))
	for _, token := range tokens {
		// The limit is the address's, not the connection's.
		c, csr := s.dial(t, nil), csrFor(t, newKey(t))
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
	const others = 6
	token, c := s.joinToken(t, 600, nil), s.dial(t, nil)
	waiting, ctx := make(chan error, others), deadline(t, callTime)
	for range others {
		one, csr := s.joinToken(t, 600, nil), csrFor(t, newKey(t))
		go func() {
			_, err := attest(ctx, c, joinTokenData(one), csr, nil)
			waiting <- err
		}()
	}
	// The first is served at once; behind the others one waits for seconds.
	must(t, <-waiting)
	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := attest(short, c, joinTokenData(token), csrFor(t, newKey(t)), nil)
	wantCode(t, err, codes.ResourceExhausted, codes.DeadlineExceeded)
	for range others - 1 {
		must(t, <-waiting)
	}
	_, err = attest(deadline(t, callTime), c, joinTokenData(token), csrFor(t, newKey(t)), nil)
	must(t, err)
}

// Each address has its own bucket, however long the queue of another one is.
func TestS21AttestationsByAddress(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": true, "signing": true}})
	const others = 20
	c, neighbour := s.dial(t, nil), s.dialFrom(t, "127.0.0.2")
	token := s.joinToken(t, 600, nil)
	ctx, cancel := context.WithCancel(context.Background())
	waiting := make(chan error, others)
	for range others {
		one, csr := s.joinToken(t, 600, nil), csrFor(t, newKey(t))
		go func() {
			_, err := attest(ctx, c, joinTokenData(one), csr, nil)
			waiting <- err
		}()
	}
	must(t, <-waiting)
	_, err := attest(deadline(t, callTime), neighbour, joinTokenData(token), csrFor(t, newKey(t)), nil)
	must(t, err)
	if len(waiting) == others-1 {
		t.Error("it waited until the whole queue of another address was served")
	}
	cancel()
	for range others - 1 {
		<-waiting
	}
}

// A connection from another address of this machine.
func (s *server) dialFrom(t *testing.T, address string) *connection {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return connect(t, s.Address, tlsOf(s.tlsConfig(t, nil)),
		grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", target)
		}))
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

// An agent's status has 10 a second.
func TestS21StatusWaits(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	start := time.Now()
	for range 31 {
		_, err := a.agents.PostStatus(deadline(t, callTime), &agentv1.PostStatusRequest{AgentVersion: "1.2.3"})
		must(t, err)
	}
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("31 calls took %s", took)
	}
}

// Switched off, nobody waits: on a machine that is busy now, then in one of a few rounds.
func TestS21LimitsOff(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{"rate_limits": fields{"attestation": false, "signing": false}})
	const agents, rounds = 24, 5
	took := time.Duration(0)
	for range rounds {
		if took = s.timeAttestations(t, agents); took < (agents-1)*time.Second {
			return
		}
	}
	t.Errorf("%d attestations took %s, as if each waited for its second", agents, took)
}

// How long so many attestations take, a few at a time.
func (s *server) timeAttestations(t *testing.T, agents int) time.Duration {
	t.Helper()
	tokens := make(chan string, agents)
	for range agents {
		tokens <- s.joinToken(t, 600, nil)
	}
	close(tokens)
	c, csr, ctx := s.dial(t, nil), csrFor(t, newKey(t)), deadline(t, 5*callTime)
	ended := make(chan error, agents)
	start := time.Now()
	for range 4 {
		go func() {
			for token := range tokens {
				_, err := attest(ctx, c, joinTokenData(token), csr, nil)
				ended <- err
			}
		}()
	}
	for range agents {
		must(t, <-ended)
	}
	return time.Since(start)
}
