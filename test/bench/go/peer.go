package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// What grpc-go and crypto/x509 need for an SVID, and no more: no store, no ledger, no log, no rules.
type authority struct {
	agentv1.UnimplementedAgentServer
	svidv1.UnimplementedSVIDServer
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func runPeer() error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	own, err := ca.sign(&key.PublicKey, "/spire/server")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{own}, PrivateKey: key}},
		ClientAuth:             tls.VerifyClientCertIfGiven,
		ClientCAs:              pool,
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
	})))
	agentv1.RegisterAgentServer(server, ca)
	svidv1.RegisterSVIDServer(server, ca)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"SPIFFE"}},
		NotBefore: time.Now().Add(-10 * time.Second), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "example.org"}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{key: key, certificate: certificate}, err
}

func (a *authority) sign(key any, path string) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Country: []string{"US"}, Organization: []string{"SPIRE"}},
		NotBefore: time.Now().Add(-10 * time.Second), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: path}},
	}, a.certificate, key, a.key)
}

func (a *authority) signCSR(der []byte, path string) (*types.X509SVID, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err = csr.CheckSignature(); err != nil {
		return nil, err
	}
	leaf, err := a.sign(csr.PublicKey, path)
	if err != nil {
		return nil, err
	}
	return &types.X509SVID{
		CertChain: [][]byte{leaf},
		Id:        &types.SPIFFEID{TrustDomain: "example.org", Path: path},
		ExpiresAt: time.Now().Add(time.Hour).Unix(),
	}, nil
}

func (a *authority) AttestAgent(stream grpc.BidiStreamingServer[agentv1.AttestAgentRequest, agentv1.AttestAgentResponse]) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	svid, err := a.signCSR(request.GetParams().GetParams().GetCsr(), "/spire/agent/join_token/bench")
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return stream.Send(&agentv1.AttestAgentResponse{Step: &agentv1.AttestAgentResponse_Result_{
		Result: &agentv1.AttestAgentResponse_Result{Svid: svid}}})
}

func (a *authority) BatchNewX509SVID(ctx context.Context, request *svidv1.BatchNewX509SVIDRequest) (*svidv1.BatchNewX509SVIDResponse, error) {
	caller, _ := peer.FromContext(ctx)
	if info, isTLS := caller.AuthInfo.(credentials.TLSInfo); !isTLS || len(info.State.VerifiedChains) == 0 {
		return nil, status.Error(codes.PermissionDenied, "no agent")
	}
	answer := &svidv1.BatchNewX509SVIDResponse{}
	for at, one := range request.Params {
		svid, err := a.signCSR(one.Csr, fmt.Sprintf("/bench/batch/%d", at))
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		answer.Results = append(answer.Results, &svidv1.BatchNewX509SVIDResponse_Result{Status: &types.Status{}, Svid: svid})
	}
	return answer, nil
}
