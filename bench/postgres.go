package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/passclave/passclave/development/postgres"
	store "github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// Rounds of commits, and how many are in one.
const (
	postgresRounds = 7
	postgresCount  = 1280
)

// postgresRows measures commits to PostgreSQL, each of an entry, a head, two records and
// a blob, by 1 and by 64 writers, in microseconds on the clock. The floor is the
// database's own durable write of the same bytes: one row, in a transaction of its own,
// by as many writers. Both take turns. Without PostgreSQL there are no rows.
func postgresRows(ctx context.Context) (rows []*result, err error) {
	folder, err := passable()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	server, err := postgres.Start(ctx, postgres.Options{Dir: filepath.Join(folder, "s")})
	if errors.Is(err, postgres.ErrNotFound) {
		say("postgres-commit is NOT MEASURED: %v", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	for _, writers := range []int{1, 64} {
		row, err := postgresRow(ctx, server.URL(""), writers)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// passable makes a temporary folder, in which PostgreSQL may run as another user than root.
func passable() (string, error) {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return "", err
	}
	return folder, os.Chmod(folder, 0o711)
}

func postgresRow(ctx context.Context, database string, writers int) (*result, error) {
	s, err := store.Open(ctx, database)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	bare, closeBare, err := barePostgres(ctx, database)
	if err != nil {
		return nil, err
	}
	defer closeBare()
	commit := func(c *wire.Commit) error {
		_, err := s.Commit(ctx, c)
		return err
	}
	accounts, others := make([]*storetest.Account, writers), make([]*storetest.Account, writers) // of commits and bare writes
	keys := &ledgertest.Keys{LedgerID: make([]byte, 32)}
	private, _ := ledger.Succession(keys.LedgerID, [][]byte{make([]byte, 32)})
	keys.Private = private[0]
	for i := range accounts {
		accounts[i] = storetest.NewAccount(keys, fmt.Sprint("commits ", writers, " ", i))
		others[i] = storetest.NewAccount(keys, fmt.Sprint("bare ", writers, " ", i))
	}
	var each, floors []float64
	for round := range postgresRounds + 1 {
		us, err := written(accounts, change, commit)
		if err != nil {
			return nil, err
		}
		floor, err := written(others, change, bare)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			continue // connects, and prepares statements
		}
		each, floors = append(each, us), append(floors, floor)
	}
	return newResult(fmt.Sprintf("postgres-commit-%d", writers), median(each)).floor(median(floors)), nil
}

// barePostgres returns the database's own durable write: one row in a transaction of its
// own, over as many connections as the store has.
func barePostgres(ctx context.Context, database string) (func(*wire.Commit) error, func(), error) {
	c, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, nil, err
	}
	c.MaxConns = 32
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if _, err := pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS bare (id BYTEA PRIMARY KEY, body BYTEA)"); err != nil {
		pool.Close()
		return nil, nil, err
	}
	return func(c *wire.Commit) error {
		_, err := pool.Exec(ctx, "INSERT INTO bare VALUES ($1, $2)", wire.Hash("bare", c.Append.Entry), wire.Marshal(c))
		return err
	}, pool.Close, nil
}

// written has each account's writer make its share of changes durable, one after the
// other, and returns the time of one.
func written(accounts []*storetest.Account, next func(*storetest.Account) *wire.Commit, write func(*wire.Commit) error) (us float64, err error) {
	commits := make([][]*wire.Commit, len(accounts))
	errs := make([]error, len(accounts))
	for i, a := range accounts {
		for range postgresCount / len(accounts) {
			commits[i] = append(commits[i], next(a))
		}
	}
	var all sync.WaitGroup
	began := time.Now()
	for i := range accounts {
		all.Go(func() {
			for _, c := range commits[i] {
				if errs[i] = write(c); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return float64(time.Since(began).Microseconds()) / postgresCount, errors.Join(errs...)
}
