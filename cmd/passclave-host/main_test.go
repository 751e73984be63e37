package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

var quiet = slog.New(slog.DiscardHandler)

func TestRun(t *testing.T) {
	t.Parallel()
	enclave := linktest.Start(t, func(_ *linktest.Conn, f wire.Frame) *wire.Result {
		return linktest.Value(wire.Reply{Response: []byte("sealed")})
	})
	state := filepath.Join(t.TempDir(), "host")
	args := []string{"-state", state, "-enclave", enclave.Address(), "-listen", "127.0.0.1:0", "-metrics", "127.0.0.1:0"}
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, in, quiet) }()

	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", line, err)
	}
	answer, err := http.Get(url + "/healthz")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", answer, err)
	}
	answer.Body.Close()

	if err := run(t.Context(), args, io.Discard, quiet); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a second host on the same folder: %v, want %v", err, store.ErrInUse)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "host")
	for _, args := range [][]string{
		{}, {"-state", state}, {"-enclave", "unix:/x"}, {"-state", state, "-enclave", "/x"}, {"-state", state, "-enclave", "udp:x"},
		{"-state", state, "-enclave", "unix:"}, {"-state", state, "-enclave", "unix:/x", "more"}, {"-state", state, "-enclave", "unix:/x", "-tls-cert", "x"},
		{"-state", state, "-enclave", "unix:/x", "-trusted-proxy", "10.0.0.1"},
	} {
		if err := run(t.Context(), args, io.Discard, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
