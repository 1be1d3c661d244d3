package conformance

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const filterRounds = 300

// The reference for one of the four ways to compare sets.
func matches(match int32, wanted, has map[string]bool) bool {
	common := 0
	for name := range wanted {
		if has[name] {
			common++
		}
	}
	switch match {
	case 0: // exact
		return common == len(wanted) && common == len(has)
	case 1: // subset: what the entry has is among what is wanted
		return len(has) > 0 && common == len(has)
	case 2: // superset: what the entry has includes what is wanted
		return common == len(wanted)
	default: // any
		return common > 0
	}
}

func setOf(names ...string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

func selectorSet(selectors []*types.Selector) map[string]bool {
	set := map[string]bool{}
	for _, one := range selectors {
		set[one.Type+":"+one.Value] = true
	}
	return set
}

// The reference for a whole filter.
func passes(filter *entryv1.ListEntriesRequest_Filter, entry *types.Entry) bool {
	if id := filter.BySpiffeId; id != nil && textOf(id) != textOf(entry.SpiffeId) {
		return false
	}
	if id := filter.ByParentId; id != nil && textOf(id) != textOf(entry.ParentId) {
		return false
	}
	if by := filter.BySelectors; by != nil &&
		!matches(int32(by.Match), selectorSet(by.Selectors), selectorSet(entry.Selectors)) {
		return false
	}
	if by := filter.ByFederatesWith; by != nil &&
		!matches(int32(by.Match), setOf(by.TrustDomains...), setOf(entry.FederatesWith...)) {
		return false
	}
	if by := filter.ByHint; by != nil && by.Value != "" && by.Value != entry.Hint {
		return false
	}
	return filter.ByDownstream == nil || !filter.ByDownstream.Value || entry.Downstream
}

func (s *server) list(t *testing.T, filter *entryv1.ListEntriesRequest_Filter, pageSize int32) []*types.Entry {
	t.Helper()
	var all []*types.Entry
	operator, token := s.operator(t), ""
	for {
		page, err := operator.entries.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{
			Filter: filter, PageSize: pageSize, PageToken: token})
		must(t, err)
		if pageSize > 0 && len(page.Entries) > int(pageSize) {
			t.Fatalf("%d on a page of %d", len(page.Entries), pageSize)
		}
		all = append(all, page.Entries...)
		if token = page.NextPageToken; token == "" {
			return all
		}
	}
}

func idsOf(entries []*types.Entry) string {
	set := map[string]bool{}
	for _, entry := range entries {
		set[entry.Id] = true
	}
	return fmt.Sprintf("%d: %s", len(entries), strings.Join(sorted(set), " "))
}

// Some of a list, at least one.
func some[T any](random *rand.Rand, all []T) []T {
	chosen := []T{}
	for _, place := range random.Perm(len(all))[:1+random.Intn(len(all))] {
		chosen = append(chosen, all[place])
	}
	return chosen
}

// The entries that the filters are held against: a few values, so that all combinations come up.
type filterWorld struct {
	selectors []*types.Selector
	domains   []string
	ids       []*types.SPIFFEID
	hints     []string
}

func newFilterWorld() *filterWorld {
	run := uniqueName()
	world := &filterWorld{hints: []string{"", "one-" + run, "two-" + run}}
	for at := range 4 {
		world.selectors = append(world.selectors, selector(fmt.Sprintf("uid:%s-%d", run, at)))
		world.ids = append(world.ids, idOf(fmt.Sprintf("/filter/%s/%d", run, at)))
		world.domains = append(world.domains, fmt.Sprintf("d%d-%s.test", at, run))
	}
	return world
}

func (w *filterWorld) entry(random *rand.Rand) *types.Entry {
	entry := &types.Entry{SpiffeId: w.ids[random.Intn(4)], ParentId: w.ids[random.Intn(4)],
		Selectors: some(random, w.selectors), Hint: w.hints[random.Intn(3)],
		Downstream: random.Intn(4) == 0}
	if random.Intn(3) > 0 {
		entry.FederatesWith = some(random, w.domains)
	}
	return entry
}

// A filter; by selectors at least, so that entries of other tests do not pass.
func (w *filterWorld) filter(random *rand.Rand) *entryv1.ListEntriesRequest_Filter {
	filter := &entryv1.ListEntriesRequest_Filter{BySelectors: &types.SelectorMatch{
		Selectors: some(random, w.selectors),
		Match:     types.SelectorMatch_MatchBehavior(random.Intn(4))}}
	if random.Intn(2) == 0 {
		filter.ByFederatesWith = &types.FederatesWithMatch{TrustDomains: some(random, w.domains),
			Match: types.FederatesWithMatch_MatchBehavior(random.Intn(4))}
	}
	if random.Intn(3) == 0 {
		filter.BySpiffeId = w.ids[random.Intn(4)]
	}
	if random.Intn(3) == 0 {
		filter.ByParentId = w.ids[random.Intn(4)]
	}
	if random.Intn(4) == 0 {
		filter.ByHint = wrapperspb.String(w.hints[random.Intn(3)])
	}
	if random.Intn(4) == 0 {
		filter.ByDownstream = wrapperspb.Bool(random.Intn(2) == 0)
	}
	return filter
}

func TestS17FiltersAsTheModel(t *testing.T) {
	const seed = 1
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	s := theServer(t)
	world := newFilterWorld()
	for _, name := range world.domains {
		s.federate(t, name)
	}
	entries := make([]*types.Entry, 120)
	for at := range entries {
		entries[at] = world.entry(random)
	}
	stored := storedOf(t, createEach(t, s.operator(t), entries))
	found := 0
	for round := range filterRounds {
		filter := world.filter(random)
		var wanted []*types.Entry
		for _, entry := range stored {
			if passes(filter, entry) {
				wanted = append(wanted, entry)
			}
		}
		got := s.list(t, filter, int32(random.Intn(20)))
		if idsOf(got) != idsOf(wanted) {
			t.Fatalf("round %d, %v: got %s, the model says %s", round, filter, idsOf(got), idsOf(wanted))
		}
		s.wantCount(t, filter, len(wanted))
		found += len(wanted)
	}
	t.Logf("%d entries found by %d filters", found, filterRounds)
	if found < filterRounds {
		t.Error("the filters say too little: hardly an entry is found")
	}
}

func (s *server) wantCount(t *testing.T, filter *entryv1.ListEntriesRequest_Filter, wanted int) {
	t.Helper()
	counted, err := s.operator(t).entries.CountEntries(deadline(t, callTime), &entryv1.CountEntriesRequest{
		Filter: &entryv1.CountEntriesRequest_Filter{BySpiffeId: filter.BySpiffeId,
			ByParentId: filter.ByParentId, BySelectors: filter.BySelectors,
			ByFederatesWith: filter.ByFederatesWith, ByHint: filter.ByHint, ByDownstream: filter.ByDownstream}})
	must(t, err)
	if int(counted.Count) != wanted {
		t.Fatalf("%v: counted %d of %d", filter, counted.Count, wanted)
	}
}

// The examples that stand in the protos.
func TestS17FiltersByTheProtosExamples(t *testing.T) {
	s := theServer(t)
	run := uniqueName()
	parent := idOf("/example/" + run)
	abc := []*types.Selector{{Type: "a", Value: "1" + run}, {Type: "b", Value: "2" + run}, {Type: "c", Value: "3" + run}}
	domains := []string{"td1-" + run + ".test", "td2-" + run + ".test", "td3-" + run + ".test"}
	for _, name := range domains {
		s.federate(t, name)
	}
	var stored []*types.Entry
	for size := 3; size > 0; size-- {
		stored = append(stored, s.createOne(t, &types.Entry{SpiffeId: idOf(fmt.Sprintf("/example/%s/e%d", run, 4-size)),
			ParentId: parent, Selectors: abc[:size], FederatesWith: domains[:size]}))
	}
	for match, example := range []struct {
		asked int
		found []int
	}{{2, []int{1}}, {1, []int{2}}, {2, []int{0, 1}}, {1, []int{0, 1, 2}}} {
		var wanted []*types.Entry
		for _, at := range example.found {
			wanted = append(wanted, stored[at])
		}
		bySelectors := &entryv1.ListEntriesRequest_Filter{ByParentId: parent, BySelectors: &types.SelectorMatch{
			Selectors: abc[:example.asked], Match: types.SelectorMatch_MatchBehavior(match)}}
		byDomains := &entryv1.ListEntriesRequest_Filter{ByParentId: parent, ByFederatesWith: &types.FederatesWithMatch{
			TrustDomains: domains[:example.asked], Match: types.FederatesWithMatch_MatchBehavior(match)}}
		for _, filter := range []*entryv1.ListEntriesRequest_Filter{bySelectors, byDomains} {
			if got := idsOf(s.list(t, filter, 0)); got != idsOf(wanted) {
				t.Errorf("%v: got %s, wanted %s", filter, got, idsOf(wanted))
			}
		}
	}
	for _, filter := range []*entryv1.ListEntriesRequest_Filter{
		{BySelectors: &types.SelectorMatch{}}, {ByFederatesWith: &types.FederatesWithMatch{}}} {
		_, err := s.operator(t).entries.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{Filter: filter})
		wantCode(t, err, codes.InvalidArgument)
	}
}

func TestS17PagingDuringInserts(t *testing.T) {
	s := theServer(t)
	parent := idOf("/paging/" + uniqueName())
	before := setOf()
	for _, entry := range s.create(t, manyUnder(parent, 300)...) {
		before[entry.Id] = true
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	inserting, ctx := s.operator(t), deadline(t, callTime)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			_, err := inserting.entries.BatchCreateEntry(ctx,
				&entryv1.BatchCreateEntryRequest{Entries: manyUnder(parent, 5)})
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	for round := range 5 {
		seen := map[string]int{}
		for _, entry := range s.list(t, &entryv1.ListEntriesRequest_Filter{ByParentId: parent}, 25) {
			seen[entry.Id]++
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("round %d: %s %d times", round, id, times)
			}
		}
		for id := range before {
			if seen[id] != 1 {
				t.Errorf("round %d: %s is missing", round, id)
			}
		}
		t.Logf("round %d: %d entries", round, len(seen))
	}
	close(stop)
	must(t, <-stopped)
}
