package conformance

import (
	"strings"
	"testing"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// Each breaks one rule of an entry.
var breaches = map[string]func(*types.Entry){
	"an ID in /spire":            func(e *types.Entry) { e.SpiffeId.Path = "/spire/agent/x" },
	"the server's ID":            func(e *types.Entry) { e.SpiffeId.Path = "/spire/server" },
	"another trust domain":       func(e *types.Entry) { e.SpiffeId.TrustDomain = "other.test" },
	"no trust domain":            func(e *types.Entry) { e.SpiffeId.TrustDomain = "" },
	"no SPIFFE ID":               func(e *types.Entry) { e.SpiffeId = nil },
	"no path":                    func(e *types.Entry) { e.SpiffeId.Path = "" },
	"a trailing slash":           func(e *types.Entry) { e.SpiffeId.Path += "/" },
	"an empty segment":           func(e *types.Entry) { e.SpiffeId.Path = "/a//b" },
	"a segment ..":               func(e *types.Entry) { e.SpiffeId.Path = "/a/../b" },
	"a segment .":                func(e *types.Entry) { e.SpiffeId.Path = "/a/./b" },
	"a percent escape":           func(e *types.Entry) { e.SpiffeId.Path = "/a%2Fb" },
	"a path without a slash":     func(e *types.Entry) { e.SpiffeId.Path = "a" },
	"a long ID":                  func(e *types.Entry) { e.SpiffeId.Path = "/" + strings.Repeat("a", 2048) },
	"no parent":                  func(e *types.Entry) { e.ParentId = nil },
	"a parent elsewhere":         func(e *types.Entry) { e.ParentId = &types.SPIFFEID{TrustDomain: "other.test", Path: "/a"} },
	"no selectors":               func(e *types.Entry) { e.Selectors = nil },
	"a selector without a type":  func(e *types.Entry) { e.Selectors[0].Type = "" },
	"a selector without a value": func(e *types.Entry) { e.Selectors[0].Value = "" },
	"a colon in a type":          func(e *types.Entry) { e.Selectors[0].Type = "unix:uid" },
	"a negative X.509 TTL":       func(e *types.Entry) { e.X509SvidTtl = -1 },
	"a negative JWT TTL":         func(e *types.Entry) { e.JwtSvidTtl = -1 },
	"a long hint":                func(e *types.Entry) { e.Hint = strings.Repeat("h", 1025) },
	"a long id":                  func(e *types.Entry) { e.Id = strings.Repeat("i", 256) },
	"an id with a slash":         func(e *types.Entry) { e.Id = "a/b" },
	"a DNS name a..b":            func(e *types.Entry) { e.DnsNames = []string{"a..b"} },
	"store_svid of two types": func(e *types.Entry) {
		e.StoreSvid = true
		e.Selectors = append(e.Selectors, &types.Selector{Type: "k8s", Value: "ns:default"})
	},
}

func TestS15EntryRules(t *testing.T) {
	s := theServer(t)
	operator := s.operator(t)
	good := func() *types.Entry { return entryOf(idOf("/rules/node"), "/rules/"+uniqueName()) }
	names := sorted(breaches)
	entries := []*types.Entry{good()}
	for _, name := range names {
		broken := good()
		breaches[name](broken)
		entries = append(entries, broken, good())
	}
	results := createEach(t, operator, entries)
	for at, result := range results {
		if at%2 == 0 {
			wantStatus(t, result.Status, codes.OK)
			continue
		}
		name := names[at/2]
		if codes.Code(result.Status.Code) != codes.InvalidArgument || result.Entry != nil {
			t.Errorf("%s: %v %v", name, codes.Code(result.Status.Code), result.Entry)
		}
		t.Logf("%s: %s", name, result.Status.Message)
	}
	// A change to an entry is held to the same rules.
	stored := s.createOne(t, good())
	for _, name := range names {
		if strings.Contains(name, " id") {
			continue
		}
		broken := proto.CloneOf(stored)
		breaches[name](broken)
		answer, err := operator.entries.BatchUpdateEntry(deadline(t, callTime),
			&entryv1.BatchUpdateEntryRequest{Entries: []*types.Entry{broken}})
		must(t, err)
		if code := codes.Code(answer.Results[0].Status.Code); code != codes.InvalidArgument {
			t.Errorf("update, %s: %v", name, code)
		}
	}
	after, err := operator.entries.GetEntry(deadline(t, callTime), &entryv1.GetEntryRequest{Id: stored.Id})
	must(t, err)
	if !proto.Equal(after, stored) {
		t.Errorf("it was changed to %v", after)
	}
}

func TestS15LimitsAreIncluded(t *testing.T) {
	s := theServer(t)
	entry := entryOf(idOf("/spire/agent/join_token/any"), "/rules/"+uniqueName())
	entry.Id = uniqueName() + strings.Repeat("i", 243)
	entry.Hint = strings.Repeat("h", 1024)
	entry.DnsNames = []string{"a.test", "*.b.test"}
	stored := s.createOne(t, entry)
	if len(stored.Id) != 255 || stored.Id != entry.Id || stored.Hint != entry.Hint {
		t.Fatalf("stored as %v", stored)
	}
}

func TestS16SimilarEntries(t *testing.T) {
	s := theServer(t)
	operator := s.operator(t)
	entry := entryOf(idOf("/similar/node"), "/similar/"+uniqueName())
	entry.Selectors = []*types.Selector{selector("uid:1"), selector("gid:2")}
	entry.X509SvidTtl, entry.Hint = 60, "first"
	first := s.createOne(t, entry)

	again := proto.CloneOf(entry)
	again.Selectors = []*types.Selector{selector("gid:2"), selector("uid:1")}
	again.X509SvidTtl, again.Hint = 120, "second"
	result := createEach(t, operator, []*types.Entry{again})[0]
	wantStatus(t, result.Status, codes.AlreadyExists)
	if !proto.Equal(result.Entry, first) {
		t.Fatalf("%v came back for %v", result.Entry, first)
	}
	// Within one batch as well, and as the mask wants to see it.
	twice := entryOf(idOf("/similar/node"), "/similar/"+uniqueName())
	answer, err := operator.entries.BatchCreateEntry(deadline(t, callTime), &entryv1.BatchCreateEntryRequest{
		Entries:    []*types.Entry{twice, proto.CloneOf(twice), again},
		OutputMask: &types.EntryMask{Hint: true}})
	must(t, err)
	for at, wanted := range []codes.Code{codes.OK, codes.AlreadyExists, codes.AlreadyExists} {
		wantStatus(t, answer.Results[at].Status, wanted)
	}
	if answer.Results[0].Entry.Id == "" || !proto.Equal(answer.Results[0].Entry, answer.Results[1].Entry) ||
		!proto.Equal(answer.Results[2].Entry, &types.Entry{Id: first.Id, Hint: "first"}) {
		t.Errorf("by the mask %v", answer.Results)
	}
	for name, selectors := range map[string][]*types.Selector{
		"a subset":   {selector("uid:1")},
		"a superset": {selector("uid:1"), selector("gid:2"), selector("path:/a")},
		"an overlap": {selector("uid:1"), selector("gid:3")},
	} {
		other := proto.CloneOf(entry)
		other.Selectors = selectors
		if stored := s.createOne(t, other); stored.Id == first.Id {
			t.Errorf("%s is similar", name)
		}
	}
	elsewhere := proto.CloneOf(entry)
	elsewhere.ParentId = idOf("/similar/other-node")
	s.createOne(t, elsewhere)

	// One id for two different entries.
	taken := entryOf(idOf("/similar/node"), "/similar/"+uniqueName())
	taken.Id = first.Id
	result = createEach(t, operator, []*types.Entry{taken})[0]
	if codes.Code(result.Status.Code) == codes.OK {
		t.Fatal("an id was given twice")
	}
}

func TestS16OneOfManyCreates(t *testing.T) {
	s := theServer(t)
	entry := entryOf(idOf("/similar/node"), "/similar/"+uniqueName())
	const racers = 100
	outcomes := make(chan *entryv1.BatchCreateEntryResponse_Result, racers)
	for range racers {
		c, ctx := s.operator(t), deadline(t, callTime)
		go func() {
			answer, err := c.entries.BatchCreateEntry(ctx,
				&entryv1.BatchCreateEntryRequest{Entries: []*types.Entry{proto.CloneOf(entry)}})
			if err != nil {
				outcomes <- nil
				return
			}
			outcomes <- answer.Results[0]
		}()
	}
	created, ids := 0, map[string]bool{}
	for range racers {
		result := <-outcomes
		if result == nil {
			t.Fatal("a call failed")
		}
		if codes.Code(result.Status.Code) == codes.OK {
			created++
		} else {
			wantStatus(t, result.Status, codes.AlreadyExists)
		}
		ids[result.Entry.Id] = true
	}
	if created != 1 || len(ids) != 1 {
		t.Fatalf("%d were created, under %d ids", created, len(ids))
	}
}
