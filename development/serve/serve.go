// Package serve runs the development servers: on loopback addresses only, with a
// line on stdout when they are ready, until their context ends.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// ErrNotLoopback refuses an address that other machines could reach.
var ErrNotLoopback = errors.New("serve: not a loopback address; development servers let anyone in")

// Listen listens on a loopback address such as "127.0.0.1:0".
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil || !p.Addr().IsLoopback() {
		l.Close()
		return nil, ErrNotLoopback
	}
	return l, nil
}

// grace is how long requests may take to end once the context has.
const grace = 2 * time.Second

// Until serves handler on l until ctx ends and then lets requests finish, for two
// seconds at most. It writes "ready URL" to out first. config is nil for plain HTTP.
// It closes l.
func Until(ctx context.Context, l net.Listener, config *tls.Config, handler http.Handler, url string, out io.Writer, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         config,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() {
		if config == nil {
			failed <- server.Serve(l)
		} else {
			failed <- server.ServeTLS(l, "", "")
		}
	}()
	fmt.Fprintln(out, "ready", url)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if server.Shutdown(end) != nil {
		server.Close()
	}
	return nil
}
