package endorser_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// serve has an endorser answer on loopback until the test ends.
func serve(t testing.TB, e *endorser.Endorser, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&endorser.Server{Endorser: e, Evidence: []byte("evidence")}).Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return address
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func identify(t testing.TB, address string) {
	t.Helper()
	c := endorser.NewClient(dial(t, address))
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := c.Identify(ctx); err != nil {
		t.Fatal(err)
	}
}

// failing is a listener that has no files left, for some connections.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

// An endorser whose accept fails goes on: what ends it takes its memory along.
func TestFailedAcceptEndsNobody(t *testing.T) {
	t.Parallel()
	f := &failing{}
	f.left.Store(3)
	address := serve(t, newWorld(t).endorser(), func(l net.Listener) net.Listener { f.Listener = l; return f })
	identify(t, address)
}

// Connections without number take no more than their share, and who was there stays.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	address := serve(t, newWorld(t).endorser(), nil)
	first := endorser.NewClient(dial(t, address))
	defer first.Close()
	if _, err := first.Identify(context.Background()); err != nil {
		t.Fatal(err)
	}
	closed := 0
	for range 100 {
		c := dial(t, address)
		if _, err := c.Write(wire.Frame{Call: 1, Kind: wire.FrameIdentify}.Append(nil)); err != nil {
			closed++
			continue
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			closed++
		}
	}
	if closed != 100-63 {
		t.Errorf("%d of 100 connections were closed, want %d", closed, 100-63)
	}
	if _, err := first.Identify(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Peers that announce large frames and send nothing do not keep others' small ones out.
func TestLargeFramesWait(t *testing.T) {
	t.Parallel()
	address := serve(t, newWorld(t).endorser(), nil)
	for range 12 {
		c := dial(t, address)
		if _, err := c.Write(binary.BigEndian.AppendUint32(nil, wire.MaxFrame)); err != nil {
			t.Fatal(err)
		}
	}
	identify(t, address)
}

// A large frame is served all the same.
func TestLargeFrame(t *testing.T) {
	t.Parallel()
	address := serve(t, newWorld(t).endorser(), nil)
	c := endorser.NewClient(dial(t, address))
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 20 { // more than there are places
		_, err := c.Call(ctx, wire.FrameIntroduce, make([]byte, 1<<20))
		wantCode(t, err, wire.CodeView)
	}
}

// Hostile bytes end their connection, or are refused, and nothing else.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list, v := w.found()
	address := serve(t, list[0], nil)
	for name, b := range map[string][]byte{
		"too long":  binary.BigEndian.AppendUint32(nil, wire.MaxFrame+10),
		"too short": binary.BigEndian.AppendUint32(nil, 8),
		"cut off":   append(binary.BigEndian.AppendUint32(nil, 100), 1, 2, 3),
		"no frame":  []byte("GET / HTTP/1.1\r\n\r\n"),
		"nothing":   nil,
	} {
		c := dial(t, address)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		c.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: answered %x, %v", name, rest, err)
		}
	}
	c := endorser.NewClient(dial(t, address))
	defer c.Close()
	for kind := range wire.FrameKind(64) {
		for _, body := range [][]byte{nil, {0xf6}, {0xa0}, {0x80}, bytes.Repeat([]byte{0x9b}, 100)} {
			if kind != wire.FrameIdentify {
				_, err := c.Call(context.Background(), kind, body)
				var refused *wire.Error
				if kind == wire.FrameTails {
					continue // an index may be left out: it is 0
				}
				if !errors.As(err, &refused) {
					t.Fatalf("kind %d, %x: %v", kind, body, err)
				}
			}
		}
	}
	if h, _ := w.read(list[0], v, wire.StreamID{1}); h != (wire.Head{}) || list[0].Status().Finalised {
		t.Fatal("something changed")
	}
}

// The frames do what the endorser does: a view change over a connection.
func TestViewChangeByFrames(t *testing.T) {
	t.Parallel()
	c := newChange(t)
	ctx := context.Background()
	old := endorser.NewClient(dial(t, serve(t, c.old[0], nil)))
	defer old.Close()
	fresh := endorser.NewClient(dial(t, serve(t, c.fresh[0], nil)))
	defer fresh.Close()
	call := func(to *endorser.Client, kind wire.FrameKind, q any, a any) {
		t.Helper()
		b, err := to.Call(ctx, kind, wire.Marshal(q))
		if err != nil {
			t.Fatal(err)
		}
		if a != nil {
			if err := wire.Unmarshal(b, a); err != nil {
				t.Fatal(err)
			}
		}
	}
	who, err := old.Identify(ctx)
	if err != nil || !bytes.Equal(who.Key, c.old[0].Key()) || string(who.Evidence) != "evidence" || who.Status.Streams != 2 {
		t.Fatalf("%+v, %v", who, err)
	}
	var word endorsement.Finalised
	call(old, wire.FrameFinalise, c.s, &word)
	second, err := c.old[1].Finalise(c.s)
	c.must(err)
	c.words = []endorsement.Finalised{word, *second}
	var page endorser.Page
	call(old, wire.FrameTails, endorser.From{}, &page)
	call(fresh, wire.FrameAdopt, endorser.Adoption{Word: word, Tails: page.Tails}, nil)
	call(fresh, wire.FrameAdopt, endorser.Adoption{Word: *second, Tails: tails(t, c.old[1])}, nil)
	call(fresh, wire.FrameActivate, endorser.Activation{Succession: *c.s, Before: c.view.Encode(), Words: c.words}, nil)
	ask := endorsement.Ask{View: c.next.Hash(), Nonce: digest(), Reads: []wire.StreamID{stream}}
	var a endorsement.Answer
	call(fresh, wire.FrameAsk, ask, &a)
	if _, err := endorsement.VerifyAnswer(&c.next.Groups[0][0], &ask, wire.Marshal(&ask), wire.Marshal(&a)); err != nil || a.Heads[0].Sequence != 1 {
		t.Fatal(a, err)
	}
}

// Calls go side by side, and end with their connection.
func TestClient(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	c := endorser.NewClient(here)
	go io.Copy(io.Discard, there)
	ctx, cancel := context.WithCancel(context.Background())
	var calls sync.WaitGroup
	errs := make(chan error, 10)
	for range 5 {
		calls.Go(func() { _, err := c.Call(context.Background(), wire.FrameIdentify, nil); errs <- err })
		calls.Go(func() { _, err := c.Call(ctx, wire.FrameIdentify, nil); errs <- err })
	}
	cancel()
	for range 5 {
		wantCode(t, <-errs, wire.CodeUnavailable)
	}
	there.Close()
	calls.Wait()
	for range 5 {
		wantCode(t, <-errs, wire.CodeUnavailable)
	}
	if c.Broken() == nil {
		t.Error("not broken")
	}
	_, err := c.Call(context.Background(), wire.FrameIdentify, nil)
	wantCode(t, err, wire.CodeUnavailable)
	c.Close()
}
