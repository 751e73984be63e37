package ledgertest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"sync"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Backend is one ledger under test.
type Backend struct {
	Ledger ledger.Ledger
	Store  *Store // where a backend keeps its entries, for faults
	// Restart returns the ledger as it is after a crash of its enclave.
	Restart func() ledger.Ledger
	// Several enclaves may write: an entry that another one signed behind the newest head
	// stands as well as one's own.
	Several bool
	// Arrive brings the writes that are late; nil: they come by Store.Arrive.
	Arrive func()
	// Own: it keeps its entries itself. What the host's store says of them is a hint,
	// so that forged ones there change nothing.
	Own bool
}

// Keys are the ledger keys of one test.
type Keys struct {
	LedgerID []byte
	Private  ed25519.PrivateKey
	Verifier *ledger.Verifier
	Signers  []ledger.Signer
}

// NewKeys makes a ledger ID and a ledger key.
func NewKeys(t testing.TB) *Keys {
	id, kek := make([]byte, 32), make([]byte, 32)
	rand.Read(id)
	rand.Read(kek)
	keys, signers := ledger.Succession(id, [][]byte{kek})
	verifier, err := ledger.NewVerifier(id, signers)
	if err != nil {
		t.Fatal(err)
	}
	return &Keys{LedgerID: id, Private: keys[0], Verifier: verifier, Signers: signers}
}

// Entry makes a signed entry that follows expected, and the commit that appends it.
func (k *Keys) Entry(account wire.AccountID, expected wire.Head) (*wire.Commit, wire.Head) {
	note := make([]byte, ledger.NoteSize)
	rand.Read(note)
	e := ledger.Entry{
		Ledger: k.LedgerID, Stream: wire.Stream(k.LedgerID, account),
		Sequence: expected.Sequence + 1, Previous: expected.Hash, Generation: 1, Epoch: 1, Note: note,
	}
	b := e.Sign(k.Private)
	return &wire.Commit{Append: wire.Append{Account: account, Stream: e.Stream, Expected: expected, Entry: b}}, ledger.HeadOf(&e, b)
}

// Run runs the suite. open makes a fresh backend with an empty store.
func Run(t *testing.T, open func(t *testing.T, keys *Keys) Backend) {
	for name, test := range map[string]func(*testing.T, *fixture){
		"no such stream is a statement":         noStream,
		"appends in order":                      appends,
		"stale expectation loses":               stale,
		"forged entry is refused":               forged,
		"entry of another stream is refused":    otherStream,
		"entry that skips is refused":           skips,
		"failed write leaves no trace":          failedWrite,
		"failed write that persisted is found":  failedButDone,
		"write that comes twice counts once":    twice,
		"write that comes late is found":        late,
		"write that comes too late is void":     tooLate,
		"one of many racing appends wins":       race,
		"restart keeps what was acknowledged":   restart,
		"streams are independent":               independent,
		"a head older than memory is refused":   rollback,
		"a fork of the store is refused":        fork,
		"an append in doubt excuses no other":   rollbackInDoubt,
		"failures do not end a stream":          manyFailures,
		"receipt names the entry that was sent": receipt,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := NewKeys(t)
			f := &fixture{Backend: open(t, keys), keys: keys, ctx: context.Background()}
			rand.Read(f.account[:])
			test(t, f)
		})
	}
}

type fixture struct {
	Backend
	keys    *Keys
	ctx     context.Context
	account wire.AccountID
}

func (f *fixture) read(t *testing.T) wire.Head {
	t.Helper()
	h, err := f.tryRead()
	if err != nil {
		t.Fatalf("ReadHead: %v", err)
	}
	return h
}

func (f *fixture) tryRead() (wire.Head, error) {
	hint, err := f.Store.Newest(f.ctx, f.account)
	if err != nil {
		return wire.Head{}, err
	}
	var nonce [32]byte
	rand.Read(nonce[:])
	h, err := f.Ledger.ReadHead(f.ctx, f.account, wire.Stream(f.keys.LedgerID, f.account), nonce, hint)
	return h.Head, err
}

func (f *fixture) append(t *testing.T) wire.Head {
	t.Helper()
	c, head := f.keys.Entry(f.account, f.read(t))
	if _, err := f.Ledger.CompareAndAppend(f.ctx, c); err != nil {
		t.Fatalf("CompareAndAppend: %v", err)
	}
	return head
}

func wantCode(t *testing.T, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func noStream(t *testing.T, f *fixture) {
	if h := f.read(t); h != (wire.Head{}) {
		t.Fatalf("head %v of a stream that does not exist", h)
	}
}

func appends(t *testing.T, f *fixture) {
	for range 5 {
		want := f.append(t)
		if got := f.read(t); got != want {
			t.Fatalf("newest is %v, want %v", got, want)
		}
	}
}

func stale(t *testing.T, f *fixture) {
	first := f.append(t)
	f.append(t)
	c, _ := f.keys.Entry(f.account, first)
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeConflict)
	if got := f.read(t).Sequence; got != 2 {
		t.Fatalf("newest is %d, want 2", got)
	}
}

func forged(t *testing.T, f *fixture) {
	other := NewKeys(t)
	other.LedgerID = f.keys.LedgerID
	c, _ := other.Entry(f.account, f.read(t))
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeEntry)

	f.Store.Accounts[f.account] = &Account{Entries: [][]byte{c.Append.Entry}}
	f.refusesHint(t, wire.Head{})
}

func otherStream(t *testing.T, f *fixture) {
	var other wire.AccountID
	rand.Read(other[:])
	at := f.append(t)
	c, _ := f.keys.Entry(other, wire.Head{})
	f.Store.Accounts[f.account].Entries = [][]byte{c.Append.Entry}
	f.refusesHint(t, at)
}

// refusesHint reads after a restart, with a newest entry in the store that is not the
// stream's. A backend that keeps its entries itself knows the true head.
func (f *fixture) refusesHint(t *testing.T, known wire.Head) {
	t.Helper()
	f.Ledger = f.Restart()
	got, err := f.tryRead()
	if !f.Own {
		wantCode(t, err, wire.CodeEntry)
	} else if err != nil || got != known {
		t.Fatalf("newest is %v, %v, want %v", got, err, known)
	}
}

func skips(t *testing.T, f *fixture) {
	at := f.append(t)
	c, _ := f.keys.Entry(f.account, wire.Head{Sequence: at.Sequence + 1, Hash: at.Hash})
	c.Append.Expected = at
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeEntry)
}

func (f *fixture) failNext(fault Fault) {
	done := false
	f.Store.Before = func(*wire.Commit) Fault {
		if done {
			return NoFault
		}
		done = true
		return fault
	}
}

func failedWrite(t *testing.T, f *fixture) {
	at := f.append(t)
	f.failNext(Failed)
	c, _ := f.keys.Entry(f.account, at)
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeUnavailable)
	if got := f.read(t); got != at {
		t.Fatalf("newest is %v, want %v", got, at)
	}
	f.append(t)
}

func failedButDone(t *testing.T, f *fixture) {
	at := f.append(t)
	f.failNext(FailedButDone)
	c, head := f.keys.Entry(f.account, at)
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeUnavailable)
	if got := f.read(t); got != head {
		t.Fatalf("newest is %v, want the entry that persisted, %v", got, head)
	}
	f.append(t)
}

func twice(t *testing.T, f *fixture) {
	f.append(t)
	f.failNext(Twice)
	want := f.append(t)
	if got := f.read(t); got != want || got.Sequence != 2 {
		t.Fatalf("newest is %v, want %v", got, want)
	}
}

func (f *fixture) arrive() {
	if f.Arrive == nil {
		f.Store.Arrive()
		return
	}
	f.Arrive()
}

// appendLate appends an entry whose write comes late.
func (f *fixture) appendLate(t *testing.T) (at, late wire.Head) {
	t.Helper()
	at = f.append(t)
	f.failNext(Late)
	c, late := f.keys.Entry(f.account, at)
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeUnavailable)
	if got := f.read(t); got != at {
		t.Fatalf("newest is %v, want %v: nothing came yet", got, at)
	}
	return at, late
}

func late(t *testing.T, f *fixture) {
	_, head := f.appendLate(t)
	f.arrive()
	if got := f.read(t); got != head {
		t.Fatalf("newest is %v, want the entry that came late, %v", got, head)
	}
	f.append(t)
}

func tooLate(t *testing.T, f *fixture) {
	_, head := f.appendLate(t)
	other := f.append(t)
	f.arrive()
	if got := f.read(t); got != other || got == head {
		t.Fatalf("newest is %v, want %v", got, other)
	}
	f.append(t)
}

func race(t *testing.T, f *fixture) {
	at := f.append(t)
	const writers = 16
	var wins, losses int
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range writers {
		c, _ := f.keys.Entry(f.account, at)
		wait.Add(1)
		go func() {
			defer wait.Done()
			_, err := f.Ledger.CompareAndAppend(f.ctx, c)
			mu.Lock()
			defer mu.Unlock()
			switch wire.CodeOf(err) {
			case "":
				wins++
			case wire.CodeConflict:
				losses++
			default:
				t.Errorf("loser got %v", err)
			}
		}()
	}
	wait.Wait()
	if wins != 1 || losses != writers-1 {
		t.Fatalf("%d won, %d lost", wins, losses)
	}
	if got := f.read(t).Sequence; got != 2 {
		t.Fatalf("newest is %d, want 2", got)
	}
}

func restart(t *testing.T, f *fixture) {
	want := f.append(t)
	f.Ledger = f.Restart()
	if got := f.read(t); got != want {
		t.Fatalf("newest is %v, want %v", got, want)
	}
	f.append(t)
}

func independent(t *testing.T, f *fixture) {
	f.append(t)
	mine := f.read(t)
	other := *f
	rand.Read(other.account[:])
	other.append(t)
	if got := f.read(t); got != mine {
		t.Fatalf("newest moved to %v by another stream", got)
	}
}

// rollback: within one run the memory wins over an older store. A caller sees that
// the host's newest entry is not the newest.
func rollback(t *testing.T, f *fixture) {
	f.append(t)
	old := f.Store.Snapshot()
	want := f.append(t)
	f.Store.Restore(old)
	if got, err := f.tryRead(); err == nil && got != want {
		t.Fatalf("an older head, %v, was taken for the newest", got)
	}
	c, _ := f.keys.Entry(f.account, wire.Head{Sequence: 1, Hash: ledger.EntryHash(old[f.account].Entries[0])})
	if _, err := f.Ledger.CompareAndAppend(f.ctx, c); err == nil {
		t.Fatal("an entry was appended to an older head")
	}
}

func fork(t *testing.T, f *fixture) {
	at := f.append(t)
	before := f.Store.Snapshot()
	want := f.append(t)
	f.Store.Restore(before)
	c, _ := f.keys.Entry(f.account, at)
	if _, err := f.Store.commit(c); err != nil {
		t.Fatal(err)
	}
	if got, err := f.tryRead(); err == nil && got != want {
		t.Fatalf("the other branch's head, %v, was taken for the newest", got)
	}
}

// rollbackInDoubt: while the outcome of an append is not known, the store may show
// the head before it or that entry, and no third one, however well signed.
func rollbackInDoubt(t *testing.T, f *fixture) {
	f.append(t)
	old := f.Store.Snapshot()
	at := f.append(t)
	before := f.Store.Snapshot()
	f.failNext(Failed)
	c, sent := f.keys.Entry(f.account, at)
	_, err := f.Ledger.CompareAndAppend(f.ctx, c)
	wantCode(t, err, wire.CodeUnavailable)

	other, _ := f.keys.Entry(f.account, at)
	for name, tamper := range map[string]func(){
		"an older head": func() { f.Store.Restore(old) },
		"no stream":     func() { f.Store.Restore(nil) },
		"an entry that was never sent": func() {
			f.Store.Restore(before)
			if _, err := f.Store.commit(other); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if name == "an entry that was never sent" && f.Several {
			continue
		}
		tamper()
		if got, err := f.tryRead(); err == nil && got != at && got != sent {
			t.Errorf("%s: %v was taken for the newest", name, got)
		}
	}
	f.Store.Restore(before)
	if got := f.read(t); got != at {
		t.Fatalf("newest is %v, want %v", got, at)
	}
	f.append(t)
}

// manyFailures: a store that was down for long serves again.
func manyFailures(t *testing.T, f *fixture) {
	at := f.append(t)
	f.Store.Before = func(*wire.Commit) Fault { return Failed }
	for range 100 {
		c, _ := f.keys.Entry(f.account, f.read(t))
		_, err := f.Ledger.CompareAndAppend(f.ctx, c)
		wantCode(t, err, wire.CodeUnavailable)
	}
	f.Store.Before = nil
	if got := f.read(t); got != at {
		t.Fatalf("newest is %v, want %v", got, at)
	}
	f.append(t)
}

func receipt(t *testing.T, f *fixture) {
	c, head := f.keys.Entry(f.account, f.read(t))
	r, err := f.Ledger.CompareAndAppend(f.ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if r.Head != head {
		t.Fatalf("receipt for %v, want %v", r.Head, head)
	}
}
