package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/passclave/passclave/host/endorsers"
	postgresstore "github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

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
// reads beside a round trip over a unix socket. PIN attempts come last. Database,
// endorsers and host share the machine's cores with what they are compared with.
func endorsedRows(ctx context.Context, folder, database string, k *benchKeys) (rows []*result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	identity, pool, err := startEndorsers(ctx, folder, k, &serving)
	if err != nil {
		return nil, err
	}
	s, err := postgresstore.Open(ctx, database)
	if err != nil {
		pool.Close()
		return nil, err
	}
	host := endorsedHost{s, pool}
	defer func() { err = errors.Join(err, host.Close()) }()
	l := endorsed.New(endorsed.Options{
		Identity: identity,
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
	if err != nil {
		return nil, err
	}
	row, err := pinRow(ctx, folder, backing{benchKeys: k, identity: identity, store: s, endorsers: pool}, bare)
	return append(append(rows, more...), row), err
}

// startEndorsers starts three endorsers in this process, founds a ledger on them and
// returns how a host reaches them. They serve until ctx ends.
func startEndorsers(ctx context.Context, folder string, k *benchKeys, serving *sync.WaitGroup) (id wire.LedgerIdentity, pool *endorsers.Pool, err error) {
	public, operator, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return id, nil, err
	}
	var addresses []string
	for i := range 3 {
		e := endorser.New(&endorser.Configuration{Ledger: k.LedgerID, Number: 1, Operator: wire.Base64(public)}, admitAll{k.Signers})
		path := filepath.Join(folder, fmt.Sprint("e", i))
		l, err := net.Listen("unix", path)
		if err != nil {
			return id, nil, err
		}
		serving.Go(func() { (&endorser.Server{Endorser: e, Evidence: e.Key()}).Serve(ctx, l) })
		addresses = append(addresses, "unix:"+path)
	}
	o := endorsers.Operator{Key: operator}
	f, err := o.Found(ctx, k.LedgerID, 1, 1, addresses)
	if err != nil {
		return id, nil, err
	}
	file := filepath.Join(folder, "endorsers.json")
	if err := f.Write(file); err != nil {
		return id, nil, err
	}
	chain, err := f.Views()
	if err != nil {
		return id, nil, err
	}
	v, err := endorsement.ParseView(chain.Links[0].View)
	if err != nil {
		return id, nil, err
	}
	genesis := v.Hash()
	pool, err = endorsers.Open(file)
	return wire.LedgerIdentity{ID: k.LedgerID, Backend: wire.BackendEndorsed, Genesis: genesis[:], Number: 1}, pool, err
}

// readRows measures reads of a head by 1 and by 64 readers beside as many echoes of a
// frame of the same size over one unix socket.
func readRows(ctx context.Context, folder string, k *benchKeys, l ledger.Ledger) (rows []*result, err error) {
	echo, stop, err := echoes(filepath.Join(folder, "echo"))
	if err != nil {
		return nil, err
	}
	defer stop()
	a := storetest.NewAccount(k.Keys, "ledger-endorsed1 0")
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
