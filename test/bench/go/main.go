// The load for the identity rows of the benchmark, and the peer that they are measured beside.
//
//	bench peer                     a small server: BatchNewX509SVID over mTLS on grpc-go and crypto/x509
//	bench MODE [-flags]            one stretch of load; prints one JSON line
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"
)

type options struct {
	addr, admin, workload, trustDomain string
	seconds                            float64
	callers, size, count               int
}

// A mode prepares, then hands out the function that one caller calls over and over. What one call does
// counts as `unit` operations.
type mode func(ctx context.Context, o options) (call func(ctx context.Context, caller int) error, unit int, err error)

var modes = map[string]mode{
	"batch-x509":    batchX509,
	"mint-x509":     mintX509,
	"mint-x509-tls": mintX509TLS,
	"mint-jwt":      mintJWT,
	"new-jwt":       newJWT,
	"attest":        attestNew,
	"connect-sync":  connectAndSync,
	"fetch-x509":    fetchX509,
	"fetch-jwt":     fetchJWT,
	"fetch-jwt-new": fetchJWTNew,
	"create":        createEntries,
	"list":          listEntries,
	"sync":          syncEntries,
}

type report struct {
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("a mode is missing"))
	}
	if os.Args[1] == "peer" {
		fail(runPeer())
	}
	run, known := modes[os.Args[1]]
	if !known {
		fail(fmt.Errorf("no mode %q", os.Args[1]))
	}
	var o options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&o.addr, "addr", "", "host:port of the TLS port")
	flags.StringVar(&o.admin, "admin", "", "path of the admin socket; empty for the peer")
	flags.StringVar(&o.workload, "workload", "", "path of the Workload API socket")
	flags.StringVar(&o.trustDomain, "trust-domain", "example.org", "")
	flags.Float64Var(&o.seconds, "seconds", 5, "")
	flags.IntVar(&o.callers, "callers", 1, "")
	flags.IntVar(&o.size, "size", 50, "items of a batch")
	flags.IntVar(&o.count, "count", 0, "calls in all, in place of seconds")
	_ = flags.Parse(os.Args[2:])

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	call, unit, err := run(ctx, o)
	if err != nil {
		fail(err)
	}
	// The measured stretch begins when the other side has read this line and answered with one.
	fmt.Println("ready")
	var line string
	_, _ = fmt.Scanln(&line)
	result, err := drive(ctx, o, call, unit)
	if err != nil {
		fail(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
}

func drive(ctx context.Context, o options, call func(context.Context, int) error, unit int) (report, error) {
	started := time.Now()
	until := started.Add(time.Duration(o.seconds * float64(time.Second)))
	var mu sync.Mutex
	var times []float64
	var failure error
	left := o.count
	next := func() bool {
		mu.Lock()
		defer mu.Unlock()
		if failure != nil {
			return false
		}
		if o.count > 0 {
			left--
			return left >= 0
		}
		return time.Now().Before(until)
	}
	var wait sync.WaitGroup
	for caller := range o.callers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for next() {
				at := time.Now()
				err := call(ctx, caller)
				mu.Lock()
				if err != nil && failure == nil {
					failure = err
				}
				times = append(times, float64(time.Since(at).Microseconds())/1000)
				mu.Unlock()
			}
		}()
	}
	wait.Wait()
	if failure != nil {
		return report{}, failure
	}
	sort.Float64s(times)
	at := func(share float64) float64 { return times[int(share*float64(len(times)-1))] }
	return report{len(times) * unit, time.Since(started).Seconds(), at(0.5), at(0.99)}, nil
}

func fail(err error) {
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
