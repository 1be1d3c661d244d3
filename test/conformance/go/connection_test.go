package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	localv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/localauthority/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	trustv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/trustdomain/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	domain = "example.org"
	// Nothing promises it: a call that takes longer hangs.
	callTime       = time.Minute
	maximumMessage = 64 << 20
)

var (
	trustDomain = spiffeid.RequireTrustDomainFromString(domain)
	serverID    = spiffeid.RequireFromPath(trustDomain, "/spire/server")
)

// A connection, and the clients of the services on it.
type connection struct {
	*grpc.ClientConn
	agents     agentv1.AgentClient
	bundles    bundlev1.BundleClient
	entries    entryv1.EntryClient
	local      localv1.LocalAuthorityClient
	svids      svidv1.SVIDClient
	federation trustv1.TrustDomainClient
}

func connect(
	t *testing.T, target string, creds credentials.TransportCredentials, more ...grpc.DialOption,
) *connection {
	t.Helper()
	options := []grpc.DialOption{grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(maximumMessage), grpc.MaxCallSendMsgSize(maximumMessage))}
	conn, err := grpc.NewClient(target, append(options, more...)...)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &connection{
		ClientConn: conn,
		agents:     agentv1.NewAgentClient(conn),
		bundles:    bundlev1.NewBundleClient(conn),
		entries:    entryv1.NewEntryClient(conn),
		local:      localv1.NewLocalAuthorityClient(conn),
		svids:      svidv1.NewSVIDClient(conn),
		federation: trustv1.NewTrustDomainClient(conn),
	}
}

// The operator's: the admin socket.
func (s *server) operator(t *testing.T) *connection {
	t.Helper()
	return connect(t, "unix:"+s.AdminSocket, insecure.NewCredentials())
}

// What the server's certificate is held against: the bundle that the operator sees.
func (s *server) bundle(t *testing.T) *types.Bundle {
	t.Helper()
	bundle, err := s.operator(t).bundles.GetBundle(deadline(t, callTime), &bundlev1.GetBundleRequest{})
	must(t, err)
	return bundle
}

func x509Bundle(t *testing.T, bundle *types.Bundle) *x509bundle.Bundle {
	t.Helper()
	result := x509bundle.New(trustDomain)
	for _, authority := range bundle.X509Authorities {
		certificate, err := x509.ParseCertificate(authority.Asn1)
		must(t, err)
		result.AddX509Authority(certificate)
	}
	return result
}

// What a client of the TLS port asks of the server: SPIRE's agents ask the same.
func (s *server) tlsConfig(t *testing.T, pair *tls.Certificate) *tls.Config {
	t.Helper()
	config := tlsconfig.TLSClientConfig(x509Bundle(t, s.bundle(t)), tlsconfig.AuthorizeID(serverID))
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{"h2"}
	if pair != nil {
		// Go offers nothing if it does not find the server's CA names fitting; this always offers.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return pair, nil
		}
	}
	return config
}

// A connection to the TLS port as the holder of a certificate, or as nobody.
func (s *server) dial(t *testing.T, pair *tls.Certificate) *connection {
	t.Helper()
	return connect(t, s.Address, credentials.NewTLS(s.tlsConfig(t, pair)))
}

func pairOf(chain [][]byte, key any) *tls.Certificate {
	return &tls.Certificate{Certificate: chain, PrivateKey: key}
}

func idOf(path string) *types.SPIFFEID {
	return &types.SPIFFEID{TrustDomain: domain, Path: path}
}

func textOf(id *types.SPIFFEID) string {
	return fmt.Sprintf("spiffe://%s%s", id.GetTrustDomain(), id.GetPath())
}

func tlsOf(config *tls.Config) credentials.TransportCredentials { return credentials.NewTLS(config) }
