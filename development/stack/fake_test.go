package stack_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/keystore/file"
)

// TestMain makes this binary stand in for every part: a test's bin folder has links
// to it under their names. A part that finds the file "broken-NAME" in the state
// folder fails, as a real one does for good reasons.
func TestMain(m *testing.M) {
	name, isPart := strings.CutPrefix(filepath.Base(os.Args[0]), "passclave-")
	switch {
	case isPart:
		if err := part(name); err != nil {
			fmt.Fprintf(os.Stderr, "time=now level=ERROR msg=%q\n", err)
			os.Exit(1)
		}
	case filepath.Base(os.Args[0]) == "parent":
		parent()
	default:
		os.Setenv("GORACE", "atexit_sleep_ms=0") // for the parts: each would take a second to end
		os.Exit(m.Run())
	}
}

// part does what a real part does for the stack, and no more.
func part(name string) error {
	if len(os.Args) > 1 && os.Args[1] == "measure" {
		// As the real one: measure -platform NAME FILE.
		fmt.Println(strings.Repeat("ab", map[string]int{"sev-snp": 48, "tdx": 48, "sgx": 32}[os.Args[3]]))
		return nil
	}
	if _, err := os.Stat("broken-" + name); err == nil {
		return fmt.Errorf("%s is broken", name)
	}
	values := map[string]string{}
	f := flag.NewFlagSet(name, flag.ExitOnError)
	for _, n := range []string{"state", "store", "socket", "host-data", "listen", "tls-cert", "tls-key", "simulation-root", "policy", "key", "client-ids", "config", "simtee", "enclave", "platform", "operators", "metrics"} {
		f.Func(n, "", func(v string) error { values[n] = v; return nil })
	}
	create := f.Bool("create", false, "")
	f.Parse(os.Args[1:])
	if dir := values["state"] + values["store"]; dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	switch name {
	case "simtee":
		if err := fakeRoot(filepath.Join(values["state"], "simulation-root.pem")); err != nil {
			return err
		}
		if err := fakeRoot(filepath.Join(values["state"], "simulation-intel-root.pem")); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(values["state"], "simulates"), []byte(values["platform"]), 0o600); err != nil {
			return err
		}
	case "keybroker":
		if err := fakeKey(values["state"], values["key"], values["policy"], *create); err != nil {
			return err
		}
	case "host":
		l, err := net.Listen("tcp", values["listen"])
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(values["store"], "database"), nil, 0o600); err != nil {
			return err
		}
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := os.Stat("sealed"); err == nil {
				http.Error(w, "no KEK", http.StatusServiceUnavailable)
			}
		}))
	}
	fmt.Fprintf(os.Stderr, "time=now level=INFO msg=\"%s starts\" args=%q\n", name, os.Args[1:])
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	fmt.Println("ready", name)
	<-stop
	fmt.Fprintf(os.Stderr, "time=now level=INFO msg=\"%s ends\"\n", name)
	return nil
}

func fakeRoot(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

func fakeKey(dir, name, policy string, create bool) error {
	s, err := file.Open(dir)
	if err != nil {
		return err
	}
	if _, err := s.Versions(context.Background(), name); err == nil || !create {
		return err
	}
	p, err := os.ReadFile(policy)
	if err != nil {
		return err
	}
	_, err = s.Create(context.Background(), name, p, false)
	return err
}

// parent starts a stack in its arguments' folders and says so; the test kills it.
func parent() {
	s, err := stack.Start(context.Background(), stack.Options{Dir: os.Args[1], Bin: os.Args[2], Founding: stack.Founding{AnyPorts: true}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	pids := map[stack.Part]int{}
	for _, p := range stack.Parts {
		pids[p] = s.PID(p)
	}
	json.NewEncoder(os.Stdout).Encode(pids)
	select {}
}

// bin returns a folder in which this binary has the names of all parts.
func bin(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, n := range []string{"passclave-simtee", "passclave-keybroker", "passclave-devissuer", "passclave-demorp", "passclave-enclave", "passclave-host", "parent"} {
		if err := os.Symlink(self, filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// logs collects what the parts log.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines returns what one part logged, without times.
func (l *logs) lines(part stack.Part) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, line := range strings.Split(l.b.String(), "\n") {
		if prefix, text, ok := strings.Cut(line, " | "); ok && strings.TrimSpace(prefix[len("15:04:05 "):]) == string(part) {
			out = append(out, text)
		}
	}
	return out
}
