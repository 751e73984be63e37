package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/development/softhsm/softhsmtest"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

func TestMain(m *testing.M) { os.Exit(softhsmtest.Main(m)) }

// files are what an operator has: a certificate, its key, a release policy.
type files struct {
	dir, cert, key, policy string
	roots                  *x509.CertPool
}

func newFiles(t *testing.T) files {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := files{dir: t.TempDir(), roots: x509.NewCertPool()}
	write := func(name string, data []byte) string {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f.cert = write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	f.key = write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	f.policy = write("policy.json", releasepolicy.Require("https://127.0.0.1", map[string]any{"a": "b"}))
	if !f.roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) {
		t.Fatal("no root")
	}
	return f
}

func (f files) serve(extra ...string) []string {
	return append([]string{"-state", filepath.Join(f.dir, "state"), "-tls-cert", f.cert, "-tls-key", f.key, "-key", "kek"}, extra...)
}

func TestWrongUse(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"help":                  {[]string{"-h"}, 0},
		"nothing":               {nil, 2},
		"unknown flag":          {f.serve("-unknown"), 2},
		"argument":              {f.serve("x"), 2},
		"no key file":           {[]string{"-state", f.dir, "-tls-cert", f.cert, "-tls-key", filepath.Join(f.dir, "none"), "-key", "kek"}, 1},
		"key is missing":        {f.serve(), 1},
		"create without policy": {f.serve("-create"), 1},
		"create, bad policy":    {f.serve("-create", "-policy", f.key), 1},
		"rotate, no key":        {[]string{"rotate", "-state", filepath.Join(f.dir, "state"), "-key", "kek"}, 1},
		"simulation root, none": {f.serve("-create", "-policy", f.policy, "-simulation-root", filepath.Join(f.dir, "none")), 1},
		"not a simulation root": {f.serve("-create", "-policy", f.policy, "-simulation-root", f.policy), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // a refusal that is missing must not hang
			defer cancel()
			if code := run(ctx, c.args, &stdout, &stderr); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, stderr.Bytes())
			}
			if stdout.Len() > 0 {
				t.Errorf("standard output: %s", stdout.Bytes())
			}
		})
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs the broker until stop is called, which returns its exit code.
func (f files) start(t *testing.T, args ...string) (url string, stderr *safeBuffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	stderr = &safeBuffer{}
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, f.serve(args...), w, stderr)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("standard output %q, %v: %s", line, err, stderr)
	}
	go io.Copy(io.Discard, r)
	return "https://" + address, stderr, func() int {
		cancel()
		return <-done
	}
}

// versions asks for the list and returns the IDs.
func (f files) versions(t *testing.T, url string) []string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots}, DisableKeepAlives: true}}
	res, err := c.Get(url + "/keys/kek/versions?api-version=7.4")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var list struct{ Value []struct{ KID string } }
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, v := range list.Value {
		id, ok := strings.CutPrefix(v.KID, url+"/keys/kek/")
		if !ok {
			t.Errorf("kid %s", v.KID)
		}
		ids = append(ids, id)
	}
	return ids
}

func TestServe(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	url, stderr, stop := f.start(t, "-create", "-policy", f.policy)
	first := f.versions(t, url)
	if len(first) != 1 {
		t.Fatalf("versions %v", first)
	}
	if !strings.Contains(stderr.String(), "DEVELOPMENT ONLY") || strings.Contains(stderr.String(), "SIMULATION") {
		t.Errorf("log: %s", stderr)
	}

	// One broker a folder. A second is refused before it does anything.
	if err := serve(t.Context(), f.serve(), slog.New(slog.DiscardHandler), io.Discard, io.Discard); !errors.Is(err, file.ErrInUse) {
		t.Errorf("a second broker: %v", err)
	}

	var stdout, log bytes.Buffer
	if code := run(t.Context(), []string{"rotate", "-state", filepath.Join(f.dir, "state"), "-key", "kek"}, &stdout, &log); code != 0 {
		t.Fatalf("rotate: %d %s", code, log.Bytes())
	}
	both := f.versions(t, url) // the running broker sees it
	if len(both) != 2 || both[0] != first[0] || both[1] != strings.TrimSpace(stdout.String()) {
		t.Errorf("versions %v after rotating to %s", both, stdout.Bytes())
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// A second start goes on with the same key, and needs no -create.
	url, _, stop = f.start(t)
	if again := f.versions(t, url); len(again) != 2 || again[0] != both[0] || again[1] != both[1] {
		t.Errorf("versions %v after a restart, were %v", again, both)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
