// What a Go service does with go-spiffe against our agent: an X509Source that sees a rotation, a
// JWTSource whose tokens verify, and a PostgreSQL session over mTLS. Prints one JSON document.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type report struct {
	ID        string   `json:"id"`
	Serials   []string `json:"serials"`
	Verified  int      `json:"verified"`
	Tokens    int      `json:"tokens"`
	Validated string   `json:"validated"`
	TLSPeer   string   `json:"tls_peer"`
	Errors    []string `json:"errors"`
}

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: interop SOCKET SPIFFE_ID SERVER_ADDRESS ROTATIONS")
		os.Exit(2)
	}
	var rotations int
	fmt.Sscan(os.Args[4], &rotations)
	out, err := run(os.Args[1], os.Args[2], os.Args[3], rotations)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(out)
}

func run(socket, id, server string, rotations int) (*report, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	want, err := spiffeid.FromString(id)
	if err != nil {
		return nil, err
	}
	options := workloadapi.WithClientOptions(workloadapi.WithAddr(socket))
	pick := func(svids []*x509svid.SVID) *x509svid.SVID {
		for _, svid := range svids {
			if svid.ID == want {
				return svid
			}
		}
		return svids[0]
	}
	source, err := workloadapi.NewX509Source(ctx, options, workloadapi.WithDefaultX509SVIDPicker(pick))
	if err != nil {
		return nil, fmt.Errorf("X509Source: %w", err)
	}
	defer source.Close()
	jwts, err := workloadapi.NewJWTSource(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("JWTSource: %w", err)
	}
	defer jwts.Close()

	out := &report{Errors: []string{}}
	for len(out.Serials) <= rotations {
		svid, err := source.GetX509SVID()
		if err != nil {
			return nil, err
		}
		serial := svid.Certificates[0].SerialNumber.Text(16)
		if len(out.Serials) == 0 || out.Serials[len(out.Serials)-1] != serial {
			out.ID = svid.ID.String()
			out.Serials = append(out.Serials, serial)
			if err := verify(source, svid); err != nil {
				out.Errors = append(out.Errors, err.Error())
			} else {
				out.Verified++
			}
			token, err := jwts.FetchJWTSVID(ctx, jwtsvid.Params{Subject: want, Audience: "interop"})
			if err != nil {
				return nil, fmt.Errorf("FetchJWTSVID: %w", err)
			}
			parsed, err := jwtsvid.ParseAndValidate(token.Marshal(), jwts, []string{"interop"})
			if err != nil {
				return nil, fmt.Errorf("ParseAndValidate: %w", err)
			}
			out.Validated = parsed.ID.String()
			out.Tokens++
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("after %d SVIDs: %w", len(out.Serials), ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeAny())
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{"h2"}
	connection, err := tls.Dial("tcp", server, config)
	if err != nil {
		return nil, fmt.Errorf("mTLS with the server: %w", err)
	}
	defer connection.Close()
	peer, err := x509svid.IDFromCert(connection.ConnectionState().PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	out.TLSPeer = peer.String()
	return out, nil
}

func verify(bundles x509bundle.Source, svid *x509svid.SVID) error {
	_, _, err := x509svid.Verify(svid.Certificates, bundles)
	return err
}
