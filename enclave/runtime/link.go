package runtime

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/passclave/passclave/wire"
)

// maxCalls bounds the host's calls under way on one connection; the host has to
// wait with the others.
const maxCalls = 256

// link is one connection from the host.
type link struct {
	conn net.Conn
	out  sync.Mutex // guards writes
	buf  []byte     // guarded by out

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan wire.Result // the enclave's calls
	broken  bool
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, waiting: map[uint64]chan wire.Result{}}
}

var errBroken = wire.Errorf(wire.CodeUnavailable, "the connection to the host broke")

// serve reads frames until the connection ends, and hands the host's calls to
// handle, in as many goroutines as there are calls under way, at most maxCalls.
// They stay for the next call: a new one would grow its stack anew for every call.
func (l *link) serve(handle func(wire.Frame) wire.Result) error {
	calls := make(chan wire.Frame) // taken only by those who wait for a call
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(calls)
	defer l.fail() // before workers.Wait: it ends what handlers wait for
	work := func(f wire.Frame) {
		for ok := true; ok; f, ok = <-calls {
			l.send(wire.Frame{Call: f.Call, Kind: wire.FrameReply, Body: wire.Marshal(handle(f))})
		}
	}
	started := 0
	in := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		f, err := wire.ReadFrame(in)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if f.Kind == wire.FrameAnswer {
			if err := l.answer(f); err != nil {
				return err
			}
			continue
		}
		if started == maxCalls {
			calls <- f
			continue
		}
		select {
		case calls <- f:
		default:
			started++
			workers.Go(func() { work(f) })
		}
	}
}

// answer hands the host's answer to the call that waits for it. An answer that
// nobody waits for ends the connection: the host is confused, or worse.
func (l *link) answer(f wire.Frame) error {
	var r wire.Result
	if err := wire.Unmarshal(f.Body, &r); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ch, ok := l.waiting[f.Call]
	if !ok {
		return wire.Errorf(wire.CodeMalformed, "answer to no call")
	}
	delete(l.waiting, f.Call)
	ch <- r
	return nil
}

// gone reports whether the connection broke; it counts among the others until the last
// handler of a call on it has ended.
func (l *link) gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// fail ends every call that waits.
func (l *link) fail() {
	l.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for call, ch := range l.waiting {
		delete(l.waiting, call)
		close(ch)
	}
}

func (l *link) send(f wire.Frame) error {
	if len(f.Body) > wire.MaxFrame {
		return wire.Errorf(wire.CodeTooLarge, "frame of %d bytes", len(f.Body))
	}
	l.out.Lock()
	defer l.out.Unlock()
	l.buf = f.Append(l.buf[:0])
	if _, err := l.conn.Write(l.buf); err != nil {
		return errBroken
	}
	return nil
}

// call asks the host and waits for its answer. When the connection breaks, or the
// time is over, it returns CodeUnavailable: whether the host acted is not known.
// Nothing is sent once the time is over.
func (l *link) call(ctx context.Context, kind wire.FrameKind, question, answer any) error {
	if err := ctx.Err(); err != nil {
		return wire.NewError(wire.CodeUnavailable, err)
	}
	ch := make(chan wire.Result, 1)
	l.mu.Lock()
	if l.broken {
		l.mu.Unlock()
		return errBroken
	}
	l.next++
	id := l.next
	l.waiting[id] = ch
	l.mu.Unlock()

	if err := l.send(wire.Frame{Call: id, Kind: kind, Body: wire.Marshal(question)}); err != nil {
		l.fail()
		return err
	}
	select {
	case r, ok := <-ch:
		if !ok {
			return errBroken
		}
		if r.Error != nil {
			return hostsError(kind, r.Error.Code)
		}
		return wire.Unmarshal(r.Value, answer)
	case <-ctx.Done():
		// The answer may still come; it then finds a channel that nobody reads.
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}

// hostsError lets a host say only what is a host's to say. Its error may end up in
// a sealed answer, which clients believe: a host must not be able to put a lock, a
// revocation or a wrong PIN there.
func hostsError(kind wire.FrameKind, code wire.Code) error {
	switch {
	case code == wire.CodeConflict && (kind == wire.FrameAppend || kind == wire.FrameCommit || kind == wire.FrameSettle):
	case code == wire.CodeNotFound && kind == wire.FrameSettle:
	case code == wire.CodeStorageFull, code == wire.CodeRateLimited:
	default:
		code = wire.CodeUnavailable
	}
	return wire.Errorf(code, "the host's answer")
}

// Newest implements a ledger's store, on the connection that a request came by.
func (l *link) Newest(ctx context.Context, account wire.AccountID) ([]byte, error) {
	var state wire.State
	if err := l.call(ctx, wire.FrameNeed, wire.Need{Account: account, State: true}, &state); err != nil {
		return nil, err
	}
	return state.Newest, nil
}

// Commit implements a ledger's store.
func (l *link) Commit(ctx context.Context, c *wire.Commit) (done wire.Appended, err error) {
	if len(c.Head) == 0 {
		err = l.call(ctx, wire.FrameAppend, c.Append, &done)
	} else {
		err = l.call(ctx, wire.FrameCommit, c, &done)
	}
	return done, err
}

// Stage implements the azure ledger's store.
func (l *link) Stage(ctx context.Context, c *wire.Commit) error {
	return l.call(ctx, wire.FrameStage, c, &struct{}{})
}

// Settle implements the azure ledger's store.
func (l *link) Settle(ctx context.Context, account wire.AccountID, entry wire.Digest) error {
	return l.call(ctx, wire.FrameSettle, wire.Settle{Account: account, Entry: entry}, &struct{}{})
}

// Relay implements the endorsed ledger's host. Of an endorser's refusals only those come
// through on which something follows, and each follows without harm if it is a lie: the
// chain of views is looked at again, or this enclave introduces itself.
func (l *link) Relay(ctx context.Context, endorser []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	var r wire.Relayed
	if err := l.call(ctx, wire.FrameRelay, wire.Relay{Endorser: endorser, Kind: kind, Body: body}, &r); err != nil {
		return nil, err
	}
	switch r.Code {
	case "":
		return r.Value, nil
	case wire.CodeView, wire.CodeSignature:
	default:
		r.Code = wire.CodeUnavailable
	}
	return nil, wire.Errorf(r.Code, "an endorser's refusal, as the host has it")
}

// Views implements the endorsed ledger's host.
func (l *link) Views(ctx context.Context) ([]byte, error) {
	var v wire.Views
	err := l.call(ctx, wire.FrameViews, struct{}{}, &v)
	return v.Chain, err
}

// lineage has the host keep what is left of earlier versions of the KEK, or bring what it
// has of it: nil, where it has nothing.
func (l *link) lineage(ctx context.Context, question wire.Lineage) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var has wire.Lineage
	err := l.call(ctx, wire.FrameLineage, question, &has)
	return has.Box, err
}
