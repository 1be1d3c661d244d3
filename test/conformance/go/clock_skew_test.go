package conformance

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const skew = 8 * time.Second

func TestS55ClocksThatDiffer(t *testing.T) {
	s := theServer(t)
	for name, off := range map[string]time.Duration{"behind": -skew, "ahead": skew} {
		now := func() time.Time { return time.Now().Add(off) }
		// What was made just now is verified at once: by the agent's clock it may be from the future.
		config := s.tlsConfig(t, nil)
		verifyPeer := config.VerifyPeerCertificate
		config.Time = now
		config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
			if _, _, err := x509svid.ParseAndVerify(raw, x509Bundle(t, s.bundle(t)), x509svid.WithTime(now())); err != nil {
				return err
			}
			return verifyPeer(raw, chains)
		}
		key := newKey(t)
		c := connect(t, s.Address, tlsOf(config))
		result, err := attest(deadline(t, callTime), c, joinTokenData(s.joinToken(t, 600, nil)), csrFor(t, key), nil)
		must(t, err)
		a := s.agentOf(t, result.Svid, key)
		must(t, a.trySync(t))
		wantValidAt(t, s, &issued{leaf: a.leaf, chain: a.chain}, now())

		entry := s.createOne(t, entryOf(a.id, "/skew/"+uniqueName()))
		wantValidAt(t, s, a.x509SVID(t, entry.Id), now())
		token := a.jwtSVID(t, entry.Id, "audience")
		// As an agent judges a token: iat and exp alone.
		if token.IssuedAt > now().Add(skew).Unix() || token.ExpiresAt <= now().Unix() {
			t.Errorf("%s: a token from %d to %d", name, token.IssuedAt, token.ExpiresAt)
		}
		_, err = jwtsvid.ParseAndValidate(token.Token, jwtBundle(t, s.bundle(t)), []string{"audience"})
		must(t, err)
		_, claims := jwtParts(t, token.Token)
		if notBefore, set := claims["nbf"].(float64); set && int64(notBefore) > now().Unix() {
			t.Errorf("%s: nbf %v", name, notBefore)
		}
	}
	for _, root := range x509Bundle(t, s.bundle(t)).X509Authorities() {
		if root.NotBefore.After(time.Now().Add(-skew)) {
			t.Errorf("the authority is valid from %s", root.NotBefore)
		}
	}
}

// A new server's authority and SVID, at once, by a clock that is behind.
func TestS55NewServerAndClockBehind(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	_, _, err := x509svid.Verify(s.ownCertificates(t), x509Bundle(t, s.bundle(t)), x509svid.WithTime(time.Now().Add(-skew)))
	must(t, err)
}

func wantValidAt(t *testing.T, s *server, svid *issued, at time.Time) {
	t.Helper()
	_, _, err := x509svid.Verify(svid.certificates(t), x509Bundle(t, s.bundle(t)), x509svid.WithTime(at))
	must(t, err)
	if slack := at.Sub(svid.leaf.NotBefore); slack < 0 {
		t.Errorf("valid from %s, it is %s", svid.leaf.NotBefore, at)
	}
}
