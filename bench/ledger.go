package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/passclave/passclave/development/postgres"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// ledgerRows measures the ledger's backends, in microseconds on the clock: without a
// service around them, appends by 1 and by 64 writers beside the database's own durable
// writes of the same bytes, and reads of a head beside one round trip; with a host and an
// enclave around them, PIN attempts.
func ledgerRows(ctx context.Context) (rows []*result, err error) {
	folder, err := passable()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	k, err := newBenchKeys()
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(make([]byte, ballast))
	if rows, err = localRows(ctx, filepath.Join(folder, "local"), k); err != nil {
		return nil, err
	}
	row, err := azureRow(ctx, folder, k)
	if err != nil {
		return nil, err
	}
	rows = append(rows, row)
	server, err := postgres.Start(ctx, postgres.Options{Dir: filepath.Join(folder, "s")})
	if errors.Is(err, postgres.ErrNotFound) {
		say("the endorsed ledger is NOT MEASURED: %v", err)
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	more, err := endorsedRows(ctx, folder, server.URL(""), k)
	return append(rows, more...), err
}

// benchKeys are a ledger's keys, and the KEK that they derive from.
type benchKeys struct {
	*ledgertest.Keys
	kek []byte
}

func newBenchKeys() (*benchKeys, error) {
	id, kek := random(), random()
	private, signers := ledger.Succession(id, [][]byte{kek})
	v, err := ledger.NewVerifier(id, signers)
	return &benchKeys{&ledgertest.Keys{LedgerID: id, Private: private[0], Verifier: v, Signers: signers}, kek}, err
}

// keks returns what an enclave is unsealed with, which clears it.
func (k *benchKeys) keks() []enclave.KEK {
	return []enclave.KEK{{Version: "1", Key: bytes.Clone(k.kek)}}
}

var ledgerWriters = []int{1, 64}

// localRows measures the local ledger. Its floor is SQLite, with as many rows in one
// transaction as wait.
func localRows(ctx context.Context, folder string, k *benchKeys) (rows []*result, err error) {
	s, err := sqlite.Open(folder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	l := local.New(func() *ledger.Verifier { return k.Verifier }).Over(localStore{s})
	bare, err := openBare(filepath.Join(filepath.Dir(folder), "bare.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	for _, writers := range ledgerWriters {
		row, err := appendRow(ctx, "ledger-local", writers, k, l, bare.write)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	row, err := pinRow(ctx, folder, overSQLite(k, s), bare.write)
	return append(rows, row), err
}

// appendRow measures appends in turns with bare writes.
func appendRow(ctx context.Context, name string, writers int, k *benchKeys, l ledger.Ledger, bare func(*wire.Commit) error) (*result, error) {
	var mine, others []*storetest.Account
	for i := range writers {
		mine = append(mine, storetest.NewAccount(k.Keys, fmt.Sprint(name, writers, " ", i)))
		others = append(others, storetest.NewAccount(k.Keys, fmt.Sprint(name, writers, " bare ", i)))
	}
	appends := func(c *wire.Commit) error {
		_, err := l.CompareAndAppend(ctx, c)
		return err
	}
	var each, floors []float64
	for round := range postgresRounds + 1 {
		us, err := written(mine, change, appends)
		if err != nil {
			return nil, err
		}
		floor, err := written(others, change, bare)
		if err != nil {
			return nil, err
		}
		if round > 0 { // the first connects, and prepares statements
			each, floors = append(each, us), append(floors, floor)
		}
	}
	return newResult(fmt.Sprintf("%s-%d", name, writers), median(each)).floor(median(floors)), nil
}

// localStore is the host's store in the same process.
type localStore struct{ *sqlite.Store }

func (s localStore) Newest(ctx context.Context, account wire.AccountID) ([]byte, error) {
	state, err := s.Load(ctx, wire.Need{Account: account, State: true})
	return state.Newest, err
}

// bareSQLite writes rows durably, those that wait in one transaction.
type bareSQLite struct {
	db   *sql.DB
	jobs chan bareJob
	done chan struct{}
}

type bareJob struct {
	id   wire.Digest
	body []byte
	err  chan error
}

func openBare(path string) (*bareSQLite, error) {
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE bare (id BLOB PRIMARY KEY, body BLOB)"); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b := &bareSQLite{db: db, jobs: make(chan bareJob, 64), done: make(chan struct{})}
	go b.run()
	return b, nil
}

func (b *bareSQLite) close() error {
	close(b.jobs)
	<-b.done
	return b.db.Close()
}

func (b *bareSQLite) write(c *wire.Commit) error {
	j := bareJob{wire.Hash("bare", c.Append.Entry), wire.Marshal(c), make(chan error, 1)}
	b.jobs <- j
	return <-j.err
}

func (b *bareSQLite) run() {
	defer close(b.done)
	for j := range b.jobs {
		batch := []bareJob{j}
		for more := true; more && len(batch) < 64; {
			select {
			case j, ok := <-b.jobs:
				if more = ok; ok {
					batch = append(batch, j)
				}
			default:
				more = false
			}
		}
		err := b.insert(batch)
		for _, j := range batch {
			j.err <- err
		}
	}
}

func (b *bareSQLite) insert(batch []bareJob) error {
	tx, err := b.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	s, err := tx.Prepare("INSERT INTO bare VALUES (?, ?)")
	if err != nil {
		return err
	}
	for _, j := range batch {
		if _, err := s.Exec(j.id[:], j.body); err != nil {
			return err
		}
	}
	return tx.Commit()
}
