// Package local is the embedded ledger: streams stand in the host's database, and
// the endorser is this process's memory.
//
// It owns the newest head of every stream touched since the process started. It
// trusts that memory, and the host's database for nothing but durability: within
// one run every rollback and fork is refused, across a restart it adopts what the
// host gives it, if the ledger key signed it. Against a host that restarts the
// enclave from old copies only the devices' own memory helps; hence
// [wire.FreshnessLocal] on every answer. One enclave only may use a database.
package local

import (
	"context"
	"slices"
	"sync"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Store is the host's side: where entries become durable.
type Store interface {
	// Newest returns the newest entry of an account's stream, nil if there is none.
	Newest(ctx context.Context, account wire.AccountID) ([]byte, error)
	// Commit appends compare-and-swap, idempotent by the entry's hash.
	Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error)
}

// Memory is the endorser: what this process knows of every stream.
type Memory struct {
	verifier func() *ledger.Verifier

	mu      sync.Mutex
	streams map[wire.StreamID]wire.Head // what this process endorsed or adopted; never goes back
	// doubt holds, for a stream whose last appends had no clear answer, the heads
	// that may stand instead of the one in streams, all with its sequence plus one,
	// oldest first.
	doubt map[wire.StreamID][]wire.Head
}

// maxDoubt bounds how many appends of one stream are remembered as without a clear
// answer. The oldest is forgotten first: should it stand after all, it is refused as
// a rollback.
const maxDoubt = 16

// New returns an empty memory. verifier gives the ledger keys in force.
func New(verifier func() *ledger.Verifier) *Memory {
	return &Memory{verifier: verifier, streams: map[wire.StreamID]wire.Head{}, doubt: map[wire.StreamID][]wire.Head{}}
}

// Over returns the ledger whose entries become durable in a store: for a request,
// the one of the host that it came from.
func (m *Memory) Over(store Store) *Ledger { return &Ledger{Memory: m, store: store} }

// Streams returns how many streams are remembered.
func (m *Memory) Streams() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}

// Ledger is the local backend: a memory over a store.
type Ledger struct {
	*Memory
	store Store
}

// ReadHead implements [ledger.Ledger]. The first touch of a stream adopts the
// hint; later a hint is not needed, and one that differs is the caller's to notice.
// The nonce is not used: there is nobody to ask.
func (l *Ledger) ReadHead(ctx context.Context, account wire.AccountID, stream wire.StreamID, _ [32]byte, hint []byte) (ledger.SignedHead, error) {
	l.mu.Lock()
	known, ok := l.streams[stream]
	doubt := l.doubt[stream]
	l.mu.Unlock()
	switch {
	case ok && len(doubt) == 0:
		return signed(known), nil
	case len(doubt) > 0:
		newest, err := l.store.Newest(ctx, account)
		if err != nil {
			return ledger.SignedHead{}, err
		}
		head, err := l.check(stream, newest)
		if err != nil {
			return ledger.SignedHead{}, err
		}
		return l.settle(stream, head)
	}
	head, err := l.check(stream, hint)
	if err != nil {
		return ledger.SignedHead{}, err
	}
	if head == (wire.Head{}) {
		return signed(head), nil // nothing to remember: anybody can ask for accounts that do not exist
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[stream] = head
	return signed(head), nil
}

// settle ends the doubt about a stream, or refuses a head that is neither the one
// remembered nor one that was sent.
func (l *Ledger) settle(stream wire.StreamID, head wire.Head) (ledger.SignedHead, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head == l.streams[stream] {
		// The doubt stays: what was sent may still arrive, until the next append.
		return signed(head), nil
	}
	for _, d := range l.doubt[stream] {
		if head == d {
			l.streams[stream] = head
			delete(l.doubt, stream)
			return signed(head), nil
		}
	}
	return ledger.SignedHead{}, wire.Errorf(wire.CodeRollback, "the store's newest entry is not one that this ledger appended")
}

func (l *Ledger) check(stream wire.StreamID, entry []byte) (wire.Head, error) {
	if len(entry) == 0 {
		return wire.Head{}, nil
	}
	e, err := l.verifier().Verify(stream, entry)
	if err != nil {
		return wire.Head{}, err
	}
	return ledger.HeadOf(e, entry), nil
}

func signed(h wire.Head) ledger.SignedHead {
	return ledger.SignedHead{Head: h, Freshness: wire.FreshnessLocal}
}

// CompareAndAppend implements [ledger.Ledger]. However many appends of a stream
// failed, the next one is tried. A host that keeps an entry of which it said that it
// refused it only gets CodeRollback.
func (l *Ledger) CompareAndAppend(ctx context.Context, c *wire.Commit) (ledger.Receipt, error) {
	a := &c.Append
	e, err := l.verifier().VerifyAppend(a)
	if err != nil {
		return ledger.Receipt{}, err
	}
	head := ledger.HeadOf(e, a.Entry)
	if err := ctx.Err(); err != nil { // nothing is sent, so nothing is in doubt
		return ledger.Receipt{}, wire.NewError(wire.CodeUnavailable, err)
	}

	l.mu.Lock()
	known := l.streams[a.Stream]                  // a stream without a memory is at the zero head
	if known != a.Expected && !e.Follows(known) { // a restore may know of entries that came before this process
		l.mu.Unlock()
		return ledger.Receipt{}, wire.Errorf(wire.CodeConflict, "expected head is not the newest")
	}
	l.doubt[a.Stream] = append(l.doubt[a.Stream], head)
	if n := len(l.doubt[a.Stream]); n > maxDoubt {
		l.doubt[a.Stream] = slices.Delete(l.doubt[a.Stream], 0, n-maxDoubt)
	}
	l.mu.Unlock()

	done, err := l.store.Commit(ctx, c)
	if refused(err) {
		l.refuse(a.Stream, head)
	}
	if err != nil {
		return ledger.Receipt{}, err // where it is in doubt, ReadHead asks the store what stands
	}
	if done.Newest != head {
		return ledger.Receipt{}, wire.Errorf(wire.CodeReceipt, "the store appended another entry")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[a.Stream] = head
	delete(l.doubt, a.Stream)
	return ledger.Receipt{Head: head}, nil
}

// refused reports whether a store's error says that nothing was appended.
func refused(err error) bool {
	switch wire.CodeOf(err) {
	case wire.CodeConflict, wire.CodeStorageFull, wire.CodeRateLimited:
		return true
	}
	return false
}

// refuse takes a head out of doubt that the store says it did not append.
func (m *Memory) refuse(stream wire.StreamID, head wire.Head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doubt := m.doubt[stream]
	i := slices.Index(doubt, head)
	if i < 0 {
		return // another append succeeded meanwhile
	}
	if doubt = slices.Delete(doubt, i, i+1); len(doubt) == 0 {
		delete(m.doubt, stream)
		return
	}
	m.doubt[stream] = doubt
}
