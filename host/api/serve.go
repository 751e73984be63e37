package api

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Timeouts cut peers that are slow or silent.
type Timeouts struct {
	Header time.Duration // to send the header
	Read   time.Duration // to send the whole request
	Write  time.Duration // from the header's end to the answer's
	Idle   time.Duration // between requests
	Stop   time.Duration // for calls under way when the server ends
}

// DefaultTimeouts leave the enclave its 30 seconds for one request.
func DefaultTimeouts() Timeouts {
	return Timeouts{Header: 5 * time.Second, Read: 15 * time.Second, Write: 60 * time.Second, Idle: 2 * time.Minute, Stop: 5 * time.Second}
}

const maxHeader = 8 << 10 // bytes of a request's header

// Serve answers strangers on a listener until ctx ends, and then lets calls under way
// end. It speaks HTTP/1.1, inside TLS unless config is nil. It closes l.
//
// A connection more than there may be, of all or of its address, is closed at once.
// When less than a quarter is left, a connection ends with its answer.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config, t Timeouts) error {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.connections.scarce() {
			w.Header().Set("Connection", "close")
		}
		s.ServeHTTP(w, r)
	})
	return Serve(ctx, &listener{l, s}, config, h, t, s.o.Log)
}

// Serve is [Server.Serve] for a handler that only the operator reaches: it does not
// limit connections.
func Serve(ctx context.Context, l net.Listener, config *tls.Config, h http.Handler, t Timeouts, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		TLSConfig:         config,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers send is not worth a warning
		ReadHeaderTimeout: t.Header,
		ReadTimeout:       t.Read,
		WriteTimeout:      t.Write,
		IdleTimeout:       t.Idle,
		MaxHeaderBytes:    maxHeader,
		Protocols:         new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	failed := make(chan error, 1)
	go func() {
		if config == nil {
			failed <- server.Serve(l)
		} else {
			failed <- server.ServeTLS(l, "", "")
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.Stop)
	defer cancel()
	if server.Shutdown(end) != nil {
		server.Close()
	}
	<-failed
	return nil
}

// listener accepts what the server has connections for.
type listener struct {
	net.Listener
	server *Server
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := l.server.peer(c)
		if l.server.connections.take(peer, 1) {
			return &connection{Conn: c, give: sync.OnceFunc(func() { l.server.connections.give(peer, 1) })}, nil
		}
		c.Close()
	}
}

type connection struct {
	net.Conn
	give func()
}

func (c *connection) Close() error {
	c.give()
	return c.Conn.Close()
}
