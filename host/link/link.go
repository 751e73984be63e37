// Package link is the host's connection to the enclave: it dials, speaks the
// frames of package wire, and serves the enclave's calls from the store.
//
// It owns the connection and the calls under way on it. A call that was sent is
// never sent again: when the connection breaks, it ends with CodeUnavailable, and
// whether the enclave acted is for the client to find out. Neither end's calls
// grow without bound.
//
// To the host the enclave is a service that it keeps running; a peer that breaks
// the protocol loses the connection, nothing else.
package link

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passclave/passclave/wire"
)

// Store is what the enclave's calls need of a store.
type Store interface {
	Load(ctx context.Context, n wire.Need) (wire.State, error)
	Append(ctx context.Context, a wire.Append) (wire.Appended, error)
	Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error)
	Stage(ctx context.Context, c *wire.Commit) error
	Settle(ctx context.Context, account wire.AccountID, entry wire.Digest) error
}

// Endorsers are what an endorsed ledger's calls need.
type Endorsers interface {
	// Relay brings a frame to an endorser. Errors are [*wire.Error]: the endorser's
	// refusal, or CodeUnavailable.
	Relay(ctx context.Context, endorser []byte, kind wire.FrameKind, body []byte) ([]byte, error)
	// Views returns the chain of views, encoded.
	Views(ctx context.Context) ([]byte, error)
}

const (
	// maxCalls bounds the host's calls under way. The enclave takes 256 of a
	// connection before it stops reading: its answers must never wait behind calls.
	maxCalls = 192
	// maxServed bounds the enclave's calls under way; its call may have up to one for
	// each of ours, and some that it gave up.
	maxServed = 512

	writeTime  = 30 * time.Second // for a peer that does not read
	keepBuffer = 1 << 20          // bytes of a connection's buffer that are kept for the next frame

	firstDelay  = 20 * time.Millisecond
	longestWait = 2 * time.Second
)

// Link keeps a connection to one enclave.
type Link struct {
	dial  func(context.Context) (net.Conn, error)
	store Store
	log   *slog.Logger

	// Endorsers are reached for the enclave; nil: there are none.
	Endorsers Endorsers
	// Notes keep approvals of discontinued accounts, and what is left of earlier versions
	// of the KEK; nil: neither is kept.
	Notes     Notes
	approvals approvals

	slots chan struct{} // one for each of the host's calls until it is answered

	dials   atomic.Uint64
	mu      sync.Mutex
	current *connection   // nil: none
	up      chan struct{} // closed while there is one
	why     error         // why there is none
}

// New returns a link that is not connected until [Link.Run] runs.
func New(dial func(context.Context) (net.Conn, error), store Store, log *slog.Logger) *Link {
	return &Link{
		dial: dial, store: store, log: log, slots: make(chan struct{}, maxCalls),
		up: make(chan struct{}), why: errNever,
	}
}

var errNever = errors.New("not dialled yet")

// Run keeps the connection until ctx ends: it dials again, at first soon, then
// with longer pauses, when it breaks.
func (l *Link) Run(ctx context.Context) {
	delay := firstDelay
	for ctx.Err() == nil {
		conn, err := l.dial(ctx)
		if err == nil {
			delay = firstDelay
			err = l.serve(ctx, conn)
		}
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		l.why = err
		l.mu.Unlock()
		l.log.Warn("no connection to the enclave", "error", err, "again_in", delay)
		pause := time.NewTimer(delay/2 + rand.N(delay/2+1))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		delay = min(2*delay, longestWait)
	}
}

// serve runs one connection to its end and says why it ended.
func (l *Link) serve(ctx context.Context, conn net.Conn) error {
	c := newConnection(conn, l)
	l.dials.Add(1)
	l.mu.Lock()
	l.current = c
	close(l.up)
	l.mu.Unlock()
	l.log.Info("connected to the enclave")

	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := c.read(ctx)

	l.mu.Lock()
	l.current, l.up = nil, make(chan struct{})
	l.mu.Unlock()
	c.fail(err)
	c.serving.Wait()
	return err
}

// Connected waits for a connection until ctx ends.
func (l *Link) Connected(ctx context.Context) error {
	l.mu.Lock()
	up, why := l.up, l.why
	l.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, why)
	}
}

// Connection counts connections, from 1; 0: there never was one. What was learned
// from the enclave under another number is not known of this one.
func (l *Link) Connection() uint64 { return l.dials.Load() }

// Forward has the enclave answer a request.
func (l *Link) Forward(ctx context.Context, f *wire.Forward) (out wire.Reply, err error) {
	err = l.call(ctx, wire.FrameRequest, f, &out)
	return out, err
}

// Attest asks for evidence and the newest challenge.
func (l *Link) Attest(ctx context.Context, a wire.Attest) (out wire.Attestation, err error) {
	err = l.call(ctx, wire.FrameAttest, a, &out)
	return out, err
}

// Status asks the enclave how it is.
func (l *Link) Status(ctx context.Context) (out wire.Status, err error) {
	err = l.call(ctx, wire.FrameStatus, struct{}{}, &out)
	return out, err
}

// Rewrap has the enclave seal account keys under the newest version of the KEK.
func (l *Link) Rewrap(ctx context.Context, q wire.Rewrap) (out wire.Rewrapped, err error) {
	err = l.call(ctx, wire.FrameRewrap, q, &out)
	return out, err
}

// call sends a call and waits for its reply.
func (l *Link) call(ctx context.Context, kind wire.FrameKind, question, answer any) error {
	l.mu.Lock()
	c, why := l.current, l.why
	l.mu.Unlock()
	if c == nil {
		return wire.NewError(wire.CodeUnavailable, why)
	}
	body := wire.Marshal(question)
	if len(body) > wire.MaxFrame {
		return wire.Errorf(wire.CodeTooLarge, "frame of %d bytes", len(body))
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
	return c.call(ctx, kind, body, answer)
}
