package serve_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/passclave/passclave/development/serve"
)

func TestListenRefusesOtherMachines(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0"} {
		if _, err := serve.Listen(address); !errors.Is(err, serve.ErrNotLoopback) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestUntil(t *testing.T) {
	t.Parallel()
	l, err := serve.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Until(ctx, l, nil, http.NotFoundHandler(), url, out, slog.New(slog.DiscardHandler))
	}()
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready "+url {
		t.Fatalf("said %q, %v", line, err)
	}
	response, err := http.Get(url)
	if err != nil || response.StatusCode != http.StatusNotFound {
		t.Fatalf("%v, %v", response, err)
	}
	response.Body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
