package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func TestRun(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "host")
	if err := serves(t, folder); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a second host on the same folder: %v, want %v", err, store.ErrInUse)
	}
}

func TestRunOnPostgres(t *testing.T) {
	t.Parallel()
	if err := serves(t, postgrestest.Database(t)); err != nil {
		t.Errorf("a second host on the same database: %v", err)
	}
}

// serves runs a host until it was seen to serve, and says how a second one on its store
// ends, which is told to end as soon as it serves.
func serves(t *testing.T, where string) (second error) {
	t.Helper()
	enclave := linktest.Start(t, func(_ *linktest.Conn, f wire.Frame) *wire.Result {
		return linktest.Value(wire.Reply{Response: []byte("sealed")})
	})
	args := []string{"-store", where, "-enclave", enclave.Address(), "-listen", "127.0.0.1:0", "-metrics", "127.0.0.1:0"}
	start := func() (url string, end func() error) {
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			err := run(ctx, args, in, quiet)
			in.CloseWithError(io.EOF)
			ended <- err
		}()
		line, _ := bufio.NewReader(out).ReadString('\n')
		url, _ = strings.CutPrefix(strings.TrimSpace(line), "ready ")
		return url, func() error { cancel(); return <-ended }
	}
	url, end := start()
	answer, err := http.Get(url + "/healthz")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%q: %v, %v", url, answer, err)
	}
	answer.Body.Close()
	_, endSecond := start()
	second = endSecond()
	if err := end(); err != nil {
		t.Fatal(err)
	}
	return second
}

// What is wrong with a database is said, and its password is not.
func TestDatabaseRefused(t *testing.T) {
	t.Parallel()
	const password = "hunter2hunter2"
	for _, where := range []string{
		"mysql://u:" + password + "@127.0.0.1/x", "Postgres://u:" + password + "@127.0.0.1/x",
		"postgres://u:" + password + "@127.0.0.1:1/x", "postgres://u:" + password + "@127.0.0.1:port/x",
	} {
		var log strings.Builder
		err := run(t.Context(), []string{"-store", where, "-enclave", "unix:/x"}, io.Discard, slog.New(slog.NewTextHandler(&log, nil)))
		if err == nil || strings.Contains(err.Error(), password) || strings.Contains(log.String(), password) {
			t.Errorf("%s: %v, %s", where, err, &log)
		}
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "host")
	for _, args := range [][]string{
		{}, {"-store", state}, {"-enclave", "unix:/x"}, {"-store", state, "-enclave", "/x"}, {"-store", state, "-enclave", "udp:x"},
		{"-store", state, "-enclave", "unix:"}, {"-store", state, "-enclave", "unix:/x", "more"}, {"-store", state, "-enclave", "unix:/x", "-tls-cert", "x"},
		{"-store", state, "-enclave", "unix:/x", "-trusted-proxy", "10.0.0.1"},
	} {
		if err := run(t.Context(), args, io.Discard, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

// The operator's socket is for this user alone; one that a killed host left is replaced,
// and nothing else is.
func TestOperatorsSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "host") // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	for range 2 {
		l, err := listenOperator("unix:" + socket)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false) // as if it were killed
		info, err := os.Stat(socket)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info.Mode(), err)
		}
		l.Close()
	}
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenOperator("unix:" + file); err == nil {
		t.Fatal("a file was taken for a socket")
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
}

// What the host says of its enclave it reads in the evidence that it hands out.
func TestReadEvidence(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	data := at.ClientData(t, file)
	facts, err := readEvidence(at.Bundle(t, data, file).Encode())
	if err != nil || !facts.Simulated || !bytes.Equal(facts.Ledger, data.Ledger.ID) || facts.Signers != len(data.Ledger.Signers) {
		t.Errorf("%+v, %v", facts, err)
	}
	for name, evidence := range map[string][]byte{
		"garbage":   []byte("evidence"),
		"no ledger": at.Bundle(t, at.ReleaseData(t, file), file).Encode(),
	} {
		if facts, err := readEvidence(evidence); err == nil || facts.Simulated {
			t.Errorf("%s: %+v, %v", name, facts, err)
		}
	}
}
