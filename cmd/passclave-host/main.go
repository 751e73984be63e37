// Command passclave-host is the untrusted proxy: it serves the HTTP API, keeps the
// database and forwards sealed requests to the enclave. docs/operate.md is its manual.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/endorsers"
	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/store/sqlite"
)

// ballast is bytes of the heap that are held and never touched, so that they take
// address space and no memory. The collector waits until the heap has doubled. What
// lives in it is small, the database's pages being elsewhere, so that it would
// collect, give memory back and fetch it again, after every few dozen requests: a
// fifth of the host's time. A percentage would do that too, but of a large heap, as
// slow clients can make it, it would take many times the memory.
const ballast = 32 << 20

func main() {
	defer runtime.KeepAlive(make([]byte, ballast))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	switch err := run(ctx, os.Args[1:], os.Stdout, log); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		log.Error("passclave-host ends", "error", err)
		os.Exit(1)
	}
}

// settings are the command line.
type settings struct {
	store, enclave, listen, metrics string
	endorsers                       string
	tlsCert, tlsKey                 string
	options                         api.Options
}

func parse(args []string) (*settings, error) {
	var s settings
	account, address, evidence := api.DefaultRates()
	f := flag.NewFlagSet("passclave-host", flag.ContinueOnError)
	f.StringVar(&s.store, "store", "", "folder of an SQLite database, made where it is not there, or postgres://USER@HOST:PORT/DATABASE")
	f.StringVar(&s.enclave, "enclave", "", "where the enclave listens: unix:PATH or tcp:ADDRESS")
	f.StringVar(&s.endorsers, "endorsers", "", "file that names endorsers and their views, for an endorsed ledger; it is read again when it changes")
	f.StringVar(&s.listen, "listen", "127.0.0.1:8443", "address of the HTTP API")
	f.StringVar(&s.metrics, "metrics", "", "where the operator reaches metrics and resealing, HOST:PORT or unix:PATH, never a public address; empty: nowhere")
	f.StringVar(&s.tlsCert, "tls-cert", "", "file with the certificate chain; empty: plain HTTP, for loopback or behind a proxy")
	f.StringVar(&s.tlsKey, "tls-key", "", "file with its private key")
	f.Float64Var(&account.PerSecond, "rate-account", account.PerSecond, "requests a second of one address for one account, and pages a second of one account's feed; 0: no limit")
	f.Float64Var(&address.PerSecond, "rate-address", address.PerSecond, "calls a second from one address, loopback excepted where it is no proxy; 0: no limit")
	f.Float64Var(&evidence.PerSecond, "rate-evidence", evidence.PerSecond, "evidence made for nonces a second, of all clients together, of which one address has an eighth; 0: no limit")
	f.Func("trusted-proxy", "network whose X-Forwarded-For is believed, as 10.0.0.0/8 or, for a proxy on this machine, 127.0.0.0/8; may be given several times", func(text string) error {
		p, err := netip.ParsePrefix(text)
		s.options.TrustedProxies = append(s.options.TrustedProxies, p)
		return err
	})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.store == "" || s.enclave == "":
		return nil, errors.New("-store and -enclave are required")
	case strings.Contains(s.store, "://") && !postgres.IsURL(s.store):
		return nil, errors.New("-store is neither a folder nor postgres://…") // which may hold a password
	case (s.tlsCert == "") != (s.tlsKey == ""):
		return nil, errors.New("-tls-cert and -tls-key go together")
	}
	s.options.AccountRate, s.options.AddressRate, s.options.EvidenceRate = unlessZero(account), unlessZero(address), unlessZero(evidence)
	return &s, nil
}

func unlessZero(r api.Rate) api.Rate {
	if r.PerSecond <= 0 {
		return api.Rate{}
	}
	return r
}

// dialer dials an enclave's address.
func dialer(address string) (func(context.Context) (net.Conn, error), error) {
	network, where, ok := strings.Cut(address, ":")
	if !ok || where == "" || network != "unix" && network != "tcp" {
		return nil, fmt.Errorf("-enclave %q is neither unix:PATH nor tcp:ADDRESS", address)
	}
	return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, where) }, nil
}

// open opens a store: a folder's or a database's.
func open(ctx context.Context, name string) (store.Store, error) {
	if postgres.IsURL(name) {
		return postgres.Open(ctx, name)
	}
	return sqlite.Open(name)
}

func run(ctx context.Context, args []string, out io.Writer, log *slog.Logger) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	dial, err := dialer(s.enclave)
	if err != nil {
		return err
	}
	var config *tls.Config
	if s.tlsCert != "" {
		certificate, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
		if err != nil {
			return err
		}
		config = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	}
	database, err := open(ctx, s.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close()) }()

	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	enclave := link.New(dial, database, log)
	enclave.Notes = database
	if s.endorsers != "" {
		pool, err := endorsers.Open(s.endorsers)
		if err != nil {
			return err
		}
		defer pool.Close()
		enclave.Endorsers = pool
	}
	s.options.Store, s.options.Enclave, s.options.Log, s.options.ReadEvidence = database, enclave, log, readEvidence
	server := api.New(s.options)

	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	if s.metrics != "" {
		l, err := listenOperator(s.metrics)
		if err != nil {
			listener.Close()
			return err
		}
		running.Go(func() { api.Serve(ctx, l, nil, server.Operator(), api.DefaultTimeouts(), log) })
	}
	running.Go(func() { enclave.Run(ctx) })
	scheme := "http"
	if config != nil {
		scheme = "https"
	}
	fmt.Fprintf(out, "ready %s://%s\n", scheme, listener.Addr())
	return server.Serve(ctx, listener, config, api.DefaultTimeouts())
}

// readEvidence reads an evidence bundle, which nobody has verified.
func readEvidence(evidence []byte) (facts api.EvidenceFacts, err error) {
	bundle, err := attestation.ParseBundle(evidence)
	if err != nil {
		return facts, err
	}
	data, err := attestation.ParseRuntimeData(bundle.RuntimeData)
	if err != nil {
		return facts, err
	}
	if data.Ledger == nil {
		return facts, errors.New("the evidence names no ledger")
	}
	return api.EvidenceFacts{Ledger: data.Ledger.ID, Signers: len(data.Ledger.Signers), Simulated: attestation.Simulated(bundle, time.Now())}, nil
}
