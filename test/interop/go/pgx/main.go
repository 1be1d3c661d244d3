// What a Go service does with pgx and its pool: every way that pgx sends a query, batches, COPY,
// savepoints, cancels. Prints one JSON document.
//
// usage: pgx CONNECTION_STRING
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

// Takes a lock that others see, so that they know when it has begun and can be cancelled.
const (
	asleep   = "select pg_advisory_xact_lock(77), pg_sleep(30)"
	isAsleep = "select count(*) from pg_locks where locktype = 'advisory' and objid = 77"
)

type report map[string]any

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pgx CONNECTION_STRING")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	out, err := run(ctx, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(out)
}

func run(ctx context.Context, dsn string) (report, error) {
	connection, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer connection.Close(ctx)
	out := report{}
	for _, step := range []struct {
		name string
		run  func(context.Context, *pgx.Conn) (any, error)
	}{
		{"modes", queries}, {"batch", batch}, {"copies", copies}, {"transactions", transactions}, {"big", big},
	} {
		if out[step.name], err = step.run(ctx, connection); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if out["cancels"], err = cancels(ctx, dsn); err != nil {
		return nil, fmt.Errorf("cancels: %w", err)
	}
	if out["pool"], err = pooled(ctx, dsn); err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	return out, nil
}

// Each way twice, so that prepared statements are used again.
func queries(ctx context.Context, connection *pgx.Conn) (any, error) {
	found := map[string]any{}
	for _, mode := range modes {
		for range 2 {
			var ssn string
			if err := connection.QueryRow(ctx, "select ssn from customers where id = $1", mode, 1).Scan(&ssn); err != nil {
				return nil, fmt.Errorf("%s: %w", mode, err)
			}
			rows, err := connection.Query(ctx, "select id, t, n::text, ts, j::text, a, ta, b, u::text, flag, f::text, big from kinds where id < $1 order by id", mode, 10)
			if err != nil {
				return nil, err
			}
			all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
				values, err := row.Values()
				return fmt.Sprint(values), err
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", mode, err)
			}
			found[mode.String()] = []any{ssn, all}
		}
		found[mode.String()+" refused"] = state(connection.Exec(ctx, "delete from vault where id = $1", mode, 1))
	}
	return found, nil
}

func batch(ctx context.Context, connection *pgx.Conn) (any, error) {
	queue := &pgx.Batch{}
	for n := range 50 {
		queue.Queue("insert into orders (customer, total) values ($1, $2) returning status", fmt.Sprint("batch ", n), n)
	}
	queue.Queue("select count(*) from orders where customer like 'batch%'")
	results := connection.SendBatch(ctx, queue)
	for range 50 {
		var status string
		if err := results.QueryRow().Scan(&status); err != nil {
			return nil, err
		}
	}
	var count int
	if err := results.QueryRow().Scan(&count); err != nil {
		return nil, err
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	failing := &pgx.Batch{}
	failing.Queue("update orders set status = 'lost' where customer = 'batch 1'")
	failing.Queue("select * from vault")
	failing.Queue("select 1")
	refused := state(pgconn.CommandTag{}, connection.SendBatch(ctx, failing).Close())
	var lost int
	err := connection.QueryRow(ctx, "select count(*) from orders where status = 'lost'").Scan(&lost)
	return []any{count, refused, lost}, err
}

func copies(ctx context.Context, connection *pgx.Conn) (any, error) {
	source := pgx.CopyFromSlice(5000, func(n int) ([]any, error) { return []any{1, fmt.Sprint("copied ü ", n)}, nil })
	in, err := connection.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"order_id", "label"}, source)
	if err != nil {
		return nil, err
	}
	_, err = connection.CopyFrom(ctx, pgx.Identifier{"bulk"}, []string{"id", "filler"}, pgx.CopyFromRows([][]any{{0, ""}}))
	var out writer
	tag, copied := connection.PgConn().CopyTo(ctx, &out, "copy (select ssn from customers where id = 1) to stdout")
	return []any{in, state(pgconn.CommandTag{}, err), string(out), tag.RowsAffected()}, copied
}

type writer []byte

func (w *writer) Write(bytes []byte) (int, error) {
	*w = append(*w, bytes...)
	return len(bytes), nil
}

func transactions(ctx context.Context, connection *pgx.Conn) (any, error) {
	states := []string{}
	err := pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into orders (customer, total) values ('pgx', 1)"); err != nil {
			return err
		}
		for _, sql := range []string{"delete from vault", "insert into orders (customer, total) values ('pgx', 1)"} {
			err := pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
				_, err := nested.Exec(ctx, sql)
				return err
			})
			states = append(states, state(pgconn.CommandTag{}, err))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	tx, err := connection.Begin(ctx)
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{"select * from vault", "select 1"} {
		states = append(states, state(tx.Exec(ctx, sql)))
	}
	if err := tx.Rollback(ctx); err != nil {
		return nil, err
	}
	var kept int
	err = connection.QueryRow(ctx, "select count(*) from orders where customer = 'pgx'").Scan(&kept)
	return []any{states, kept}, err
}

func big(ctx context.Context, connection *pgx.Conn) (any, error) {
	rows, err := connection.Query(ctx, "select id, filler from bulk order by id")
	if err != nil {
		return nil, err
	}
	var id, sum, bytes int
	var filler string
	_, err = pgx.ForEachRow(rows, []any{&id, &filler}, func() error {
		sum += id
		bytes += len(filler)
		return nil
	})
	return []int{sum, bytes}, err
}

// A context that ends closes the connection; CancelRequest leaves it.
func cancels(ctx context.Context, dsn string) (any, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	connection, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer connection.Close(ctx)
	go func() {
		if awaitAsleep(ctx, dsn) == nil {
			connection.PgConn().CancelRequest(ctx)
		}
	}()
	cancelled := state(connection.Exec(ctx, asleep))
	if _, err := connection.Exec(ctx, "begin; set local statement_timeout = 200"); err != nil {
		return nil, err
	}
	slow := state(connection.Exec(ctx, asleep))
	if _, err := connection.Exec(ctx, "rollback"); err != nil {
		return nil, err
	}
	brief, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	_, err = connection.Exec(brief, "select pg_sleep(30)")
	return []any{cancelled, slow, errors.Is(err, context.DeadlineExceeded)}, nil
}

func awaitAsleep(ctx context.Context, dsn string) error {
	other, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer other.Close(ctx)
	for {
		var found int
		if err := other.QueryRow(ctx, isAsleep).Scan(&found); err != nil || found > 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func pooled(ctx context.Context, dsn string) (any, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var group sync.WaitGroup
	answers := make([]int, 40)
	errs := make([]error, 40)
	for n := range answers {
		group.Add(1)
		go func() {
			defer group.Done()
			if n%10 == 0 {
				pool.Exec(ctx, "delete from vault")
			}
			errs[n] = pool.QueryRow(ctx, "select $1::int * 2", n).Scan(&answers[n])
		}()
	}
	group.Wait()
	return answers, errors.Join(errs...)
}

func state(_ pgconn.CommandTag, err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	if err != nil {
		return err.Error()
	}
	return "allowed"
}
