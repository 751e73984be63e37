package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/passclave/passclave/development/postgres"
	"github.com/passclave/passclave/host/endorsers"
	postgresstore "github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// ledgerRows measures the ledger's backends without a service around them, in
// microseconds on the clock: appends by 1 and by 64 writers beside the database's own
// durable writes of the same bytes, and reads of a head beside one round trip.
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
	if rows, err = localRows(ctx, filepath.Join(folder, "local"), k); err != nil {
		return nil, err
	}
	server, err := postgres.Start(ctx, postgres.Options{Dir: filepath.Join(folder, "s")})
	if errors.Is(err, postgres.ErrNotFound) {
		say("ledger-endorsed and head-read are NOT MEASURED: %v", err)
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	more, err := endorsedRows(ctx, folder, server.URL(""), k)
	return append(rows, more...), err
}

func newBenchKeys() (*ledgertest.Keys, error) {
	id, kek := make([]byte, 32), make([]byte, 32)
	rand.Read(id)
	rand.Read(kek)
	private, signers := ledger.Succession(id, [][]byte{kek})
	v, err := ledger.NewVerifier(id, signers)
	return &ledgertest.Keys{LedgerID: id, Private: private[0], Verifier: v, Signers: signers}, err
}

var ledgerWriters = []int{1, 64}

// localRows measures the local ledger. Its floor is SQLite, with as many rows in one
// transaction as wait.
func localRows(ctx context.Context, folder string, k *ledgertest.Keys) (rows []*result, err error) {
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
	return rows, nil
}

// appendRow measures appends in turns with bare writes.
func appendRow(ctx context.Context, name string, writers int, k *ledgertest.Keys, l ledger.Ledger, bare func(*wire.Commit) error) (*result, error) {
	var mine, others []*storetest.Account
	for i := range writers {
		mine = append(mine, storetest.NewAccount(k, fmt.Sprint(name, writers, " ", i)))
		others = append(others, storetest.NewAccount(k, fmt.Sprint(name, writers, " bare ", i)))
	}
	appends := func(c *wire.Commit) error {
		_, err := l.CompareAndAppend(ctx, c)
		return err
	}
	var each, floors []float64
	for round := range postgresRounds + 1 {
		us, err := written(mine, appends)
		if err != nil {
			return nil, err
		}
		floor, err := written(others, bare)
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

// endorsedHost is the host in the same process: the store in PostgreSQL, and endorsers
// behind loopback sockets.
type endorsedHost struct {
	*postgresstore.Store
	*endorsers.Pool
}

func (h endorsedHost) Close() error {
	h.Pool.Close()
	return h.Store.Close()
}

func (h endorsedHost) Newest(ctx context.Context, account wire.AccountID) ([]byte, error) {
	state, err := h.Load(ctx, wire.Need{Account: account, State: true})
	return state.Newest, err
}

// admitAll takes the bench's own keys for an enclave's, and any endorser.
type admitAll struct{ signers []ledger.Signer }

func (a admitAll) Enclave([]byte, wire.Digest) ([]ledger.Signer, error) { return a.signers, nil }
func (admitAll) Successor([]byte, []byte, []byte) error                 { return nil }

// endorsedRows measures the endorsed ledger: appends beside PostgreSQL's own writes, and
// reads beside a round trip over a unix socket. Database, endorsers and host share the
// machine's cores with what they are compared with.
func endorsedRows(ctx context.Context, folder, database string, k *ledgertest.Keys) (rows []*result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	public, operator, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for i := range 3 {
		e := endorser.New(&endorser.Configuration{Ledger: k.LedgerID, Number: 1, Operator: wire.Base64(public)}, admitAll{k.Signers})
		path := filepath.Join(folder, fmt.Sprint("e", i))
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, err
		}
		serving.Go(func() { (&endorser.Server{Endorser: e, Evidence: e.Key()}).Serve(ctx, l) })
		addresses = append(addresses, "unix:"+path)
	}
	o := endorsers.Operator{Key: operator}
	f, err := o.Found(ctx, k.LedgerID, 1, 1, addresses)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "endorsers.json")
	if err := f.Write(file); err != nil {
		return nil, err
	}
	chain, err := f.Views()
	if err != nil {
		return nil, err
	}
	v, err := endorsement.ParseView(chain.Links[0].View)
	if err != nil {
		return nil, err
	}
	s, err := postgresstore.Open(ctx, database)
	if err != nil {
		return nil, err
	}
	pool, err := endorsers.Open(file)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	host := endorsedHost{s, pool}
	defer func() { err = errors.Join(err, host.Close()) }()
	genesis := v.Hash()
	l := endorsed.New(endorsed.Options{
		Identity: wire.LedgerIdentity{ID: k.LedgerID, Backend: wire.BackendEndorsed, Genesis: genesis[:], Number: 1},
		Verifier: func() *ledger.Verifier { return k.Verifier },
		Key: func() (ed25519.PublicKey, func([]byte) []byte) {
			return k.Signers[0].Public, func(message []byte) []byte { return ed25519.Sign(k.Private, message) }
		},
		Evidence: func(context.Context) ([]byte, error) { return []byte("evidence"), nil },
	}).Over(host)
	bare, closeBare, err := barePostgres(ctx, database)
	if err != nil {
		return nil, err
	}
	defer closeBare()
	for _, writers := range ledgerWriters {
		row, err := appendRow(ctx, "ledger-endorsed", writers, k, l, bare)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	more, err := readRows(ctx, folder, k, l)
	return append(rows, more...), err
}

// readRows measures reads of a head by 1 and by 64 readers beside as many echoes of a
// frame of the same size over one unix socket.
func readRows(ctx context.Context, folder string, k *ledgertest.Keys, l ledger.Ledger) (rows []*result, err error) {
	echo, stop, err := echoes(filepath.Join(folder, "echo"))
	if err != nil {
		return nil, err
	}
	defer stop()
	a := storetest.NewAccount(k, "ledger-endorsed1 0")
	for _, readers := range ledgerWriters {
		const count = 3200
		each, floors := []float64{}, []float64{}
		for range postgresRounds {
			errs := make([]error, count)
			us := clock(count, func() {
				parallel(readers, count, func(i int) {
					_, errs[i] = l.ReadHead(ctx, a.ID, a.Stream, [32]byte{}, nil)
				})
			})
			floor := clock(count, func() {
				parallel(readers, count, func(i int) {
					if err := echo(ctx); err != nil && errs[i] == nil {
						errs[i] = err
					}
				})
			})
			if err := first(errs); err != nil {
				return nil, err
			}
			each, floors = append(each, us), append(floors, floor)
		}
		rows = append(rows, newResult(fmt.Sprintf("head-read-%d", readers), median(each)).floor(median(floors)))
	}
	return rows, nil
}

// clock is the time on the clock of one of n, in microseconds.
func clock(n int, f func()) float64 {
	began := time.Now()
	f()
	return microseconds(time.Since(began)) / float64(n)
}

// echoes serves frames that come back as they are, over a unix socket.
func echoes(path string) (func(context.Context) error, func(), error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, err
	}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		value := wire.Marshal(wire.Result{Value: make([]byte, 200)})
		for {
			f, err := wire.ReadFrame(conn)
			if err != nil {
				return
			}
			if _, err := conn.Write(wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: value}.Append(nil)); err != nil {
				return
			}
		}
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, nil, err
	}
	c := endorser.NewClient(conn)
	body := make([]byte, 120)
	return func(ctx context.Context) error {
		_, err := c.Call(ctx, wire.FrameIdentify, body)
		return err
	}, func() { c.Close(); listener.Close() }, nil
}

// printMemory says how much an endorser needs for a million streams (aim: under 150 MB).
func printMemory(w io.Writer) error {
	bytes, err := endorserMemory()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "endorser-memory: %.0f MB of heap for a million streams\n", float64(bytes)/1e6)
	return err
}

// endorserMemory returns how many bytes of heap an endorser takes for a million streams.
func endorserMemory() (uint64, error) {
	k, err := newBenchKeys()
	if err != nil {
		return 0, err
	}
	public, operator, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	e := endorser.New(&endorser.Configuration{Ledger: k.LedgerID, Number: 1, Operator: wire.Base64(public)}, admitAll{k.Signers})
	v := &endorsement.View{Version: wire.Version, Ledger: k.LedgerID, Genesis: 1, Number: 1, Groups: []endorsement.Group{{{Key: e.Key()}, {Key: make([]byte, 32)}, {Key: public}}}}
	for i := range v.Groups[0] {
		v.Groups[0][i].Evidence = endorsement.EvidenceHash(nil)
	}
	s := endorsement.NewSuccession(v, operator)
	s.Evidence = [][]byte{{}}
	if err := errors.Join(e.Found(s), e.Introduce(nil)); err != nil {
		return 0, err
	}
	before := heap()
	const streams = 1_000_000
	for n := uint64(0); n < streams; {
		ask := endorsement.Ask{View: v.Hash()}
		io.ReadFull(rand.Reader, ask.Nonce[:])
		for ; len(ask.Appends) < endorsement.MaxStreams && n < streams; n++ {
			h := wire.Hash("bench stream", n)
			ask.Appends = append(ask.Appends, endorsement.Append{Stream: wire.StreamID(h), Next: wire.Head{Sequence: 1, Hash: h}})
		}
		ask.Sign(k.Signers[0].Public, func(m []byte) []byte { return ed25519.Sign(k.Private, m) })
		if _, err := e.Ask(wire.Marshal(&ask)); err != nil {
			return 0, err
		}
	}
	used := heap() - before
	runtime.KeepAlive(e)
	return used, nil
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
