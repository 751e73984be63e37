package evilhost_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/development/evilhost"
	"github.com/passclave/passclave/wire"
)

// pair is a host and an enclave with the proxy between them.
type pair struct {
	proxy         *evilhost.Proxy
	host, enclave net.Conn
}

func newPair(t *testing.T) *pair {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "enclave.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := &pair{}
	if p.proxy, err = evilhost.Listen(filepath.Join(dir, "evil.sock"), filepath.Join(dir, "enclave.sock")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.proxy.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if p.host, err = net.Dial("unix", filepath.Join(dir, "evil.sock")); err != nil {
		t.Fatal(err)
	}
	if p.enclave, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.host.Close(); p.enclave.Close() })
	return p
}

func send(t *testing.T, c net.Conn, f wire.Frame) {
	t.Helper()
	if _, err := c.Write(f.Append(nil)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) wire.Frame {
	t.Helper()
	f, err := wire.ReadFrame(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// request sends a request with a state and returns the state that arrives.
func (p *pair) request(t *testing.T, s wire.State) wire.State {
	t.Helper()
	send(t, p.host, wire.Frame{Call: 1, Kind: wire.FrameRequest, Body: wire.Marshal(wire.Forward{Envelope: []byte("envelope"), State: s})})
	var f wire.Forward
	if err := wire.Unmarshal(receive(t, p.enclave).Body, &f); err != nil {
		t.Fatal(err)
	}
	return f.State
}

// need has the enclave ask for a state and returns the one that arrives.
func (p *pair) need(t *testing.T, s wire.State) wire.State {
	t.Helper()
	send(t, p.enclave, wire.Frame{Call: 7, Kind: wire.FrameNeed, Body: wire.Marshal(wire.Need{State: true})})
	receive(t, p.host)
	send(t, p.host, wire.Frame{Call: 7, Kind: wire.FrameAnswer, Body: wire.Marshal(wire.Result{Value: wire.Marshal(s)})})
	var r wire.Result
	var got wire.State
	if err := wire.Unmarshal(receive(t, p.enclave).Body, &r); err != nil {
		t.Fatal(err)
	}
	if err := wire.Unmarshal(r.Value, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func state(newest, head string, records ...[]byte) wire.State {
	return wire.State{Newest: []byte(newest), Head: []byte(head), Records: records}
}

func same(a, b wire.State) bool { return bytes.Equal(wire.Marshal(a), wire.Marshal(b)) }

func record(n byte) []byte { return wire.Marshal(wire.Record{Handle: wire.Handle{n}}) }

func TestHonest(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	if s := state("entry", "head"); !same(p.request(t, s), s) || !same(p.need(t, s), s) {
		t.Error("changed")
	}
	for _, k := range []wire.FrameKind{wire.FrameReply, wire.FrameAppend, wire.FrameCommit} {
		f := wire.Frame{Call: 3, Kind: k, Body: []byte("body")}
		if k == wire.FrameCommit {
			f.Body = wire.Marshal(wire.Commit{Head: []byte("head")})
		}
		send(t, p.enclave, f)
		if got := receive(t, p.host); got.Call != f.Call || got.Kind != f.Kind || !bytes.Equal(got.Body, f.Body) {
			t.Errorf("frame %d changed", k)
		}
	}
	if e, err := p.proxy.Captured(); err != nil || string(e) != "envelope" {
		t.Errorf("captured %q, %v", e, err)
	}
}

// A lie is told in requests and in answers alike, and ends.
func TestLies(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	if _, err := p.proxy.Snapshot(); !errors.Is(err, evilhost.ErrNothingSeen) {
		t.Errorf("a snapshot of nothing: %v", err)
	}
	if err := p.proxy.ServeUncommitted(); !errors.Is(err, evilhost.ErrNothingSeen) {
		t.Errorf("an uncommitted head of nothing: %v", err)
	}
	old, now := state("entry 1", "head 1", record(1)), state("entry 2", "head 2", record(2))
	p.request(t, old)
	snapshot, err := p.proxy.Snapshot()
	if err != nil {
		t.Fatal(err)
	}

	p.proxy.ServeOlder(snapshot)
	want := state("entry 1", "head 1", record(2))
	if !same(p.request(t, now), want) || !same(p.need(t, now), want) {
		t.Error("did not serve the older state")
	}

	p.proxy.WithholdCommits()
	send(t, p.enclave, wire.Frame{Call: 9, Kind: wire.FrameCommit, Body: wire.Marshal(wire.Commit{Head: []byte("head 3")})})
	var r wire.Result
	if f := receive(t, p.enclave); f.Call != 9 || wire.Unmarshal(f.Body, &r) != nil || r.Error.Code != wire.CodeUnavailable {
		t.Errorf("the commit was answered by %+v", f)
	}
	if err := p.proxy.ServeUncommitted(); err != nil {
		t.Fatal(err)
	}
	if want := state("entry 2", "head 3", record(2)); !same(p.request(t, now), want) || !same(p.need(t, now), want) {
		t.Error("did not serve the uncommitted head")
	}

	p.proxy.Honest()
	if !same(p.request(t, now), now) { // and sees record 2 pass
		t.Error("still lies")
	}
	p.proxy.SwapRecords()
	if want := state("entry 2", "head 2", record(1)); !same(p.request(t, now), want) || !same(p.need(t, now), want) {
		t.Error("did not swap the record")
	}
}

// When one side ends, so does the other: the host sees it and dials again.
func TestEnds(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.enclave.Close()
	if _, err := wire.ReadFrame(p.host); err == nil {
		t.Error("the host's connection lives on")
	}
}
