// Two peers that speak mTLS by go-spiffe, each with the Workload API of another agent, through the
// rotations of SVIDs and authorities. Prints one JSON document.
package main

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const (
	betweenHandshakes = 50 * time.Millisecond
	handshakeTime     = 10 * time.Second
	startTime         = 30 * time.Second
	mostFailures      = 20
)

type report struct {
	Handshakes  int      `json:"handshakes"`
	SVIDs       int      `json:"svids"`
	Authorities []string `json:"authorities"`
	Failures    []string `json:"failures"`
}

func main() {
	client := flag.String("client", "", "Workload API of the peer that connects")
	server := flag.String("server", "", "Workload API of the peer that listens")
	clientID := flag.String("client-id", "", "its SPIFFE ID")
	serverID := flag.String("server-id", "", "its SPIFFE ID")
	duration := flag.Duration("for", time.Minute, "how long")
	flag.Parse()
	out, err := run(peer{*client, *clientID}, peer{*server, *serverID}, *duration)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(out)
}

type peer struct{ socket, id string }

func (p peer) source() (*workloadapi.X509Source, spiffeid.ID, error) {
	id, err := spiffeid.FromString(p.id)
	if err != nil {
		return nil, id, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+p.socket)))
	return source, id, err
}

func run(client, server peer, duration time.Duration) (*report, error) {
	clientSource, clientID, err := client.source()
	if err != nil {
		return nil, err
	}
	defer clientSource.Close()
	serverSource, serverID, err := server.source()
	if err != nil {
		return nil, err
	}
	defer serverSource.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0",
		tlsconfig.MTLSServerConfig(serverSource, serverSource, tlsconfig.AuthorizeID(clientID)))
	if err != nil {
		return nil, err
	}
	seen := &log{out: report{Failures: []string{}}, serials: map[string]bool{}, authorities: map[string]bool{}}
	var serving sync.WaitGroup
	serving.Add(1)
	go func() {
		defer serving.Done()
		serve(listener, seen, &serving)
	}()
	config := tlsconfig.MTLSClientConfig(clientSource, clientSource, tlsconfig.AuthorizeID(serverID))
	for end := time.Now().Add(duration); time.Now().Before(end); time.Sleep(betweenHandshakes) {
		seen.own(clientSource)
		seen.own(serverSource)
		seen.handshake("client", exchange(listener.Addr().String(), config))
	}
	listener.Close()
	serving.Wait()
	return seen.done(), nil
}

// Echoes one byte a connection; each has to hold until it is read.
func serve(listener net.Listener, seen *log, serving *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		serving.Add(1)
		go func() {
			defer serving.Done()
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(handshakeTime))
			one := make([]byte, 1)
			_, err := io.ReadFull(conn, one)
			if err == nil {
				_, err = conn.Write(one)
			}
			if err != nil {
				seen.fail("server: " + err.Error())
			}
		}()
	}
}

func exchange(address string, config *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: handshakeTime}, "tcp", address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(handshakeTime))
	if _, err = conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

type log struct {
	lock                 sync.Mutex
	out                  report
	serials, authorities map[string]bool
}

// Holds a peer's SVID against the bundle that it has at the same time.
func (l *log) own(source *workloadapi.X509Source) {
	svid, err := source.GetX509SVID()
	if err == nil {
		_, _, err = x509svid.Verify(svid.Certificates, source)
	}
	if err != nil {
		l.fail("own SVID: " + err.Error())
		return
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	l.serials[svid.Certificates[0].SerialNumber.String()] = true
	l.authorities[hex.EncodeToString(svid.Certificates[0].AuthorityKeyId)] = true
}

func (l *log) handshake(side string, err error) {
	l.lock.Lock()
	l.out.Handshakes++
	l.lock.Unlock()
	if err != nil {
		l.fail(side + ": " + err.Error())
	}
}

func (l *log) fail(what string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if len(l.out.Failures) < mostFailures {
		l.out.Failures = append(l.out.Failures, time.Now().UTC().Format(time.TimeOnly)+" "+what)
	}
}

func (l *log) done() *report {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.out.SVIDs = len(l.serials)
	l.out.Authorities = []string{}
	for id := range l.authorities {
		l.out.Authorities = append(l.out.Authorities, id)
	}
	return &l.out
}
