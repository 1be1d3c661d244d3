package conformance

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What SPIRE's command line writes for an instant.
const cliInstant = "2006-01-02 15:04:05 -0700 -07"

// The reference for a whole filter.
func passesAgent(filter *agentv1.ListAgentsRequest_Filter, a *types.Agent, before time.Time) bool {
	if filter.ByAttestationType != "" && filter.ByAttestationType != a.AttestationType {
		return false
	}
	if by := filter.BySelectorMatch; by != nil &&
		!matches(int32(by.Match), selectorSet(by.Selectors), selectorSet(a.Selectors)) {
		return false
	}
	if by := filter.ByBanned; by != nil && by.Value != a.Banned {
		return false
	}
	if by := filter.ByCanReattest; by != nil && by.Value != a.CanReattest {
		return false
	}
	return filter.ByExpiresBefore == "" || time.Unix(a.X509SvidExpiresAt, 0).Before(before)
}

func (s *server) agentsBy(t *testing.T, filter *agentv1.ListAgentsRequest_Filter, pageSize int32) []*types.Agent {
	t.Helper()
	var all []*types.Agent
	for token := ""; ; {
		page, err := s.operator(t).agents.ListAgents(deadline(t, callTime), &agentv1.ListAgentsRequest{
			Filter: filter, PageSize: pageSize, PageToken: token})
		must(t, err)
		if pageSize > 0 && len(page.Agents) > int(pageSize) {
			t.Fatalf("%d on a page of %d", len(page.Agents), pageSize)
		}
		all = append(all, page.Agents...)
		if token = page.NextPageToken; token == "" {
			return all
		}
	}
}

func agentNames(agents []*types.Agent) string {
	set := map[string]bool{}
	for _, one := range agents {
		set[textOf(one.Id)] = true
	}
	return fmt.Sprintf("%d: %s", len(agents), strings.Join(sorted(set), " "))
}

// Agents of both kinds, some of them banned; two nodes of each name, so that selectors are shared.
func (s *server) mixedAgents(t *testing.T, ca *nodeCA) []*types.Agent {
	t.Helper()
	var ids []*types.SPIFFEID
	for at := range 4 {
		key := newKey(t)
		leaf := certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: fmt.Sprintf("node-%d", at/2)},
			KeyUsage: x509.KeyUsageDigitalSignature}, key.Public(), ca.certificate, ca.key)
		ids = append(ids, s.attestWith(t, x509popData(t, leaf), popSolver(key, nil)).id, s.newAgent(t, nil).id)
	}
	c := s.operator(t).agents
	for _, id := range ids[:2] {
		_, err := c.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: id})
		must(t, err)
	}
	var all []*types.Agent
	for _, id := range ids {
		one, err := c.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: id})
		must(t, err)
		all = append(all, one)
	}
	return all
}

func TestS17AgentFiltersAsTheModel(t *testing.T) {
	const seed = 1
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	ca := newNodeCA(t)
	s := ca.server(t)
	all := s.mixedAgents(t, ca)
	if listed := s.agentsBy(t, nil, 3); agentNames(listed) != agentNames(all) {
		t.Fatalf("listed are %s, there are %s", agentNames(listed), agentNames(all))
	}
	var selectors []*types.Selector
	for name := range selectorSet(append(append([]*types.Selector{}, all[0].Selectors...), all[6].Selectors...)) {
		kind, value, _ := strings.Cut(name, ":")
		selectors = append(selectors, &types.Selector{Type: kind, Value: value})
	}
	found := 0
	for round := range filterRounds {
		filter := &agentv1.ListAgentsRequest_Filter{}
		before := time.Now().Add(-time.Hour)
		if random.Intn(2) == 0 {
			filter.BySelectorMatch = &types.SelectorMatch{Selectors: some(random, selectors),
				Match: types.SelectorMatch_MatchBehavior(random.Intn(4))}
			if random.Intn(3) == 0 {
				filter.BySelectorMatch.Selectors = all[random.Intn(4)*2].Selectors
			}
		}
		if random.Intn(3) == 0 {
			filter.ByAttestationType = []string{"join_token", "x509pop", "none"}[random.Intn(3)]
		}
		if random.Intn(3) == 0 {
			filter.ByBanned = wrapperspb.Bool(random.Intn(2) == 0)
		}
		if random.Intn(3) == 0 {
			filter.ByCanReattest = wrapperspb.Bool(random.Intn(2) == 0)
		}
		if random.Intn(3) == 0 {
			before = []time.Time{before, time.Now().Add(48 * time.Hour)}[random.Intn(2)]
			filter.ByExpiresBefore = before.Format(cliInstant)
		}
		var wanted []*types.Agent
		for _, one := range all {
			if passesAgent(filter, one, before) {
				wanted = append(wanted, one)
			}
		}
		got := s.agentsBy(t, filter, int32(random.Intn(4)))
		if agentNames(got) != agentNames(wanted) {
			t.Fatalf("round %d, %v: got %s, the model says %s", round, filter, agentNames(got), agentNames(wanted))
		}
		s.wantAgentCount(t, filter, len(wanted))
		found += len(wanted)
	}
	if found < filterRounds {
		t.Errorf("the filters say too little: %d agents found", found)
	}
}

func (s *server) wantAgentCount(t *testing.T, filter *agentv1.ListAgentsRequest_Filter, wanted int) {
	t.Helper()
	counted, err := s.operator(t).agents.CountAgents(deadline(t, callTime), &agentv1.CountAgentsRequest{
		Filter: &agentv1.CountAgentsRequest_Filter{ByAttestationType: filter.ByAttestationType,
			BySelectorMatch: filter.BySelectorMatch, ByBanned: filter.ByBanned,
			ByCanReattest: filter.ByCanReattest, ByExpiresBefore: filter.ByExpiresBefore}})
	must(t, err)
	if int(counted.Count) != wanted {
		t.Fatalf("%v: counted %d of %d", filter, counted.Count, wanted)
	}
}

func TestS17AgentFiltersRefused(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).agents
	for name, filter := range map[string]*agentv1.ListAgentsRequest_Filter{
		"no selectors":             {BySelectorMatch: &types.SelectorMatch{}},
		"a selector without type":  {BySelectorMatch: &types.SelectorMatch{Selectors: []*types.Selector{{Value: "v"}}}},
		"a selector without value": {BySelectorMatch: &types.SelectorMatch{Selectors: []*types.Selector{{Type: "t"}}}},
		"no instant":               {ByExpiresBefore: "yesterday"},
		"another form":             {ByExpiresBefore: "2026-01-02T15:04:05Z"},
	} {
		_, err := c.ListAgents(deadline(t, callTime), &agentv1.ListAgentsRequest{Filter: filter})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
		_, err = c.CountAgents(deadline(t, callTime), &agentv1.CountAgentsRequest{
			Filter: &agentv1.CountAgentsRequest_Filter{BySelectorMatch: filter.BySelectorMatch,
				ByExpiresBefore: filter.ByExpiresBefore}})
		wantCode(t, err, codes.InvalidArgument)
	}
}

// Each field by itself, on one agent and in a list.
func TestS18AgentMasks(t *testing.T) {
	ca := newNodeCA(t)
	s := ca.server(t)
	key := newKey(t)
	a := s.attestWith(t, x509popData(t, ca.node(t, key.Public())), popSolver(key, nil))
	_, err := a.agents.PostStatus(deadline(t, callTime), &agentv1.PostStatusRequest{AgentVersion: "1.2.3"})
	must(t, err)
	c := s.operator(t).agents
	whole, err := c.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
	must(t, err)
	for _, one := range eachMask(t, whole, &types.AgentMask{}, "id") {
		got, err := c.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id, OutputMask: one.mask.(*types.AgentMask)})
		must(t, err)
		listed, err := c.ListAgents(deadline(t, callTime), &agentv1.ListAgentsRequest{OutputMask: one.mask.(*types.AgentMask)})
		must(t, err)
		if !proto.Equal(got, one.wanted) || len(listed.Agents) != 1 || !proto.Equal(listed.Agents[0], one.wanted) {
			t.Errorf("by %v: %v and %v", one.mask, got, listed.Agents)
		}
	}
}

func TestS18AgentIDs(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).agents
	for name, id := range map[string]*types.SPIFFEID{
		"none":                 nil,
		"another trust domain": {TrustDomain: "other.test", Path: "/spire/agent/join_token/x"},
		"a workload's":         idOf("/workload"),
		"the server's":         idOf("/spire/server"),
		"no path":              idOf(""),
		"malformed":            idOf("/spire/agent/../x"),
	} {
		_, err := c.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: id})
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
		_, err = c.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: id})
		wantCode(t, err, codes.InvalidArgument)
		_, err = c.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: id})
		wantCode(t, err, codes.InvalidArgument)
	}
	_, err := c.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: idOf("/spire/agent/join_token/none")})
	wantCode(t, err, codes.NotFound)
	for name, request := range map[string]*agentv1.CreateJoinTokenRequest{
		"a negative ttl":       {Ttl: -1},
		"another trust domain": {Ttl: 60, AgentId: &types.SPIFFEID{TrustDomain: "other.test", Path: "/a"}},
		"a malformed alias":    {Ttl: 60, AgentId: idOf("/a//b")},
		"a reserved alias":     {Ttl: 60, AgentId: idOf("/spire/agent/x509pop/x")},
	} {
		_, err := c.CreateJoinToken(deadline(t, callTime), request)
		t.Logf("%s: %v", name, err)
		wantCode(t, err, codes.InvalidArgument)
	}
}
