package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// binaries are built once, when the first test asks; TestMain removes them.
var binaries struct {
	once sync.Once
	dir  string
	err  error
}

func bin(t testing.TB) string {
	t.Helper()
	b := &binaries
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "e2e-bin"); b.err != nil {
			return
		}
		var out []byte
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", b.dir+"/", "../cmd/...")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, b.err = build.CombinedOutput(); b.err != nil {
			t.Logf("%s", out)
			return
		}
		if _, err := exec.LookPath("gcc"); err != nil {
			return // the broker is one without PKCS#11
		}
		build = exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", b.dir+"/", "../cmd/passclave-keybroker")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, b.err = build.CombinedOutput(); b.err != nil {
			t.Logf("%s", out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

// newStack is a [service] whose parts are processes, with the proxy between host and
// enclave. It is skipped with -short.
func newStack(t testing.TB) *service {
	t.Helper()
	return newStackOn(t, "")
}

// newStackOn is [newStack] on a platform.
func newStackOn(t testing.TB, p attestation.Platform) *service {
	t.Helper()
	return newStackFounded(t, func(f *stack.Founding) { f.Platform = p })
}

// newStackFounded is [newStack] founded otherwise.
func newStackFounded(t testing.TB, change func(*stack.Founding)) *service {
	t.Helper()
	if testing.Short() {
		t.Skip("processes are not started with -short")
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &service{t: t, dir: dir, folder: filepath.Join(dir, "host"), log: &logs{}, transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(s.transport.CloseIdleConnections)
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if s.proxy, err = listenProxy(filepath.Join(dir, "run/proxy.sock"), filepath.Join(dir, "run/enclave.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.proxy.close)
	programs := bin(t) // before the clock runs: the first to ask builds them
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.founded = stack.Options{
		Dir: dir, Bin: programs, Log: s.log, HostDials: "run/proxy.sock",
		Founding: stack.Founding{
			Strict: true, AnyPorts: true,
			PIN: wire.PINConfiguration{ConsecutiveLimit: consecutive, LifetimeLimit: lifetime, Argon2id: cheap},
		},
	}
	change(&s.founded.Founding)
	s.stack, err = stack.Start(ctx, s.founded)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.stack.Stop() })
	s.url = s.stack.URL
	s.ready()
	s.readFounded()
	return s
}

// ready waits until the service answers requests.
func (s *service) ready() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.stack.WaitReady(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// readFounded reads what the stack has founded. The clients' trust policy is the
// strict one, but takes cheap PINs.
func (s *service) readFounded() {
	s.t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		return b
	}
	p, err := policy.Parse(read(stack.PolicyFileName))
	if err != nil {
		s.t.Fatal(err)
	}
	p.MinimumArgon2id = policy.Waive[policy.Argon2id]("tests")
	s.policy = p.Encode()
	if err := os.WriteFile(s.policyFile(), s.policy, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if s.configuration, err = wire.ParseConfiguration(read("configuration.json")); err != nil {
		s.t.Fatal(err)
	}
	if s.keks = nil; s.stack.Keys != stack.KeysFile {
		return
	}
	if s.keks = s.brokersKeys(); len(s.keks) != 1 || len(s.keks[0].Key) != wire.SecretSize {
		s.t.Fatalf("the broker's file has %d keys", len(s.keks))
	}
}

// brokersKeys are all versions of the KEK, enabled or not, of a file key store.
func (s *service) brokersKeys() (out []enclave.KEK) {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "broker/keys.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var keys struct {
		Keys map[string][]struct {
			Version string      `json:"version"`
			Key     wire.Base64 `json:"key"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		s.t.Fatal(err)
	}
	for _, k := range keys.Keys[s.configuration.KeyService.Key] {
		out = append(out, enclave.KEK{Version: k.Version, Key: k.Key})
	}
	return out
}

func (s *service) policyFile() string { return filepath.Join(s.dir, "run/policy.json") }

// kill ends a part as a crash does, and returns when it is dead; restarted waits for
// what comes after it.
func (s *service) kill(part stack.Part) (restarted func()) {
	s.t.Helper()
	pid := s.stack.PID(part)
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		ended <- s.stack.Kill(ctx, part)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.stack.PID(part) == pid {
		<-tick.C
	}
	return func() {
		s.t.Helper()
		if err := <-ended; err != nil {
			s.t.Fatalf("%s does not come back: %v", part, err)
		}
	}
}
