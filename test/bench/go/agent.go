package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const maximumMessage = 64 << 20

// An agent as the server knows it: what it attested as, and a connection that shows it.
type agent struct {
	id      *types.SPIFFEID
	conn    *grpc.ClientConn
	keyPair tls.Certificate
}

func dialAdmin(o options) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+o.admin,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maximumMessage), grpc.MaxCallSendMsgSize(maximumMessage)))
}

// The server's certificate is not looked at: both ends are this benchmark's own, on 127.0.0.1.
func dialTLS(o options, pair *tls.Certificate) (*grpc.ClientConn, error) {
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	if pair != nil {
		config.Certificates = []tls.Certificate{*pair}
	}
	return grpc.NewClient(o.addr, grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maximumMessage)))
}

func newCSR() ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	return csr, key, err
}

func joinToken(ctx context.Context, o options, admin *grpc.ClientConn) (string, error) {
	if o.admin == "" {
		return "the peer takes any", nil
	}
	token, err := agentv1.NewAgentClient(admin).CreateJoinToken(ctx, &agentv1.CreateJoinTokenRequest{Ttl: 600})
	if err != nil {
		return "", err
	}
	return token.Value, nil
}

func attestWith(ctx context.Context, o options, token string, csr []byte, key *ecdsa.PrivateKey) (*agent, error) {
	first, err := dialTLS(o, nil)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	stream, err := agentv1.NewAgentClient(first).AttestAgent(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&agentv1.AttestAgentRequest{Step: &agentv1.AttestAgentRequest_Params_{
		Params: &agentv1.AttestAgentRequest_Params{
			Data:   &types.AttestationData{Type: "join_token", Payload: []byte(token)},
			Params: &agentv1.AgentX509SVIDParams{Csr: csr},
		}}})
	if err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	svid := answer.GetResult().GetSvid()
	if svid == nil {
		return nil, fmt.Errorf("no SVID in the answer")
	}
	pair := tls.Certificate{Certificate: svid.CertChain, PrivateKey: key}
	conn, err := dialTLS(o, &pair)
	return &agent{svid.Id, conn, pair}, err
}

func newAgent(ctx context.Context, o options) (*agent, error) {
	var admin *grpc.ClientConn
	if o.admin != "" {
		var err error
		if admin, err = dialAdmin(o); err != nil {
			return nil, err
		}
		defer admin.Close()
	}
	token, err := joinToken(ctx, o, admin)
	if err != nil {
		return nil, err
	}
	csr, key, err := newCSR()
	if err != nil {
		return nil, err
	}
	return attestWith(ctx, o, token, csr, key)
}

func entryOf(o options, parent *types.SPIFFEID, path string) *types.Entry {
	return &types.Entry{
		SpiffeId:  &types.SPIFFEID{TrustDomain: o.trustDomain, Path: path},
		ParentId:  parent,
		Selectors: []*types.Selector{{Type: "unix", Value: "uid:4000000000"}},
	}
}

// Makes entries in batches of 1,000; those that are there already are as good.
func putEntries(ctx context.Context, o options, entries []*types.Entry) ([]string, error) {
	admin, err := dialAdmin(o)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	var ids []string
	for len(entries) > 0 {
		part := entries[:min(1000, len(entries))]
		entries = entries[len(part):]
		answer, err := entryv1.NewEntryClient(admin).BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: part})
		if err != nil {
			return nil, err
		}
		for _, result := range answer.Results {
			if code := result.Status.Code; code != 0 && code != 6 {
				return nil, fmt.Errorf("entry: %s", result.Status.Message)
			}
			ids = append(ids, result.Entry.Id)
		}
	}
	return ids, nil
}

func (a *agent) svids() svidv1.SVIDClient { return svidv1.NewSVIDClient(a.conn) }
