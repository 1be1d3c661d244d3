package conformance

import (
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"testing"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

const (
	graphs = 1000
	// Of so many graphs one is held against what is issued, too.
	issuedGraphs = 25
)

// An agent with what its attestation says of it. Its own ID is one of its selectors.
type selectedAgent struct {
	*agent
	selectors []*types.Selector
}

func (s *server) selected(t *testing.T, a *agent) selectedAgent {
	t.Helper()
	found, err := s.operator(t).agents.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
	must(t, err)
	own := &types.Selector{Type: "spiffe_id", Value: textOf(a.id)}
	return selectedAgent{a, append([]*types.Selector{own}, found.Selectors...)}
}

// The reference: whose entries an agent may have, from the entries alone.
func mayHave(id *types.SPIFFEID, selectors []*types.Selector, entries []*types.Entry) []string {
	own := map[string]bool{}
	for _, one := range selectors {
		own[one.Type+":"+one.Value] = true
	}
	reached := map[string]bool{textOf(id): true}
	for _, entry := range entries {
		if entry.ParentId.Path == "/spire/server" && hasAll(own, entry.Selectors) {
			reached[textOf(entry.SpiffeId)] = true
		}
	}
	found := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, entry := range entries {
			if !found[entry.Id] && reached[textOf(entry.ParentId)] {
				found[entry.Id], reached[textOf(entry.SpiffeId)], grown = true, true, true
			}
		}
	}
	return sorted(found)
}

func hasAll(own map[string]bool, wanted []*types.Selector) bool {
	for _, one := range wanted {
		if !own[one.Type+":"+one.Value] {
			return false
		}
	}
	return true
}

func sorted[V any](set map[string]V) []string {
	names := []string{}
	for name := range set {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// A random graph of entries over a few names, so that aliases, chains, diamonds and cycles occur. Each is
// under paths of its own, so that many graphs are in one store at once.
func randomGraph(random *rand.Rand, agents []selectedAgent, graph string) []*types.Entry {
	names := make([]*types.SPIFFEID, 6)
	for at := range names {
		names[at] = idOf(fmt.Sprintf("/graph/%s/%d", graph, at))
	}
	parents := append([]*types.SPIFFEID{}, names...)
	for _, a := range agents {
		parents = append(parents, a.id)
	}
	count := 3 + random.Intn(8)
	entries := make([]*types.Entry, 0, count)
	for at := range count {
		id := names[random.Intn(len(names))]
		if random.Intn(4) == 0 {
			entries = append(entries, &types.Entry{SpiffeId: id, ParentId: idOf("/spire/server"),
				Selectors: aliasSelectors(random, agents, graph, at)})
			continue
		}
		entry := entryOf(parents[random.Intn(len(parents))], id.Path)
		entry.Selectors = []*types.Selector{selector(fmt.Sprintf("uid:%d", at))}
		entries = append(entries, entry)
	}
	return entries
}

// Some of one agent's, and at times one that nobody has.
func aliasSelectors(random *rand.Rand, agents []selectedAgent, graph string, at int) []*types.Selector {
	of := agents[random.Intn(len(agents))].selectors
	chosen := []*types.Selector{}
	for _, place := range random.Perm(len(of))[:1+random.Intn(len(of))] {
		chosen = append(chosen, of[place])
	}
	if random.Intn(3) == 0 {
		chosen = append(chosen, &types.Selector{Type: "graph", Value: fmt.Sprintf("%s-%d", graph, at)})
	}
	return chosen
}

func TestS09AuthorizedEntriesAsTheModel(t *testing.T) {
	t.Parallel()
	const seed = 1
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	ca := newNodeCA(t)
	s := ca.server(t)
	node := func() *agent {
		key := newKey(t)
		return s.attestWith(t, x509popData(t, ca.node(t, key.Public())), popSolver(key, nil))
	}
	var agents []selectedAgent
	for _, a := range []*agent{s.newAgent(t, nil), node(), node()} {
		agents = append(agents, s.selected(t, a))
	}
	operator := s.operator(t)
	run := uniqueName()
	reached := 0
	for round := range graphs {
		graph := fmt.Sprintf("%s-%d", run, round)
		stored := storedOf(t, createEach(t, operator, randomGraph(random, agents, graph)))
		for at, a := range agents {
			wanted := mayHave(a.id, a.selectors, stored)
			reached += len(wanted)
			got := sorted(a.authorized(t))
			if strings.Join(got, " ") != strings.Join(wanted, " ") {
				t.Fatalf("graph %d, agent %d: got %v, the model says %v of %v", round, at, got, wanted, stored)
			}
			if round%issuedGraphs == 0 {
				a.wantIssued(t, stored, wanted)
			}
		}
		ids := []string{}
		for _, entry := range stored {
			ids = append(ids, entry.Id)
		}
		_, err := operator.entries.BatchDeleteEntry(deadline(t, callTime), &entryv1.BatchDeleteEntryRequest{Ids: ids})
		must(t, err)
	}
	t.Logf("%d entries reached in %d graphs", reached, graphs)
	if reached < graphs {
		t.Error("the graphs say too little: hardly an entry is reached")
	}
	for _, a := range agents {
		if left := a.authorized(t); len(left) != 0 {
			t.Fatalf("%d entries are left", len(left))
		}
	}
}

// What an agent gets SVIDs for, and what GetAuthorizedEntries gives it: what it may have and no other.
func (a *agent) wantIssued(t *testing.T, stored []*types.Entry, wanted []string) {
	t.Helper()
	all, err := a.entries.GetAuthorizedEntries(deadline(t, callTime), &entryv1.GetAuthorizedEntriesRequest{})
	must(t, err)
	got := map[string]bool{}
	for _, entry := range all.Entries {
		got[entry.Id] = true
	}
	if strings.Join(sorted(got), " ") != strings.Join(wanted, " ") {
		t.Fatalf("GetAuthorizedEntries gives %v of %v", sorted(got), wanted)
	}
	csr := csrFor(t, newKey(t))
	params := make([]*svidv1.NewX509SVIDParams, len(stored))
	for at, entry := range stored {
		params[at] = &svidv1.NewX509SVIDParams{EntryId: entry.Id, Csr: csr}
	}
	for at, result := range a.tryX509(t, params...) {
		code := codes.NotFound
		if got[stored[at].Id] {
			code = codes.OK
		}
		wantStatus(t, result.Status, code)
		_, err := a.tryJWT(t, stored[at].Id, "audience")
		wantCode(t, err, code)
	}
}

// What is stored; a similar entry of the same graph counts once.
func storedOf(t *testing.T, results []*entryv1.BatchCreateEntryResponse_Result) []*types.Entry {
	t.Helper()
	var stored []*types.Entry
	for _, result := range results {
		if codes.Code(result.Status.Code) == codes.AlreadyExists {
			continue
		}
		wantStatus(t, result.Status, codes.OK)
		stored = append(stored, result.Entry)
	}
	return stored
}
