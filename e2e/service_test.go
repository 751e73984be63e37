package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/development/issuer"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/runtime"
	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/fsck"
	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

var cheap = wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}

// options of a [service]. The zero value is an ordinary one.
type options struct {
	consecutive, lifetime uint64                          // PIN limits; 0: 3 and 100
	folder                string                          // of the database; empty: a temporary one
	store                 func(*sqlite.Store) store.Store // between host and database; nil: nothing
}

// service is a whole Passclave in this process: every part but the client.
type service struct {
	t             testing.TB
	options       options
	dir           string
	folder        string // of the database
	configuration *wire.Configuration
	file          []byte // the measured configuration
	policy        []byte
	keks          []enclave.KEK        // that the enclave gets
	made          []enclave.KEK        // all versions that there were; nil: keks
	newer         func() []enclave.KEK // what the key service has when the enclave wants to look; nil: keks
	issuer        *httptest.Server
	url           string
	proxy         *proxy
	log           *logs
	transport     *http.Transport

	stack       *stack.Stack  // instead of all below, where the parts are processes
	founded     stack.Options // with which stack was started
	link        *link.Link    // of the host that runs now
	store       store.Store   // its own
	stopHost    func()
	stopEnclave func()
	unsealed    chan struct{} // closed when the enclave has its KEK, if it is to get one
}

func newService(t testing.TB, o options) *service {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, options: o, dir: dir, folder: o.folder, log: &logs{}, transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	if s.folder == "" {
		s.folder = filepath.Join(dir, "host")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Cleanup(s.transport.CloseIdleConnections)
	key := make([]byte, wire.SecretSize)
	rand.Read(key)
	s.keks = []enclave.KEK{{Version: "v1", Key: key}}
	s.startIssuer()
	s.found()
	s.startEnclave()
	if s.proxy, err = listenProxy(filepath.Join(dir, "proxy.sock"), filepath.Join(dir, "enclave.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.proxy.close)
	s.startHost()
	t.Cleanup(func() { s.stopHost(); s.stopEnclave() })
	return s
}

func (s *service) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s.log, nil)) }

func (s *service) startIssuer() {
	key, err := issuer.LoadKey(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	handler, err := issuer.New(issuer.Config{
		URL: "https://" + server.Listener.Addr().String(), Key: key, ClientIDs: []string{"passclave"}, Now: time.Now, Log: s.logger(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	server.Config.Handler = handler
	server.StartTLS()
	s.issuer = server
	s.t.Cleanup(server.Close)
}

// found writes the measured configuration and the strict trust policy.
func (s *service) found() {
	id := make([]byte, 32)
	rand.Read(id)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.issuer.Certificate().Raw})
	pin := wire.PINConfiguration{ConsecutiveLimit: 3, LifetimeLimit: 100, Argon2id: cheap}
	if s.options.consecutive != 0 {
		pin.ConsecutiveLimit, pin.LifetimeLimit = s.options.consecutive, s.options.lifetime
	}
	s.configuration = &wire.Configuration{
		Version:          wire.ConfigurationVersion,
		Ledger:           wire.LedgerIdentity{ID: id, Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers:          []wire.Issuer{{Issuer: s.issuer.URL, ClientIDs: []string{"passclave"}, Algorithms: []string{"ES256"}, Roots: string(roots)}},
		PIN:              pin,
		UserVerification: wire.PlatformUserVerification{Origins: []string{}},
		KeyService:       wire.KeyService{Attestation: "https://keys.test", Vault: "https://keys.test", Key: "kek"},
	}
	var err error
	if s.file, err = s.configuration.Encode(); err != nil {
		s.t.Fatal(err)
	}
	root := attestationtest.Roots(attestationtest.NewMachine(s.t)).Simulation[0]
	p := policy.ForDevelopment(root, wire.ConfigurationHash(s.file), s.configuration.Ledger)
	p.Releases[0].Measurement = policy.Require(policy.Hex(bytes.Repeat([]byte{0x4d}, 48)))
	p.MinimumArgon2id = policy.Waive[policy.Argon2id]("tests")
	s.policy = p.Encode()
}

// startEnclave starts one with an empty memory.
func (s *service) startEnclave() {
	r, err := runtime.New(runtime.Options{
		Configuration: s.file,
		Evidence: func(_ context.Context, data []byte) (*attestation.Bundle, error) {
			return attestationtest.BundleOver(s.t, data, s.file), nil
		},
		Log: s.logger(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var held []enclave.KEK
	for _, k := range s.keks {
		held = append(held, enclave.KEK{Version: k.Version, Key: bytes.Clone(k.Key)})
	}
	l, err := net.Listen("unix", filepath.Join(s.dir, "enclave.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, l) }()
	s.unsealed = make(chan struct{})
	go func() {
		defer close(s.unsealed)
		if len(held) > 0 {
			r.Unseal(ctx, held) // once there is a host
		}
	}()
	var looking sync.WaitGroup
	looking.Go(func() { // as cmd/passclave-enclave does
		for {
			select {
			case <-ctx.Done():
				return
			case looked := <-r.Wanted():
				if s.newer != nil {
					r.Unseal(ctx, s.newer())
				}
				looked(nil)
			}
		}
	})
	s.stopEnclave = sync.OnceFunc(func() {
		cancel()
		<-s.unsealed
		looking.Wait()
		if err := <-ended; err != nil {
			s.t.Errorf("enclave: %v", err)
		}
	})
}

// startHost starts one on the database; its address stays.
func (s *service) startHost() {
	database, err := sqlite.Open(s.folder)
	if err != nil {
		s.t.Fatal(err)
	}
	var kept store.Store = database
	if s.options.store != nil {
		kept = s.options.store(database)
	}
	s.store = kept
	s.link = link.New(s.proxy.dial, kept, s.logger())
	s.link.Notes = kept
	server := api.New(api.Options{Store: kept, Enclave: s.link, Log: s.logger()})
	address := "127.0.0.1:0"
	if s.url != "" {
		address = s.url[len("http://"):]
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.link.Run(ctx) })
	running.Go(func() { api.Serve(ctx, l, nil, server, api.DefaultTimeouts(), s.logger()) })
	s.stopHost = sync.OnceFunc(func() {
		s.transport.CloseIdleConnections()
		cancel()
		running.Wait()
		if err := database.Close(); err != nil {
			s.t.Errorf("host: %v", err)
		}
	})
	s.connected()
}

// connected waits until the host has a connection to the enclave.
func (s *service) connected() {
	s.t.Helper()
	if s.stack != nil {
		s.ready()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.link.Connected(ctx); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.unsealed:
	case <-ctx.Done():
		s.t.Fatal("the enclave does not get its KEK")
	}
}

// restart stops host and enclave and starts both again on the same database.
func (s *service) restart() {
	s.stopHost()
	s.stopEnclave()
	s.startEnclave()
	s.startHost()
}

// verifier has the ledger's public keys.
func (s *service) verifier() *ledger.Verifier {
	s.t.Helper()
	var keys [][]byte
	made := s.made
	if made == nil {
		made = s.keks
	}
	for _, k := range made {
		keys = append(keys, k.Key)
	}
	_, signers := ledger.Succession(s.configuration.Ledger.ID, keys)
	v, err := ledger.NewVerifier(s.configuration.Ledger.ID, signers)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// whole demands that fsck finds nothing, in as many accounts as must be there at least.
func (s *service) whole(accounts uint64) {
	s.t.Helper()
	checkWhole(s.t, s.folder, s.verifier(), accounts)
}

func checkWhole(t testing.TB, folder string, v *ledger.Verifier, accounts uint64) {
	t.Helper()
	summary := inspect(t, folder, v, func(f fsck.Finding) { t.Errorf("fsck: %s", f) })
	if summary.Accounts < accounts {
		t.Errorf("fsck saw %d accounts, at least %d were made", summary.Accounts, accounts)
	}
}

func findings(t testing.TB, folder string, v *ledger.Verifier) (out []fsck.Finding) {
	t.Helper()
	inspect(t, folder, v, func(f fsck.Finding) { out = append(out, f) })
	return out
}

func inspect(t testing.TB, folder string, v *ledger.Verifier, report func(fsck.Finding)) fsck.Summary {
	t.Helper()
	open := func() (store.Inspector, error) { return sqlite.Inspect(folder) }
	summary, err := fsck.Run(context.Background(), open, v, nil, 1, report)
	if err != nil {
		t.Fatalf("fsck: %v", err)
	}
	return summary
}

// status asks the host how things are: traffic between host and enclave.
func (s *service) status(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/status", nil)
	if err != nil {
		return
	}
	if answer, err := s.transport.RoundTrip(r); err == nil {
		answer.Body.Close()
	}
}

// logs collects what parts log.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}
