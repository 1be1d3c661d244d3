package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

func connectAndSync(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	a, err := newAgent(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	if _, err = putEntries(ctx, o, []*types.Entry{entryOf(o, a.id, "/bench/one")}); err != nil {
		return nil, 0, err
	}
	return func(ctx context.Context, _ int) error {
		conn, err := dialTLS(o, &a.keyPair)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := entryv1.NewEntryClient(conn).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
		if err == nil && len(answer.Entries) != 1 {
			err = fmt.Errorf("%d entries", len(answer.Entries))
		}
		return err
	}, 1, nil
}

func createEntries(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	admin, err := dialAdmin(o)
	if err != nil {
		return nil, 0, err
	}
	client := entryv1.NewEntryClient(admin)
	run := time.Now().UnixNano()
	parent := &types.SPIFFEID{TrustDomain: o.trustDomain, Path: "/spire/agent/join_token/bench"}
	var next atomic.Int64
	return func(ctx context.Context, _ int) error {
		first := int(next.Add(int64(o.size))) - o.size
		entries := make([]*types.Entry, o.size)
		for at := range entries {
			entries[at] = entryOf(o, parent, fmt.Sprintf("/bench/create/%d/%d", run, first+at))
		}
		answer, err := client.BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: entries})
		if err != nil {
			return err
		}
		for _, result := range answer.Results {
			if result.Status.Code != 0 {
				return fmt.Errorf("entry: %s", result.Status.Message)
			}
		}
		return nil
	}, o.size, nil
}

func listEntries(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	admin, err := dialAdmin(o)
	if err != nil {
		return nil, 0, err
	}
	client := entryv1.NewEntryClient(admin)
	all, err := client.CountEntries(ctx, &entryv1.CountEntriesRequest{})
	if err != nil {
		return nil, 0, err
	}
	return func(ctx context.Context, _ int) error {
		token, seen := "", 0
		for {
			page, err := client.ListEntries(ctx, &entryv1.ListEntriesRequest{PageSize: 500, PageToken: token})
			if err != nil {
				return err
			}
			seen += len(page.Entries)
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if seen < int(all.Count) {
			return fmt.Errorf("%d entries of %d", seen, all.Count)
		}
		return nil
	}, int(all.Count), nil
}

// What a spire-agent does with `size` entries: all of them once by pages (the first call), then the
// same again when nothing has changed.
func syncEntries(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	a, err := newAgent(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	entries := make([]*types.Entry, o.size)
	for at := range entries {
		entries[at] = entryOf(o, a.id, fmt.Sprintf("/bench/sync/%d", at))
	}
	if _, err = putEntries(ctx, o, entries); err != nil {
		return nil, 0, err
	}
	return func(ctx context.Context, _ int) error { return fullSync(ctx, a, o.size) }, 1, nil
}

func fullSync(ctx context.Context, a *agent, size int) error {
	stream, err := entryv1.NewEntryClient(a.conn).SyncAuthorizedEntries(ctx)
	if err != nil {
		return err
	}
	if err = stream.Send(&entryv1.SyncAuthorizedEntriesRequest{}); err != nil {
		return err
	}
	var ids []string
	for more := true; more; {
		page, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, revision := range page.EntryRevisions {
			ids = append(ids, revision.Id)
		}
		more = page.More
	}
	if len(ids) != size {
		return fmt.Errorf("%d revisions of %d", len(ids), size)
	}
	got := 0
	for len(ids) > 0 {
		part := ids[:min(500, len(ids))]
		ids = ids[len(part):]
		if err = stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: part}); err != nil {
			return err
		}
		for more := true; more; {
			page, err := stream.Recv()
			if err != nil {
				return err
			}
			got += len(page.Entries)
			more = page.More
		}
	}
	if got != size {
		return fmt.Errorf("%d entries of %d", got, size)
	}
	return stream.CloseSend()
}
