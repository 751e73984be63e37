package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// Durable commits a second, and beside them the database's own: the same bytes in one
// row, in a transaction of its own.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64} {
		for _, raw := range []bool{false, true} {
			b.Run(fmt.Sprintf("writers=%d/raw=%v", writers, raw), func(b *testing.B) {
				database := postgrestest.Database(b)
				s := open(b, database)
				defer s.Close()
				write := func(c *wire.Commit) error { _, err := s.Commit(context.Background(), c); return err }
				if raw {
					write = rawWrites(b, database, writers)
				}
				keys := ledgertest.NewKeys(b)
				commits := make([][]*wire.Commit, writers)
				for i := range commits {
					a := storetest.NewAccount(keys, fmt.Sprint(i))
					for range b.N/writers + 1 {
						commits[i] = append(commits[i], a.Change(1))
					}
				}
				var n atomic.Int64
				b.ResetTimer()
				var all sync.WaitGroup
				for _, own := range commits {
					all.Go(func() {
						for _, c := range own {
							if n.Add(1) > int64(b.N) {
								return
							}
							if err := write(c); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

func rawWrites(b *testing.B, database string, writers int) func(*wire.Commit) error {
	b.Helper()
	postgrestest.Exec(b, database, "CREATE TABLE raw (id BYTEA PRIMARY KEY, body BYTEA)")
	c, err := pgxpool.ParseConfig(database)
	if err != nil {
		b.Fatal(err)
	}
	c.MaxConns = int32(min(writers, 32))
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return func(c *wire.Commit) error {
		id := wire.Hash("raw", c.Append.Entry)
		_, err := pool.Exec(context.Background(), "INSERT INTO raw VALUES ($1, $2)", id, wire.Marshal(c))
		return err
	}
}
