package conformance

import (
	"testing"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// entry create, show, count, update, delete.
func TestS18Entry(t *testing.T) {
	s := theServer(t)
	c := s.operator(t)
	parent := idOf("/cli/" + uniqueName())
	given := &types.Entry{SpiffeId: idOf("/cli/" + uniqueName()), ParentId: parent,
		Selectors:   []*types.Selector{selector("uid:1"), selector("gid:2")},
		X509SvidTtl: 100, JwtSvidTtl: 50, DnsNames: []string{"a.test"}, Hint: "hint", Admin: true,
		Downstream: true, ExpiresAt: time.Now().Add(time.Hour).Unix(), Id: "cli-" + uniqueName()}
	before := time.Now().Unix()
	stored := s.createOne(t, given)
	if stored.CreatedAt < before || stored.CreatedAt > time.Now().Unix() || stored.RevisionNumber != 0 {
		t.Errorf("created at %d, revision %d", stored.CreatedAt, stored.RevisionNumber)
	}
	same := proto.CloneOf(stored)
	same.CreatedAt = 0
	if sameSelectors := selectorSet(same.Selectors); len(sameSelectors) != 2 || !sameSelectors["unix:uid:1"] {
		t.Errorf("selectors %v", same.Selectors)
	}
	same.Selectors = given.Selectors
	if !proto.Equal(same, given) {
		t.Errorf("given %v, stored %v", given, same)
	}
	got, err := s.getEntry(t, stored.Id)
	must(t, err)
	if !proto.Equal(got, stored) {
		t.Errorf("stored %v, shown %v", stored, got)
	}
	_, err = s.getEntry(t, "no-such-entry")
	wantCode(t, err, codes.NotFound)
	_, err = s.getEntry(t, "")
	wantCode(t, err, codes.InvalidArgument)
	byHint := &entryv1.ListEntriesRequest_Filter{ByParentId: parent, ByHint: wrapperspb.String("hint")}
	if listed := s.list(t, byHint, 0); len(listed) != 1 || !proto.Equal(listed[0], stored) {
		t.Errorf("listed %v", listed)
	}
	masked, err := c.entries.ListEntries(deadline(t, callTime), &entryv1.ListEntriesRequest{
		Filter: byHint, OutputMask: &types.EntryMask{Hint: true}})
	must(t, err)
	if wanted := (&types.Entry{Id: stored.Id, Hint: "hint"}); len(masked.Entries) != 1 || !proto.Equal(masked.Entries[0], wanted) {
		t.Errorf("masked %v", masked.Entries)
	}
	s.wantCount(t, byHint, 1)

	changed := proto.CloneOf(stored)
	changed.Hint, changed.X509SvidTtl, changed.Admin = "other", 200, false
	updated := s.update(t, changed, &types.EntryMask{Hint: true})
	if updated.Hint != "other" || updated.X509SvidTtl != 100 || !updated.Admin || updated.RevisionNumber != 1 {
		t.Errorf("by the mask %v", updated)
	}
	updated = s.update(t, changed, nil)
	if updated.X509SvidTtl != 200 || updated.Admin || updated.RevisionNumber != 2 || updated.CreatedAt != stored.CreatedAt {
		t.Errorf("without a mask %v", updated)
	}
	absent := proto.CloneOf(changed)
	absent.Id = "no-such-entry"
	nameless := proto.CloneOf(changed)
	nameless.Id = ""
	answer, err := c.entries.BatchUpdateEntry(deadline(t, callTime), &entryv1.BatchUpdateEntryRequest{
		Entries: []*types.Entry{absent, changed, nameless}})
	must(t, err)
	for at, wanted := range []codes.Code{codes.NotFound, codes.OK, codes.NotFound} {
		wantStatus(t, answer.Results[at].Status, wanted)
	}

	deleted, err := c.entries.BatchDeleteEntry(deadline(t, callTime),
		&entryv1.BatchDeleteEntryRequest{Ids: []string{stored.Id, "no-such-entry", stored.Id}})
	must(t, err)
	for at, wanted := range []codes.Code{codes.OK, codes.NotFound, codes.NotFound} {
		wantStatus(t, deleted.Results[at].Status, wanted)
	}
	s.wantCount(t, byHint, 0)
}

// agent list, show, count, ban, evict; token generate.
func TestS18AgentAndToken(t *testing.T) {
	s := theServer(t)
	c := s.operator(t).agents
	alias := idOf("/cli/alias-" + uniqueName())
	before := time.Now().Unix()
	token, err := c.CreateJoinToken(deadline(t, callTime), &agentv1.CreateJoinTokenRequest{Ttl: 600, AgentId: alias})
	must(t, err)
	if token.ExpiresAt < before+600 || token.ExpiresAt > time.Now().Unix()+600 || len(token.Value) != 36 {
		t.Errorf("the token %v", token)
	}
	named := "cli-" + uniqueName()
	own, err := c.CreateJoinToken(deadline(t, callTime), &agentv1.CreateJoinTokenRequest{Ttl: 600, Token: named})
	must(t, err)
	if own.Value != named {
		t.Errorf("the token %v", own)
	}
	_, err = c.CreateJoinToken(deadline(t, callTime), &agentv1.CreateJoinTokenRequest{})
	wantCode(t, err, codes.InvalidArgument)

	a := s.attestWith(t, joinTokenData(token.Value), nil)
	below := s.createOne(t, entryOf(alias, "/cli/below-alias-"+uniqueName()))
	if a.authorized(t)[below.Id] == nil {
		t.Error("an entry under the alias does not reach the agent")
	}
	_, err = a.agents.PostStatus(deadline(t, callTime), &agentv1.PostStatusRequest{AgentVersion: "1.2.3"})
	must(t, err)
	shown, err := c.GetAgent(deadline(t, callTime), &agentv1.GetAgentRequest{Id: a.id})
	must(t, err)
	if shown.AttestationType != "join_token" || shown.Banned || shown.CanReattest || shown.AgentVersion != "1.2.3" ||
		shown.X509SvidSerialNumber != a.leaf.SerialNumber.String() || shown.X509SvidExpiresAt != a.leaf.NotAfter.Unix() {
		t.Errorf("shown %v", shown)
	}
	filter := &agentv1.ListAgentsRequest_Filter{ByAttestationType: "join_token", ByBanned: wrapperspb.Bool(false),
		ByCanReattest: wrapperspb.Bool(false)}
	if !s.listsAgent(t, filter, a.id) {
		t.Error("it is not listed")
	}
	filter.ByExpiresBefore = time.Now().Format("2006-01-02 15:04:05 -0700 -07")
	if s.listsAgent(t, filter, a.id) {
		t.Error("it is listed as expired")
	}
	filter = &agentv1.ListAgentsRequest_Filter{ByBanned: wrapperspb.Bool(true)}
	if s.listsAgent(t, filter, a.id) {
		t.Error("it is listed as banned")
	}
	_, err = c.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: a.id})
	must(t, err)
	if !s.listsAgent(t, filter, a.id) {
		t.Error("it is not listed as banned")
	}
	_, err = c.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: a.id})
	must(t, err)
	for _, id := range []*types.SPIFFEID{a.id, idOf("/spire/agent/join_token/none")} {
		_, err = c.DeleteAgent(deadline(t, callTime), &agentv1.DeleteAgentRequest{Id: id})
		wantCode(t, err, codes.NotFound)
		_, err = c.BanAgent(deadline(t, callTime), &agentv1.BanAgentRequest{Id: id})
		wantCode(t, err, codes.NotFound)
	}
}

// Looks by pages, and holds the count to what is found.
func (s *server) listsAgent(t *testing.T, filter *agentv1.ListAgentsRequest_Filter, id *types.SPIFFEID) bool {
	t.Helper()
	c, token, all, found := s.operator(t).agents, "", 0, 0
	for {
		page, err := c.ListAgents(deadline(t, callTime), &agentv1.ListAgentsRequest{
			Filter: filter, PageSize: 3, PageToken: token, OutputMask: &types.AgentMask{Banned: true}})
		must(t, err)
		for _, one := range page.Agents {
			all++
			if textOf(one.Id) == textOf(id) {
				found++
			}
			if one.AttestationType != "" {
				t.Errorf("beyond the mask %v", one)
			}
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	counted, err := c.CountAgents(deadline(t, callTime), &agentv1.CountAgentsRequest{
		Filter: &agentv1.CountAgentsRequest_Filter{ByAttestationType: filter.ByAttestationType,
			ByBanned: filter.ByBanned, ByCanReattest: filter.ByCanReattest, ByExpiresBefore: filter.ByExpiresBefore}})
	must(t, err)
	if int(counted.Count) != all || found > 1 {
		t.Errorf("%d counted, %d listed, %d of it", counted.Count, all, found)
	}
	return found == 1
}
