// A Go service whose pool takes its SVID from the Workload API, through a renewal: what it meets until a
// connection of the first SVID ends. Prints one JSON document.
//
// usage: generations SOCKET SPIFFE_ID CONNECTION_STRING
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

type report struct {
	Queries  int      `json:"queries"`
	Errors   []string `json:"errors"`
	Ended    string   `json:"ended"`
	EndedAt  int64    `json:"ended_at_ms"`
	NotAfter int64    `json:"not_after_ms"`
	Renewed  bool     `json:"renewed"`
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: generations SOCKET SPIFFE_ID CONNECTION_STRING")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	out, err := run(ctx, os.Args[1], spiffeid.RequireFromString(os.Args[2]), os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(out)
}

func run(ctx context.Context, socket string, id spiffeid.ID, dsn string) (*report, error) {
	pick := func(svids []*x509svid.SVID) *x509svid.SVID {
		for _, svid := range svids {
			if svid.ID == id {
				return svid
			}
		}
		return svids[0]
	}
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(socket)), workloadapi.WithDefaultX509SVIDPicker(pick))
	if err != nil {
		return nil, err
	}
	defer source.Close()
	pool, err := openPool(ctx, source, id, dsn)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	first, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	old, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer old.Release()
	out := &report{Errors: []string{}, NotAfter: first.Certificates[0].NotAfter.UnixMilli()}
	for ctx.Err() == nil {
		if _, err := old.Exec(ctx, "select count(*) from orders"); err != nil {
			out.Ended, out.EndedAt = codeOf(err), time.Now().UnixMilli()
			break
		}
		if _, err := pool.Exec(ctx, "select count(*) from orders"); err != nil {
			out.Errors = append(out.Errors, err.Error())
		}
		out.Queries++
		time.Sleep(50 * time.Millisecond)
	}
	if _, err := pool.Exec(ctx, "select 1"); err != nil {
		out.Errors = append(out.Errors, err.Error())
	}
	now, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	out.Renewed = now.Certificates[0].SerialNumber.Cmp(first.Certificates[0].SerialNumber) != 0
	return out, ctx.Err()
}

// Connections live a while at most, so that the pool moves to the SVID of the day.
func openPool(ctx context.Context, source *workloadapi.X509Source, id spiffeid.ID, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 4
	config.MaxConnLifetime = 3 * time.Second
	config.BeforeConnect = func(_ context.Context, connection *pgx.ConnConfig) error {
		connection.TLSConfig = tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeMemberOf(id.TrustDomain()))
		return nil
	}
	return pgxpool.NewWithConfig(ctx, config)
}

func codeOf(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return err.Error()
}
