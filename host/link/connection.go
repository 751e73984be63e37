package link

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/passclave/passclave/wire"
)

// connection is one connection from its dialling to its end.
type connection struct {
	link    *Link
	conn    net.Conn
	out     sync.Mutex    // guards writes
	buf     []byte        // guarded by out
	slots   chan struct{} // one for each of the enclave's calls that is served
	serving sync.WaitGroup

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan []byte // bodies of replies; a slot of the link is held for each
	broken  error
}

func newConnection(conn net.Conn, l *Link) *connection {
	return &connection{link: l, conn: conn, slots: make(chan struct{}, maxServed), waiting: map[uint64]chan []byte{}}
}

// call sends a call, for which the caller took a slot, and waits for the reply. If
// ctx ends first, the slot is taken until the reply comes.
func (c *connection) call(ctx context.Context, kind wire.FrameKind, body []byte, answer any) error {
	reply := make(chan []byte, 1)
	c.mu.Lock()
	if c.broken != nil {
		c.mu.Unlock()
		<-c.link.slots
		return wire.NewError(wire.CodeUnavailable, c.broken)
	}
	c.next++
	id := c.next
	c.waiting[id] = reply
	c.mu.Unlock()

	if err := c.send(wire.Frame{Call: id, Kind: kind, Body: body}); err != nil {
		c.fail(err) // which also closes reply
	}
	select {
	case b, ok := <-reply:
		if !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return wire.NewError(wire.CodeUnavailable, c.broken)
		}
		return result(b, answer)
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}

// send writes one frame. A peer that does not read loses the connection.
func (c *connection) send(f wire.Frame) error {
	c.out.Lock()
	defer c.out.Unlock()
	buf := f.Append(c.buf[:0])
	if c.buf = nil; cap(buf) <= keepBuffer {
		c.buf = buf
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.conn.Write(buf)
	return err
}

// result decodes a reply into answer, or gives the refusal in it.
func result(b []byte, answer any) error {
	var r wire.Result
	if err := wire.Unmarshal(b, &r); err != nil {
		return wire.NewError(wire.CodeInternal, err)
	}
	if r.Error != nil {
		return r.Error
	}
	if err := wire.Unmarshal(r.Value, answer); err != nil {
		return wire.NewError(wire.CodeInternal, err)
	}
	return nil
}

// fail ends the connection and every call that waits on it.
func (c *connection) fail(err error) {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return
	}
	c.broken = err
	for _, reply := range c.waiting {
		close(reply)
		<-c.link.slots
	}
	c.waiting = nil
}

var errClosed = errors.New("the enclave closed the connection")

// read hands out frames until the connection ends, and says why it did.
func (c *connection) read(ctx context.Context) error {
	in := bufio.NewReaderSize(c.conn, 64<<10)
	for {
		f, err := wire.ReadFrame(in)
		if errors.Is(err, io.EOF) {
			return errClosed
		}
		if err != nil {
			return err
		}
		switch f.Kind {
		case wire.FrameReply:
			if err := c.reply(f); err != nil {
				return err
			}
		case wire.FrameNeed, wire.FrameAppend, wire.FrameCommit, wire.FrameRelay, wire.FrameViews, wire.FrameStage, wire.FrameSettle, wire.FrameKeep, wire.FrameLineage:
			select {
			case c.slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			c.serving.Go(func() {
				defer func() { <-c.slots }()
				c.answer(f.Call, c.serve(ctx, f))
			})
		default:
			return wire.Errorf(wire.CodeMalformed, "frame of unknown kind %d", f.Kind)
		}
	}
}

// reply hands a reply to its call.
func (c *connection) reply(f wire.Frame) error {
	c.mu.Lock()
	reply, ok := c.waiting[f.Call]
	delete(c.waiting, f.Call)
	c.mu.Unlock()
	if !ok {
		return wire.Errorf(wire.CodeMalformed, "reply to no call")
	}
	<-c.link.slots
	reply <- f.Body
	return nil
}

// serve carries out a call of the enclave.
func (c *connection) serve(ctx context.Context, f wire.Frame) wire.Result {
	switch f.Kind {
	case wire.FrameNeed:
		return served(f.Body, func(n wire.Need) (wire.State, error) { return c.link.store.Load(ctx, n) })
	case wire.FrameAppend:
		return served(f.Body, func(a wire.Append) (wire.Appended, error) { return c.link.store.Append(ctx, a) })
	case wire.FrameStage:
		return served(f.Body, func(m wire.Commit) (struct{}, error) { return struct{}{}, c.link.store.Stage(ctx, &m) })
	case wire.FrameSettle:
		return served(f.Body, func(s wire.Settle) (struct{}, error) { return struct{}{}, c.link.store.Settle(ctx, s.Account, s.Entry) })
	case wire.FrameRelay:
		return served(f.Body, func(r wire.Relay) (wire.Relayed, error) { return c.relay(ctx, r) })
	case wire.FrameViews:
		return served(f.Body, func(struct{}) (wire.Views, error) { return c.views(ctx) })
	case wire.FrameKeep:
		return served(f.Body, func(k wire.Keep) (wire.Kept, error) { return c.link.approvals.keep(ctx, c.link.Notes, k) })
	case wire.FrameLineage:
		return served(f.Body, func(l wire.Lineage) (wire.Lineage, error) { return lineage(ctx, c.link.Notes, l) })
	default:
		return served(f.Body, func(m wire.Commit) (wire.Appended, error) { return c.link.store.Commit(ctx, &m) })
	}
}

// noEndorsers refuses what only an endorsed ledger asks.
var noEndorsers = wire.Errorf(wire.CodeUnavailable, "this host was given no endorsers")

func (c *connection) relay(ctx context.Context, r wire.Relay) (wire.Relayed, error) {
	if c.link.Endorsers == nil {
		return wire.Relayed{}, noEndorsers
	}
	value, err := c.link.Endorsers.Relay(ctx, r.Endorser, r.Kind, r.Body)
	return wire.Relayed{Value: value, Code: wire.CodeOf(err)}, nil
}

func (c *connection) views(ctx context.Context) (wire.Views, error) {
	if c.link.Endorsers == nil {
		return wire.Views{}, noEndorsers
	}
	chain, err := c.link.Endorsers.Views(ctx)
	return wire.Views{Chain: chain}, err
}

func served[Q, A any](body []byte, f func(Q) (A, error)) wire.Result {
	var question Q
	err := wire.Unmarshal(body, &question)
	var answer A
	if err == nil {
		answer, err = f(question)
	}
	var refused *wire.Error
	switch {
	case err == nil:
		return wire.Result{Value: wire.Marshal(answer)}
	case errors.As(err, &refused):
		return wire.Result{Error: refused}
	}
	return wire.Result{Error: &wire.Error{Code: wire.CodeInternal}}
}

func (c *connection) answer(call uint64, r wire.Result) {
	body := wire.Marshal(r)
	if len(body) > wire.MaxFrame {
		body = wire.Marshal(wire.Result{Error: &wire.Error{Code: wire.CodeTooLarge}})
	}
	if err := c.send(wire.Frame{Call: call, Kind: wire.FrameAnswer, Body: body}); err != nil {
		c.fail(err)
	}
}
