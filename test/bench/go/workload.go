package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func workloadClients(ctx context.Context, o options) ([]*workloadapi.Client, error) {
	clients := make([]*workloadapi.Client, o.callers)
	for at := range clients {
		var err error
		if clients[at], err = workloadapi.New(ctx, workloadapi.WithAddr("unix://"+o.workload)); err != nil {
			return nil, err
		}
	}
	// The entry has just been made.
	for {
		_, err := clients[0].FetchX509SVID(ctx)
		if err == nil {
			return clients, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func fetchX509(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	clients, err := workloadClients(ctx, o)
	return func(ctx context.Context, caller int) error {
		_, err := clients[caller].FetchX509SVID(ctx)
		return err
	}, 1, err
}

func fetchJWT(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	clients, err := workloadClients(ctx, o)
	return func(ctx context.Context, caller int) error {
		_, err := clients[caller].FetchJWTSVID(ctx, jwtsvid.Params{Audience: "bench"})
		return err
	}, 1, err
}

func fetchJWTNew(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	clients, err := workloadClients(ctx, o)
	var next atomic.Int64
	return func(ctx context.Context, caller int) error {
		_, err := clients[caller].FetchJWTSVID(ctx, jwtsvid.Params{Audience: fmt.Sprint("bench-", next.Add(1))})
		return err
	}, 1, err
}
