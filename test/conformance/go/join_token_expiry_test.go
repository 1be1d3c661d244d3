package conformance

import (
	"fmt"
	"testing"
	"time"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
)

// How long after their end unused tokens may stand in the store.
const housekeepingTime = 75 * time.Second

func TestS57UnusedTokensAreDeleted(t *testing.T) {
	t.Parallel()
	s := startServer(t, fields{})
	alias := idOf("/alias/" + uniqueName())
	const expiring, lasting = 5, 2
	for range expiring {
		s.joinToken(t, 1, alias)
	}
	for range lasting {
		s.joinToken(t, 600, alias)
	}
	tokens := func() int { return s.count(t, "select count(*) from join_tokens") }
	aliases := func() int {
		return len(s.list(t, &entryv1.ListEntriesRequest_Filter{BySpiffeId: alias}, 0))
	}
	if got := fmt.Sprint(tokens(), aliases()); got != "7 7" {
		t.Fatalf("tokens and aliases: %s", got)
	}
	until(t, housekeepingTime, "the expired tokens are gone, with their aliases", func() bool {
		return tokens() == lasting && aliases() == lasting
	})
}
