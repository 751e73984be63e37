package link_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// start runs a link to an enclave and waits for the connection.
func start(t testing.TB, store link.Store, handle func(*linktest.Conn, wire.Frame) *wire.Result) (*link.Link, *linktest.Enclave) {
	t.Helper()
	e := linktest.Start(t, handle)
	l := link.New(e.Dial, store, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { l.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := l.Connected(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l, e
}

// echo answers a request with its envelope.
func echo(_ *linktest.Conn, f wire.Frame) *wire.Result {
	var forward wire.Forward
	if err := wire.Unmarshal(f.Body, &forward); err != nil {
		return linktest.Refusal(wire.CodeMalformed)
	}
	return linktest.Value(wire.Reply{Response: forward.Envelope})
}

func TestCallsGetTheirOwnReplies(t *testing.T) {
	t.Parallel()
	l, _ := start(t, storetest.NewMemory(), echo)
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			want := binary.BigEndian.AppendUint32(nil, uint32(i))
			r, err := l.Forward(t.Context(), &wire.Forward{Envelope: want})
			if err != nil || !reflect.DeepEqual(r.Response, want) {
				t.Errorf("call %d: %x, %v", i, r.Response, err)
			}
		})
	}
	all.Wait()
}

func TestRefusalKeepsItsCode(t *testing.T) {
	t.Parallel()
	l, _ := start(t, storetest.NewMemory(), func(*linktest.Conn, wire.Frame) *wire.Result {
		return linktest.Refusal(wire.CodeUnknownKey)
	})
	if _, err := l.Forward(t.Context(), &wire.Forward{}); wire.CodeOf(err) != wire.CodeUnknownKey {
		t.Fatalf("%v, want %s", err, wire.CodeUnknownKey)
	}
}

func TestEnclaveIsServedFromTheStore(t *testing.T) {
	t.Parallel()
	keys := ledgertest.NewKeys(t)
	a := storetest.NewAccount(keys, "a")
	commit := a.Change(1)
	place := a.At
	reserve := a.Reserve()
	stale := a.Fork("x")
	stale.At = place
	late := stale.Change(1)

	type step struct {
		kind wire.FrameKind
		body any
	}
	steps := []step{
		{wire.FrameCommit, commit}, {wire.FrameAppend, reserve.Append}, {wire.FrameCommit, late},
		{wire.FrameNeed, wire.Need{Account: a.ID, State: true}}, {wire.FrameNeed, []int{1}},
	}
	results := make([]wire.Result, len(steps))
	l, _ := start(t, storetest.NewMemory(), func(c *linktest.Conn, f wire.Frame) *wire.Result {
		for i, s := range steps {
			results[i], _ = c.Call(s.kind, wire.Marshal(s.body))
		}
		return linktest.Value(wire.Reply{})
	})
	if _, err := l.Forward(t.Context(), &wire.Forward{}); err != nil {
		t.Fatal(err)
	}
	want := []wire.Result{
		*linktest.Value(wire.Appended{Newest: place}), *linktest.Value(wire.Appended{Newest: a.At}),
		*linktest.Refusal(wire.CodeConflict),
		*linktest.Value(wire.State{Newest: reserve.Append.Entry, Head: commit.Head, Wraps: commit.Wraps}),
		*linktest.Refusal(wire.CodeMalformed),
	}
	if !reflect.DeepEqual(results, want) {
		t.Fatalf("got %+v\nwant %+v", results, want)
	}
}

func TestBrokenConnectionEndsCallsAndIsDialledAgain(t *testing.T) {
	t.Parallel()
	const calls = 20
	arrived := make(chan struct{}, calls)
	l, e := start(t, storetest.NewMemory(), func(c *linktest.Conn, f wire.Frame) *wire.Result {
		if f.Kind == wire.FrameStatus {
			return linktest.Value(wire.Status{Ready: true})
		}
		arrived <- struct{}{}
		return nil
	})
	first := l.Connection()
	errs := make(chan error, calls)
	for range calls {
		go func() { _, err := l.Forward(t.Context(), &wire.Forward{}); errs <- err }()
	}
	for range calls {
		<-arrived
	}
	e.Break()
	for range calls {
		if err := <-errs; wire.CodeOf(err) != wire.CodeUnavailable {
			t.Errorf("%v, want %s", err, wire.CodeUnavailable)
		}
	}
	for { // the link may not have noticed yet
		if err := l.Connected(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, err := l.Status(t.Context()); err == nil && s.Ready {
			break
		}
	}
	if l.Connection() <= first {
		t.Errorf("connection %d, then %d", first, l.Connection())
	}
	if len(arrived) != 0 {
		t.Error("a call was sent again")
	}
}

func TestNotConnected(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	l := link.New(func(context.Context) (net.Conn, error) { return nil, refused }, storetest.NewMemory(), quiet)
	if _, err := l.Status(t.Context()); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Connected(ctx); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
	}
}

// Peers that break the protocol lose the connection; the call under way ends.
func TestPeerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	long := binary.BigEndian.AppendUint32(nil, wire.MaxFrame+10)
	for name, bytes := range map[string][]byte{
		"reply to no call":  wire.Frame{Call: 999, Kind: wire.FrameReply, Body: []byte{0xa0}}.Append(nil),
		"unknown kind":      wire.Frame{Call: 1, Kind: 77}.Append(nil),
		"a host's own kind": wire.Frame{Call: 1, Kind: wire.FrameRequest}.Append(nil),
		"too long":          long,
		"too short":         {0, 0, 0, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, _ := start(t, storetest.NewMemory(), func(c *linktest.Conn, f wire.Frame) *wire.Result {
				c.Write(bytes)
				return nil
			})
			if _, err := l.Forward(t.Context(), &wire.Forward{}); wire.CodeOf(err) != wire.CodeUnavailable {
				t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
			}
		})
	}
	t.Run("truncated", func(t *testing.T) {
		t.Parallel()
		l, _ := start(t, storetest.NewMemory(), func(c *linktest.Conn, f wire.Frame) *wire.Result {
			b := wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: make([]byte, 100)}.Append(nil)
			c.Write(b[:50])
			c.Close()
			return nil
		})
		if _, err := l.Forward(t.Context(), &wire.Forward{}); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
		}
	})
	t.Run("reply that does not decode", func(t *testing.T) {
		t.Parallel()
		l, _ := start(t, storetest.NewMemory(), func(c *linktest.Conn, f wire.Frame) *wire.Result {
			c.Send(wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: []byte{0xff}})
			return nil
		})
		if _, err := l.Forward(t.Context(), &wire.Forward{}); wire.CodeOf(err) != wire.CodeInternal {
			t.Fatalf("%v, want %s", err, wire.CodeInternal)
		}
	})
}

// A call that its caller gave up keeps its slot until it is answered, and no
// goroutine; more calls than slots wait.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	const slots = 192
	arrived, release := make(chan struct{}, 2*slots), make(chan struct{})
	l, _ := start(t, storetest.NewMemory(), func(*linktest.Conn, wire.Frame) *wire.Result {
		arrived <- struct{}{}
		<-release
		return linktest.Value(wire.Status{})
	})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, slots)
	for range slots {
		go func() { _, err := l.Status(ctx); errs <- err }()
	}
	for range slots {
		<-arrived
	}
	cancel()
	for range slots {
		if err := <-errs; wire.CodeOf(err) != wire.CodeUnavailable {
			t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
		}
	}
	// The next one waits for a slot until its time is up, and is not sent.
	brief, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer end()
	if _, err := l.Status(brief); wire.CodeOf(err) != wire.CodeUnavailable || len(arrived) != 0 {
		t.Fatalf("%v; %d calls went out above the bound", err, len(arrived))
	}
	close(release)
	if _, err := l.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkForward(b *testing.B) {
	l, _ := start(b, storetest.NewMemory(), echo)
	f := wire.Forward{Envelope: make([]byte, 2300), State: wire.State{Head: make([]byte, 2000), Newest: make([]byte, 700)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Forward(b.Context(), &f); err != nil {
			b.Fatal(err)
		}
	}
}
