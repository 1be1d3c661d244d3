package conformance

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
)

// One record of the audit log, what is read of it here.
type record struct {
	Type       string            `json:"type"`
	SpiffeID   string            `json:"spiffe_id"`
	Serial     string            `json:"svid_serial"`
	AgentID    string            `json:"agent_id"`
	EntryID    string            `json:"entry_id"`
	Attributes map[string]string `json:"attributes"`
	Actor      struct {
		Kind     string `json:"kind"`
		SpiffeID string `json:"spiffe_id"`
	} `json:"actor"`
}

func (s *server) issuances(t *testing.T) []record {
	t.Helper()
	var found []record
	for _, line := range strings.Split(strings.TrimSpace(s.writ(t, "audit", "tail", "--last", "10000", "--json")), "\n") {
		var one record
		must(t, json.Unmarshal([]byte(line), &one))
		if one.Type == "identity.svid.issued" {
			found = append(found, one)
		}
	}
	return found
}

// The one record of a serial number.
func recordOf(t *testing.T, records []record, serial string) record {
	t.Helper()
	var found []record
	for _, one := range records {
		if one.Serial == serial {
			found = append(found, one)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d records of the serial %s", len(found), serial)
	}
	return found[0]
}

func (r record) want(t *testing.T, id *types.SPIFFEID, end time.Time) {
	t.Helper()
	t.Logf("%+v", r)
	if r.SpiffeID != textOf(id) {
		t.Errorf("the record is of %s", r.SpiffeID)
	}
	if got, err := time.Parse(time.RFC3339, r.Attributes["not_after"]); err != nil || !got.Truncate(time.Second).Equal(end) {
		t.Errorf("not_after %q, it ends %s", r.Attributes["not_after"], end)
	}
	if r.Attributes["request_id"] == "" {
		t.Error("no request_id")
	}
}

// What an issuance for an entry has to say of it.
func (r record) wantEntry(t *testing.T, a *agent, entry *types.Entry) {
	t.Helper()
	if r.EntryID != entry.Id || r.AgentID != textOf(a.id) {
		t.Errorf("the record has entry %s and agent %s", r.EntryID, r.AgentID)
	}
	if r.Attributes["entry_revision"] != strconv.FormatInt(entry.RevisionNumber, 10) {
		t.Errorf("entry_revision %q of %d", r.Attributes["entry_revision"], entry.RevisionNumber)
	}
}

func serialOf(svid *issued) string {
	text := hex.EncodeToString(svid.leaf.SerialNumber.Bytes())
	return text
}

func TestS58EachIssuanceIsRecorded(t *testing.T) {
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(a.id, "/recorded/"+uniqueName()))
	entry = s.update(t, entry, &types.EntryMask{Hint: true})
	first, second := a.x509SVID(t, entry.Id), a.x509SVID(t, entry.Id)
	token := entryOf(a.id, "/recorded/"+uniqueName())
	token.AdditionalAttributes = &types.Entry_AdditionalAttributes{JwtSvidIncludeJti: true}
	tokenEntry := s.createOne(t, token)
	jwt := a.jwtSVID(t, tokenEntry.Id, "audience")
	a.refusedX509(t, "no-such-entry", codes.NotFound)
	minted, err := s.operator(t).svids.MintX509SVID(deadline(t, callTime),
		&svidv1.MintX509SVIDRequest{Csr: csrWithID(t, newKey(t), "/recorded/minted"), Ttl: 60})
	must(t, err)
	renewed := a.renew(t, s)

	records := s.issuances(t)
	for _, svid := range []*issued{first, second} {
		one := recordOf(t, records, serialOf(svid))
		one.want(t, entry.SpiffeId, svid.leaf.NotAfter)
		one.wantEntry(t, a, entry)
	}
	_, claims := jwtParts(t, jwt.Token)
	one := recordOf(t, records, claims["jti"].(string))
	one.want(t, tokenEntry.SpiffeId, time.Unix(jwt.ExpiresAt, 0))
	one.wantEntry(t, a, tokenEntry)
	leaf := parsed(t, minted.Svid.CertChain[0])
	recordOf(t, records, serialOf(&issued{leaf: leaf})).want(t, minted.Svid.Id, leaf.NotAfter)
	for _, svid := range []*agent{a, renewed} {
		one := recordOf(t, records, serialOf(&issued{leaf: svid.leaf}))
		one.want(t, a.id, svid.leaf.NotAfter)
	}
	// These six and no other, of six requests; what the server issues to itself is recorded as well.
	requests, count := map[string]bool{}, 0
	for _, one := range records {
		if one.SpiffeID != serverID.String() {
			requests[one.Attributes["request_id"]] = true
			count++
		}
	}
	if count != 6 || len(requests) != 6 || count == len(records) {
		t.Errorf("%d records, of %d requests", count, len(requests))
	}
}

// As many records as items, each with its own serial number.
func TestS58BatchIsRecorded(t *testing.T) {
	s := startServer(t, fields{})
	a := s.newAgent(t, nil)
	entry := s.createOne(t, entryOf(a.id, "/recorded/"+uniqueName()))
	const size = 200
	params := make([]*svidv1.NewX509SVIDParams, size)
	for at := range params {
		params[at] = newParams(t, entry.Id)
	}
	results := a.tryX509(t, params...)
	records := s.issuances(t)
	request := ""
	for _, result := range results {
		leaf := parsed(t, result.Svid.CertChain[0])
		one := recordOf(t, records, serialOf(&issued{leaf: leaf}))
		one.wantEntry(t, a, entry)
		if request == "" {
			request = one.Attributes["request_id"]
		}
		if one.Attributes["request_id"] != request {
			t.Errorf("the items of one request have the ids %q and %q", request, one.Attributes["request_id"])
		}
	}
}
