package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"sync/atomic"

	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
)

func batchX509(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	a, err := newAgent(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	ids := make([]string, o.size)
	if o.admin != "" {
		entries := make([]*types.Entry, o.size)
		for at := range entries {
			entries[at] = entryOf(o, a.id, fmt.Sprintf("/bench/batch/%d", at))
		}
		if ids, err = putEntries(ctx, o, entries); err != nil {
			return nil, 0, err
		}
	}
	params := make([]*svidv1.NewX509SVIDParams, o.size)
	for at := range params {
		csr, _, err := newCSR()
		if err != nil {
			return nil, 0, err
		}
		params[at] = &svidv1.NewX509SVIDParams{EntryId: ids[at], Csr: csr}
	}
	return func(ctx context.Context, _ int) error {
		answer, err := a.svids().BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{Params: params})
		if err != nil {
			return err
		}
		if len(answer.Results) != o.size {
			return fmt.Errorf("%d results of %d", len(answer.Results), o.size)
		}
		for _, result := range answer.Results {
			if result.Status.Code != 0 || len(result.Svid.CertChain) == 0 {
				return fmt.Errorf("item: %s", result.Status.Message)
			}
		}
		return nil
	}, o.size, nil
}

func mintX509(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	admin, err := dialAdmin(o)
	if err != nil {
		return nil, 0, err
	}
	return minting(o, admin)
}

func mintX509TLS(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	pair, err := adminPair(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	conn, err := dialTLS(o, pair)
	if err != nil {
		return nil, 0, err
	}
	return minting(o, conn)
}

// The SVID of an entry with admin set.
func adminPair(ctx context.Context, o options) (*tls.Certificate, error) {
	a, err := newAgent(ctx, o)
	if err != nil {
		return nil, err
	}
	entry := entryOf(o, a.id, "/bench/admin")
	entry.Admin = true
	ids, err := putEntries(ctx, o, []*types.Entry{entry})
	if err != nil {
		return nil, err
	}
	csr, key, err := newCSR()
	if err != nil {
		return nil, err
	}
	answer, err := a.svids().BatchNewX509SVID(ctx, &svidv1.BatchNewX509SVIDRequest{
		Params: []*svidv1.NewX509SVIDParams{{EntryId: ids[0], Csr: csr}}})
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: answer.Results[0].Svid.CertChain, PrivateKey: key}, nil
}

func minting(o options, conn *grpc.ClientConn) (func(context.Context, int) error, int, error) {
	_, key, err := newCSR()
	if err != nil {
		return nil, 0, err
	}
	id := &url.URL{Scheme: "spiffe", Host: o.trustDomain, Path: "/bench/minted"}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return nil, 0, err
	}
	client := svidv1.NewSVIDClient(conn)
	return func(ctx context.Context, _ int) error {
		_, err := client.MintX509SVID(ctx, &svidv1.MintX509SVIDRequest{Csr: csr})
		return err
	}, 1, nil
}

func mintJWT(_ context.Context, o options) (func(context.Context, int) error, int, error) {
	admin, err := dialAdmin(o)
	if err != nil {
		return nil, 0, err
	}
	client := svidv1.NewSVIDClient(admin)
	id := &types.SPIFFEID{TrustDomain: o.trustDomain, Path: "/bench/minted"}
	return func(ctx context.Context, _ int) error {
		_, err := client.MintJWTSVID(ctx, &svidv1.MintJWTSVIDRequest{Id: id, Audience: []string{"bench"}})
		return err
	}, 1, nil
}

func newJWT(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	a, err := newAgent(ctx, o)
	if err != nil {
		return nil, 0, err
	}
	ids, err := putEntries(ctx, o, []*types.Entry{entryOf(o, a.id, "/bench/jwt")})
	if err != nil {
		return nil, 0, err
	}
	return func(ctx context.Context, _ int) error {
		_, err := a.svids().NewJWTSVID(ctx, &svidv1.NewJWTSVIDRequest{EntryId: ids[0], Audience: []string{"bench"}})
		return err
	}, 1, nil
}

// Tokens are minted before the measured stretch: minting is the operator's.
func attestNew(ctx context.Context, o options) (func(context.Context, int) error, int, error) {
	admin, err := dialAdmin(o)
	if err != nil {
		return nil, 0, err
	}
	defer admin.Close()
	tokens := make([]string, o.count)
	for at := range tokens {
		if tokens[at], err = joinToken(ctx, o, admin); err != nil {
			return nil, 0, err
		}
	}
	csr, key, err := newCSR()
	if err != nil {
		return nil, 0, err
	}
	var next atomic.Int64
	return func(ctx context.Context, _ int) error {
		a, err := attestWith(ctx, o, tokens[next.Add(1)-1], csr, key)
		if err != nil {
			return err
		}
		return a.conn.Close()
	}, 1, nil
}
