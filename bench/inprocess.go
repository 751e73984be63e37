package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/development/issuer"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/runtime"
	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/wire"
)

// backing is a ledger for an [inProcess]: what the measured configuration names, and
// what the host has of it.
type backing struct {
	*benchKeys
	identity  wire.LedgerIdentity
	azure     *wire.AzureLedger // with an azure ledger alone
	metadata  string            // where tokens for it come from
	store     store.Store
	endorsers link.Endorsers // with an endorsed ledger alone
}

// overSQLite returns the local ledger's backing.
func overSQLite(k *benchKeys, s *sqlite.Store) backing {
	return backing{benchKeys: k, store: s, identity: wire.LedgerIdentity{ID: k.LedgerID, Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1}}
}

// inProcess is host and enclave in this process: the same code behind the HTTP
// handler, and a unix socket between them. It is for counting allocations, for
// profiles, and for ledgers that no stack has.
type inProcess struct {
	asker   // its spent is time on the clock
	people  population
	handler http.Handler
	issuing *httptest.Server

	operator http.Handler // what the host's operator reaches
	enclave  *runtime.Runtime
	keks     []enclave.KEK // that the enclave holds
	own      *sqlite.Store // nil: the store is somebody else's

	stop    context.CancelFunc
	running sync.WaitGroup
}

// newInProcess starts one with its socket in a folder. The store stays the caller's.
func newInProcess(ctx context.Context, folder string, b backing) (*inProcess, error) {
	p := &inProcess{}
	began := time.Now()
	p.spent = func() (time.Duration, error) { return time.Since(began), nil }
	p.exchange = func(ctx context.Context, method, path string, body []byte) ([]byte, error) {
		r := httptest.NewRequestWithContext(ctx, method, path, bytes.NewReader(body))
		r.Header["Content-Type"] = []string{"application/cbor"}
		r.RemoteAddr = "127.0.0.1:1" // from there any number of calls may come
		return p.serve(r)
	}
	ctx, p.stop = context.WithCancel(ctx)
	if err := p.start(ctx, b, filepath.Join(folder, "enclave.sock")); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// newSeeded starts one over a local ledger with so many seeded accounts.
func newSeeded(ctx context.Context, folder string, accounts int) (*inProcess, error) {
	k, err := newBenchKeys()
	if err != nil {
		return nil, err
	}
	s, err := sqlite.Open(folder)
	if err != nil {
		return nil, err
	}
	p, err := newInProcess(ctx, folder, overSQLite(k, s))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	p.own, p.people = s, population{random(), accounts}
	core, err := enclave.NewCore(p.config, random(), k.keks())
	if err == nil {
		commits, failed := p.people.commits(core, func(int) {})
		err = errors.Join(s.Seed(ctx, commits), failed())
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func random() []byte {
	b := make([]byte, wire.SecretSize)
	rand.Read(b)
	return b
}

// issue starts the issuer and returns it as the measured configuration names it.
func (p *inProcess) issue() (out wire.Issuer, err error) {
	if p.issuer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return out, err
	}
	p.issuing = httptest.NewUnstartedServer(nil)
	out = wire.Issuer{Issuer: "https://" + p.issuing.Listener.Addr().String(), ClientIDs: []string{"bench"}, Algorithms: []string{"ES256"}}
	i, err := issuer.New(issuer.Config{URL: out.Issuer, Key: p.issuer, ClientIDs: out.ClientIDs, Now: time.Now, Log: quiet})
	if err != nil {
		return out, err
	}
	p.issuing.Config.Handler = i
	p.issuing.StartTLS()
	out.Roots = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.issuing.Certificate().Raw}))
	return out, nil
}

var quiet = slog.New(slog.DiscardHandler)

func (p *inProcess) start(ctx context.Context, b backing, socket string) error {
	i, err := p.issue()
	if err != nil {
		return err
	}
	p.config = &wire.Configuration{
		Version:          wire.ConfigurationVersion,
		Ledger:           b.identity,
		AzureLedger:      b.azure,
		Issuers:          []wire.Issuer{i},
		PIN:              wire.PINConfiguration{ConsecutiveLimit: 10, LifetimeLimit: 100, Argon2id: wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}},
		UserVerification: wire.PlatformUserVerification{Origins: []string{}},
		KeyService:       wire.KeyService{Attestation: "https://keys.example", Vault: "https://keys.example", Key: "kek"},
	}
	file, err := p.config.Encode()
	if err != nil {
		return err
	}
	e, err := runtime.New(runtime.Options{Configuration: file, Log: quiet, Metadata: b.metadata,
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
	p.running.Go(func() { // there is no key service to look at
		for {
			select {
			case <-ctx.Done():
				return
			case looked := <-e.Wanted():
				looked(nil)
			}
		}
	})
	l := link.New(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}, b.store, quiet)
	l.Endorsers, l.Notes = b.endorsers, b.store
	p.running.Go(func() { l.Run(ctx) })
	if err := e.Unseal(ctx, b.keks()); err != nil { // which waits for the host
		return err
	}
	if err := l.Connected(ctx); err != nil {
		return err
	}
	server := api.New(api.Options{Store: b.store, Enclave: l, Log: quiet})
	p.handler, p.operator, p.enclave, p.keks = server, server.Operator(), e, b.keks()
	return p.attest(ctx)
}

func (p *inProcess) close() error {
	p.stop()
	p.running.Wait()
	if p.issuing != nil {
		p.issuing.Close()
	}
	if p.own != nil {
		return p.own.Close()
	}
	return nil
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

func (p *inProcess) serve(r *http.Request) ([]byte, error) {
	a := &answer{header: make(http.Header, 8)}
	p.handler.ServeHTTP(a, r)
	return answered(a.status, a.body)
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
			if answers[i], err = p.serve(posts[i]); err != nil {
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
	p, err := newSeeded(ctx, folder, 16)
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
