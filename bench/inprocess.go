package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	goruntime "runtime"
	"sync"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/runtime"
	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/wire"
)

// inProcess is host and enclave in this process: the same code behind the HTTP
// handler, a unix socket between them and a small store. It is for counting
// allocations and for profiles, where one process has to see both.
type inProcess struct {
	people  population
	handler http.Handler
	session *session

	stop    context.CancelFunc
	running sync.WaitGroup
	store   *sqlite.Store
}

// newInProcess founds one in a folder, with so many seeded accounts.
func newInProcess(ctx context.Context, folder string, accounts int) (*inProcess, error) {
	random := func() []byte { b := make([]byte, wire.SecretSize); rand.Read(b); return b }
	config := wire.Configuration{
		Version:          wire.ConfigurationVersion,
		Ledger:           wire.LedgerIdentity{ID: random(), Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers:          []wire.Issuer{{Issuer: "https://issuer.example", ClientIDs: []string{"bench"}, Algorithms: []string{"ES256"}}},
		PIN:              wire.PINConfiguration{ConsecutiveLimit: 10, LifetimeLimit: 100, Argon2id: wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}},
		UserVerification: wire.PlatformUserVerification{Origins: []string{}},
		KeyService:       wire.KeyService{Attestation: "https://keys.example", Vault: "https://keys.example", Key: "kek"},
	}
	file, err := config.Encode()
	if err != nil {
		return nil, err
	}
	kek := random()
	core, err := enclave.NewCore(&config, random(), []enclave.KEK{{Version: "1", Key: bytes.Clone(kek)}})
	if err != nil {
		return nil, err
	}
	p := &inProcess{people: population{random(), accounts}}
	if p.store, err = sqlite.Open(folder); err != nil {
		return nil, err
	}
	ctx, p.stop = context.WithCancel(ctx)
	if err := p.start(ctx, file, kek, core, filepath.Join(folder, "enclave.sock")); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *inProcess) start(ctx context.Context, file, kek []byte, core *enclave.Core, socket string) error {
	commits, failed := p.people.commits(core, func(int) {})
	if err := errors.Join(p.store.Seed(ctx, commits), failed()); err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	e, err := runtime.New(runtime.Options{Configuration: file, Log: quiet,
		Evidence: func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, RuntimeData: runtimeData}, nil
		}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	p.running.Go(func() { e.Serve(ctx, listener) })
	l := link.New(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}, p.store, quiet)
	p.running.Go(func() { l.Run(ctx) })
	if err := e.Unseal(ctx, []enclave.KEK{{Version: "1", Key: kek}}); err != nil { // which waits for the host
		return err
	}
	if err := l.Connected(ctx); err != nil {
		return err
	}
	p.handler = api.New(api.Options{Store: p.store, Enclave: l, Log: quiet})
	attested, err := p.exchange(httptest.NewRequest(http.MethodGet, "/v1/attestation", nil))
	if err != nil {
		return err
	}
	p.session, err = newSession(attested)
	return err
}

func (p *inProcess) close() error {
	p.stop()
	p.running.Wait()
	return p.store.Close()
}

// answer is a minimal http.ResponseWriter.
type answer struct {
	header http.Header
	status int
	body   []byte
}

func (a *answer) Header() http.Header    { return a.header }
func (a *answer) WriteHeader(status int) { a.status = status }
func (a *answer) Write(b []byte) (int, error) {
	a.body = append(a.body, b...)
	return len(b), nil
}

func (p *inProcess) exchange(r *http.Request) ([]byte, error) {
	a := &answer{header: make(http.Header, 8)}
	p.handler.ServeHTTP(a, r)
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d: %x", a.status, a.body)
	}
	return a.body, nil
}

// post makes the HTTP request of a sealed one.
func post(p *prepared) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/request", bytes.NewReader(p.envelope))
	r.Header.Set("Content-Type", "application/cbor")
	return r
}

// assert prepares an assertion with a passkey of account i.
func (p *inProcess) assert(i int) (*prepared, error) {
	d := p.people.device(i % p.people.size)
	return p.session.prepare(d.assert(d.handles[i%len(d.handles)]))
}

// allocs counts what one request allocates on the heap in host and enclave, without
// net/http's own part. prepare gives n requests that may follow one another.
func (p *inProcess) allocs(n int, prepare func(i int) (*prepared, error)) (float64, error) {
	requests := make([]*prepared, n)
	posts := make([]*http.Request, n)
	for i := range n {
		var err error
		if requests[i], err = prepare(i); err != nil {
			return 0, err
		}
		posts[i] = post(requests[i])
	}
	answers := make([][]byte, n)
	var err error
	count := mallocs(func() {
		for i := range posts {
			if answers[i], err = p.exchange(posts[i]); err != nil {
				return
			}
		}
	})
	if err != nil {
		return 0, err
	}
	for i, r := range requests {
		r.answer = answers[i]
		if _, err := r.response(); err != nil {
			return 0, err
		}
	}
	return float64(count) / float64(n), nil
}

// mallocs counts the heap allocations of this process while f runs.
func mallocs(f func()) uint64 {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}

// allocations returns the heap allocations of one assertion and of one create.
func allocations(ctx context.Context, folder string) (assertion, create float64, err error) {
	p, err := newInProcess(ctx, folder, 16)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for range 2 { // the first fills caches and prepares statements
		if assertion, err = p.allocs(200, p.assert); err != nil {
			return 0, 0, err
		}
	}
	creators := make([]*device, p.people.size)
	for i := range creators {
		creators[i] = p.people.device(i)
	}
	create, err = p.allocs(160, func(i int) (*prepared, error) {
		d := creators[i%len(creators)]
		r, err := p.session.prepare(d.create())
		d.number++
		return r, err
	})
	return assertion, create, err
}
