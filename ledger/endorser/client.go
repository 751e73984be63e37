package endorser

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

const writeTime = 10 * time.Second // for a peer that does not read

// Client is one connection to an endorser, for its host or its operator. Calls may go
// side by side. It believes nothing: answers are the caller's to verify.
type Client struct {
	conn net.Conn
	out  sync.Mutex

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan []byte
	broken  error
}

// NewClient speaks over a connection, which it closes in the end.
func NewClient(conn net.Conn) *Client {
	c := &Client{conn: conn, waiting: map[uint64]chan []byte{}}
	go c.read()
	return c
}

// Close ends the connection and every call that waits.
func (c *Client) Close() { c.fail(errors.New("closed")) }

func (c *Client) fail(err error) {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return
	}
	c.broken = err
	for _, ch := range c.waiting {
		close(ch)
	}
	c.waiting = nil
}

// Broken returns why the connection ended, nil while it lasts.
func (c *Client) Broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

func (c *Client) read() {
	in := bufio.NewReaderSize(c.conn, 64<<10)
	for {
		f, err := wire.ReadFrame(in)
		if err == nil && f.Kind != wire.FrameReply {
			err = wire.Errorf(wire.CodeMalformed, "frame kind %d", f.Kind)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the endorser closed the connection")
			}
			c.fail(err)
			return
		}
		c.mu.Lock()
		ch := c.waiting[f.Call]
		delete(c.waiting, f.Call)
		c.mu.Unlock()
		if ch != nil {
			ch <- f.Body
		}
	}
}

// Call sends a frame and returns the value of its answer. A refusal is the endorser's
// [*wire.Error]; [wire.CodeUnavailable]: no answer came.
func (c *Client) Call(ctx context.Context, kind wire.FrameKind, body []byte) ([]byte, error) {
	ch := make(chan []byte, 1)
	c.mu.Lock()
	if c.broken != nil {
		defer c.mu.Unlock()
		return nil, wire.NewError(wire.CodeUnavailable, c.broken)
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	c.mu.Unlock()

	if err := c.send(wire.Frame{Call: id, Kind: kind, Body: body}); err != nil {
		c.fail(err)
	}
	select {
	case answer, ok := <-ch:
		if !ok {
			return nil, wire.NewError(wire.CodeUnavailable, c.Broken())
		}
		var r wire.Result
		if err := wire.Unmarshal(answer, &r); err != nil {
			return nil, wire.NewError(wire.CodeUnavailable, err)
		}
		if r.Error != nil {
			return nil, r.Error
		}
		return r.Value, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		return nil, wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}

// send writes a frame. A peer that does not read loses the connection.
func (c *Client) send(f wire.Frame) error {
	c.out.Lock()
	defer c.out.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.conn.Write(f.Append(nil))
	return err
}

// Identify asks who the endorser is.
func (c *Client) Identify(ctx context.Context) (*Identity, error) {
	answer, err := c.Call(ctx, wire.FrameIdentify, nil)
	if err != nil {
		return nil, err
	}
	var i Identity
	if err := wire.Unmarshal(answer, &i); err != nil {
		return nil, err
	}
	return &i, nil
}
