// Package linktest is an enclave's end of the frames for tests of the host: it
// decides nothing and answers what its test tells it to.
package linktest

import (
	"bufio"
	"context"
	"net"
	"sync"
	"testing"

	"github.com/passclave/passclave/wire"
)

// Enclave listens as an enclave does. Handle answers the host's calls, each in a
// goroutine of its own; returning nil answers nothing.
type Enclave struct {
	Handle func(c *Conn, f wire.Frame) *wire.Result

	listener net.Listener
	mu       sync.Mutex
	conns    map[*Conn]bool
	all      sync.WaitGroup
}

// Start listens on loopback until the test ends.
func Start(t testing.TB, handle func(c *Conn, f wire.Frame) *wire.Result) *Enclave {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &Enclave{Handle: handle, listener: listener, conns: map[*Conn]bool{}}
	e.all.Go(e.accept)
	t.Cleanup(func() {
		listener.Close()
		e.Break()
		e.all.Wait()
	})
	return e
}

// Dial is for link.New.
func (e *Enclave) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", e.listener.Addr().String())
}

// Address is where it listens, as a flag has it.
func (e *Enclave) Address() string { return "tcp:" + e.listener.Addr().String() }

// Break closes all connections.
func (e *Enclave) Break() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.raw.Close()
	}
}

func (e *Enclave) accept() {
	for {
		raw, err := e.listener.Accept()
		if err != nil {
			return
		}
		c := &Conn{raw: raw, waiting: map[uint64]chan wire.Result{}}
		e.mu.Lock()
		e.conns[c] = true
		e.mu.Unlock()
		e.all.Go(func() { c.read(e) })
	}
}

// Conn is one connection of the host.
type Conn struct {
	raw net.Conn
	out sync.Mutex

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan wire.Result
}

func (c *Conn) read(e *Enclave) {
	defer func() {
		c.raw.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for id, ch := range c.waiting {
			delete(c.waiting, id)
			close(ch)
		}
	}()
	in := bufio.NewReader(c.raw)
	for {
		f, err := wire.ReadFrame(in)
		if err != nil {
			return
		}
		if f.Kind == wire.FrameAnswer {
			var r wire.Result
			if wire.Unmarshal(f.Body, &r) != nil {
				return
			}
			c.mu.Lock()
			if ch, ok := c.waiting[f.Call]; ok {
				delete(c.waiting, f.Call)
				ch <- r
			}
			c.mu.Unlock()
			continue
		}
		e.all.Go(func() {
			if r := e.Handle(c, f); r != nil {
				c.Send(wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: wire.Marshal(*r)})
			}
		})
	}
}

// Send writes any frame.
func (c *Conn) Send(f wire.Frame) { c.Write(f.Append(nil)) }

// Write writes any bytes.
func (c *Conn) Write(b []byte) {
	c.out.Lock()
	defer c.out.Unlock()
	c.raw.Write(b)
}

// Close ends the connection.
func (c *Conn) Close() { c.raw.Close() }

// Call asks the host; false: the connection ended first.
func (c *Conn) Call(kind wire.FrameKind, body []byte) (wire.Result, bool) {
	ch := make(chan wire.Result, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = ch
	c.mu.Unlock()
	c.Send(wire.Frame{Call: id, Kind: kind, Body: body})
	r, ok := <-ch
	return r, ok
}

// Value is a result that is well.
func Value(v any) *wire.Result { return &wire.Result{Value: wire.Marshal(v)} }

// Refusal is a result that is not.
func Refusal(code wire.Code) *wire.Result { return &wire.Result{Error: &wire.Error{Code: code}} }
