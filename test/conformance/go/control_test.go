package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"
)

// Where a server of ours listens.
type server struct {
	ID          string `json:"server"`
	Address     string `json:"address"`
	AdminSocket string `json:"admin_socket"`
	StateDir    string `json:"state_dir"`
}

var control = &http.Client{Transport: &http.Transport{
	DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", os.Getenv("WRIT_CONTROL"))
	},
}}

// Asks the side that owns the processes for something.
func ask(path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	response, err := control.Post("http://control"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, text)
	}
	return json.Unmarshal(text, answer)
}

type fields map[string]any

// Starts a server with this configuration beyond what all have.
func startServer(t *testing.T, config fields) *server {
	t.Helper()
	started := &server{}
	must(t, ask("/server/start", fields{"config": config}, started))
	// What stays would take the time, and its store's connections, of the tests that follow.
	t.Cleanup(func() { started.end(t, "SIGKILL") })
	return started
}

var (
	sharedOnce sync.Once
	shared     *server
	sharedErr  error
)

// The server of the tests that leave its authorities and settings alone.
func theServer(t *testing.T) *server {
	t.Helper()
	sharedOnce.Do(func() {
		shared = &server{}
		sharedErr = ask("/server/start", fields{"config": fields{}}, shared)
	})
	must(t, sharedErr)
	return shared
}

func (s *server) end(t *testing.T, signal string) {
	t.Helper()
	must(t, ask("/server/end", fields{"server": s.ID, "signal": signal}, &struct{}{}))
}

func (s *server) again(t *testing.T) {
	t.Helper()
	must(t, ask("/server/again", fields{"server": s.ID}, s))
}

func (s *server) count(t *testing.T, sql string) int {
	t.Helper()
	var answer struct {
		Count int `json:"count"`
	}
	must(t, ask("/store/count", fields{"server": s.ID, "sql": sql}, &answer))
	return answer.Count
}

// Runs `writ` as the server's operator; its standard output.
func (s *server) writ(t *testing.T, args ...string) string {
	t.Helper()
	var answer struct {
		Status int    `json:"status"`
		Stdout string `json:"stdout"`
		Stderr string `json:"stderr"`
	}
	must(t, ask("/writ", fields{"server": s.ID, "args": args}, &answer))
	if answer.Status != 0 {
		t.Fatalf("writ %v: %d: %s", args, answer.Status, answer.Stderr)
	}
	return answer.Stdout
}

// Starts an agent of ours; the address of its Workload API.
func (s *server) startAgent(t *testing.T, joinString string) string {
	t.Helper()
	var answer struct {
		Agent       string `json:"agent"`
		WorkloadAPI string `json:"workload_api"`
	}
	must(t, ask("/agent/start", fields{"server": s.ID, "join_string": joinString}, &answer))
	t.Cleanup(func() { must(t, ask("/agent/end", fields{"agent": answer.Agent}, &struct{}{})) })
	return "unix://" + answer.WorkloadAPI
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Waits for something to hold.
func until(t *testing.T, d time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %s: %s", d, what)
}
