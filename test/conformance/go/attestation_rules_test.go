package conformance

import (
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net/url"
	"strings"
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// What is malformed is refused as that, and spends no token.
func TestS02MalformedAttestation(t *testing.T) {
	s := theServer(t)
	token := s.joinToken(t, 600, nil)
	csr := csrFor(t, newKey(t))
	forged := append([]byte{}, csr...)
	forged[len(forged)-1] ^= 1
	step := func(data *types.AttestationData, csr []byte) *agentv1.AttestAgentRequest {
		params := &agentv1.AttestAgentRequest_Params{Data: data, Params: &agentv1.AgentX509SVIDParams{Csr: csr}}
		return &agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{Params: params}}
	}
	for name, one := range map[string]struct {
		first  *agentv1.AttestAgentRequest
		wanted codes.Code
	}{
		"nothing":              {&agentv1.AttestAgentRequest{}, codes.InvalidArgument},
		"an answer at once":    {&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_ChallengeResponse{ChallengeResponse: []byte("x")}}, codes.InvalidArgument},
		"no data":              {step(nil, csr), codes.InvalidArgument},
		"no type":              {step(&types.AttestationData{Payload: []byte(token)}, csr), codes.InvalidArgument},
		"no payload":           {step(&types.AttestationData{Type: "join_token"}, csr), codes.InvalidArgument},
		"another type":         {step(&types.AttestationData{Type: "no_such", Payload: []byte(token)}, csr), codes.FailedPrecondition},
		"no CSR":               {step(joinTokenData(token), nil), codes.InvalidArgument},
		"a garbled CSR":        {step(joinTokenData(token), []byte("garbage")), codes.InvalidArgument},
		"a CSR wrongly signed": {step(joinTokenData(token), forged), codes.InvalidArgument},
	} {
		stream, err := s.dial(t, nil).agents.AttestAgent(deadline(t, callTime))
		must(t, err)
		must(t, stream.Send(one.first))
		_, err = stream.Recv()
		t.Logf("%s: %v", name, err)
		wantCode(t, err, one.wanted)
	}
	must(t, s.tryJoin(t, token))
}

func TestS07MalformedRenewal(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	forged := csrFor(t, newKey(t))
	forged[len(forged)-1] ^= 1
	for name, request := range map[string]*agentv1.RenewAgentRequest{
		"nothing": {}, "no CSR": {Params: &agentv1.AgentX509SVIDParams{}},
		"garbage":        {Params: &agentv1.AgentX509SVIDParams{Csr: []byte("garbage")}},
		"wrongly signed": {Params: &agentv1.AgentX509SVIDParams{Csr: forged}},
	} {
		_, err := a.agents.RenewAgent(deadline(t, callTime), request)
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
	must(t, a.trySync(t))
}

// An agent's version is kept, also by a status that says nothing; too long a one is refused.
func TestS18AgentVersion(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	longest := strings.Repeat("v", 255)
	for _, one := range []struct {
		said   string
		wanted codes.Code
		kept   string
	}{{"1.2.3", codes.OK, "1.2.3"}, {"", codes.OK, "1.2.3"}, {longest, codes.OK, longest},
		{longest + "v", codes.InvalidArgument, longest}} {
		_, err := a.agents.PostStatus(deadline(t, callTime), &agentv1.PostStatusRequest{AgentVersion: one.said})
		wantCode(t, err, one.wanted)
		found, err := s.operator(t).agents.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
		must(t, err)
		if found.AgentVersion != one.kept {
			t.Errorf("after %.10q the version is %.10q", one.said, found.AgentVersion)
		}
	}
}

// A token's alias: an entry under the agent that selects it, gone with the agent.
func TestS08AliasGoesWithItsAgent(t *testing.T) {
	s := theServer(t)
	alias := idOf("/alias/" + uniqueName())
	a := s.attestWith(t, joinTokenData(s.joinToken(t, 600, alias)), nil)
	byAlias := &entryv1.ListEntriesRequest_Filter{BySpiffeId: alias}
	made := s.list(t, byAlias, 0)
	if len(made) != 1 || textOf(made[0].ParentId) != textOf(a.id) ||
		len(made[0].Selectors) != 1 || made[0].Selectors[0].Type != "spiffe_id" || made[0].Selectors[0].Value != textOf(a.id) {
		t.Fatalf("the alias %v of %s", made, textOf(a.id))
	}
	below := s.createOne(t, entryOf(alias, "/below/"+uniqueName()))
	if served := a.authorized(t); served[below.Id] == nil {
		t.Errorf("served are %v", sorted(served))
	}
	_, err := s.operator(t).agents.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: a.id})
	must(t, err)
	s.wantCount(t, byAlias, 0)
}

// What x509pop says of a node, as SPIRE's own plugin does.
func TestS03X509PopSelectors(t *testing.T) {
	ca := newNodeCA(t)
	s := ca.server(t)
	between, key := ca.below(t), newKey(t)
	san, err := url.Parse("x509pop://" + domain + "/datacenter/east")
	must(t, err)
	leaf := certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "a-node"}, URIs: []*url.URL{san},
		KeyUsage: x509.KeyUsageDigitalSignature}, key.Public(), between.certificate, between.key)
	a := s.attestWith(t, x509popData(t, leaf, between.certificate), popSolver(key, nil))
	found, err := s.operator(t).agents.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
	must(t, err)
	fingerprint := func(one *x509.Certificate) string {
		sum := sha1.Sum(one.Raw)
		return "x509pop:ca:fingerprint:" + hex.EncodeToString(sum[:])
	}
	wanted := setOf("x509pop:subject:cn:a-node", "x509pop:serialnumber:"+hex.EncodeToString(leaf.SerialNumber.Bytes()),
		fingerprint(between.certificate), fingerprint(ca.certificate), "x509pop:san:datacenter:east")
	if got := selectorSet(found.Selectors); strings.Join(sorted(got), "\n") != strings.Join(sorted(wanted), "\n") {
		t.Errorf("selectors %v, wanted %v", sorted(got), sorted(wanted))
	}
	if !found.CanReattest || found.AttestationType != "x509pop" {
		t.Errorf("the agent %v", found)
	}
}

// The TLS port itself: TLS 1.3, h2, one certificate, and no hint at whose client certificates are taken.
func TestS05TLSPort(t *testing.T) {
	s := theServer(t)
	a := s.newAgent(t, nil)
	config := s.tlsConfig(t, nil)
	var asked *tls.CertificateRequestInfo
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = info
		return a.pair, nil
	}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 2 {
		conn, err := tls.Dial("tcp", s.Address, config)
		must(t, err)
		state := conn.ConnectionState()
		if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" || state.DidResume {
			t.Errorf("version %x, protocol %s, resumed: %v", state.Version, state.NegotiatedProtocol, state.DidResume)
		}
		if len(state.PeerCertificates) != 1 || state.PeerCertificates[0].URIs[0].String() != serverID.String() {
			t.Errorf("%d certificates, the first of %v", len(state.PeerCertificates), state.PeerCertificates[0].URIs)
		}
		// A session ticket would come with the first bytes.
		_, _ = conn.Read(make([]byte, 1))
		must(t, conn.Close())
	}
	if asked == nil {
		t.Fatal("no client certificate is asked for")
	}
	t.Logf("%d names of authorities", len(asked.AcceptableCAs))
	if len(asked.AcceptableCAs) > 0 {
		if err := asked.SupportsCertificate(a.pair); err != nil {
			t.Errorf("a client that heeds the names of authorities would send nothing: %v", err)
		}
	}
}
