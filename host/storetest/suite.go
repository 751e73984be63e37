// Package storetest says what a store must do, as a suite that every backend runs,
// and gives tests a store in memory, one whose writes fail, and accounts whose
// commits are whole. After every test the product's own fsck is the judge.
package storetest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/passclave/passclave/host/fsck"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// Backend is one store under test.
type Backend struct {
	store.Store
	// Reopen closes the store and opens it again.
	Reopen func() store.Store
	// Inspect opens an inspector beside it.
	Inspect func() (store.Inspector, error)
}

// Run runs the suite. open makes an empty store.
func Run(t *testing.T, open func(t *testing.T) *Backend) {
	for name, test := range map[string]func(*testing.T, *fixture){
		"an account that is not there is empty":           absent,
		"what a commit brings stands":                     stands,
		"a stale expectation loses and changes nothing":   stale,
		"a fork at the same place loses":                  fork,
		"an entry that does not follow is refused":        doesNotFollow,
		"an entry of another stream is refused":           otherStream,
		"an entry of another ledger is refused":           otherLedger,
		"a malformed record refuses the whole commit":     malformedRecord,
		"a repeated commit changes nothing":               repeated,
		"a repeated commit that others follow stands":     repeatedLater,
		"of racing commits one wins":                      race,
		"entries come in pages":                           entryPages,
		"a reopened store has everything":                 reopened,
		"feed: a page never parts a commit":               feedPages,
		"feed: tokens are replaced, not added":            feedTokens,
		"feed: a foreign token is refused":                feedForeign,
		"faults: what was acknowledged stands, and whole": faults,
		"wraps: those of the epoch in force":              wraps,
		"wraps: which accounts hang on a version":         hanging,
		"rewrap: in the place of the former ones":         rewraps,
		"rewrap: an epoch that is over is left alone":     rewrapLate,
		"rewrap: racing commits keep their wraps":         rewrapRace,
		"rewrap: pages of what is left":                   rewrapPages,
		"a closed store says so":                          closed,
		"a restore goes on from where the store is":       restored,
		"staged: a commit changes nothing until settled":  staged,
		"staged: what lost is forgotten":                  stagedLost,
		"as the model":                                    model,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys := ledgertest.NewKeys(t)
			f := &fixture{Backend: open(t), keys: keys, ctx: context.Background()}
			f.account = NewAccount(keys, name)
			test(t, f)
			f.fsck(t)
		})
	}
}

type fixture struct {
	*Backend
	keys    *ledgertest.Keys
	ctx     context.Context
	account *Account
}

// Fsck fails the test for every finding.
func Fsck(t testing.TB, inspect func() (store.Inspector, error), keys *ledgertest.Keys) fsck.Summary {
	t.Helper()
	sum, err := fsck.Run(context.Background(), inspect, keys.Verifier, nil, 2, func(f fsck.Finding) { t.Error("fsck:", f) })
	if err != nil {
		t.Errorf("fsck: %v", err)
	}
	return sum
}

func (f *fixture) fsck(t *testing.T) {
	t.Helper()
	if f.Inspect != nil {
		Fsck(t, f.Inspect, f.keys)
	}
}

func (f *fixture) commit(t *testing.T, c *wire.Commit) {
	t.Helper()
	done, err := f.Commit(f.ctx, c)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if done.Newest != f.account.At {
		t.Fatalf("Commit answers with entry %d, want %d", done.Newest.Sequence, f.account.At.Sequence)
	}
}

// everything is all of an account that Load gives.
func (f *fixture) everything(t *testing.T) wire.State {
	t.Helper()
	n := wire.Need{Account: f.account.ID, State: true, After: new(uint64), Records: f.account.Handles(), Manifest: true}
	if f.account.blob != nil {
		n.Blobs = []wire.Digest{f.account.Blob()}
	}
	s, err := f.Load(f.ctx, n)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return s
}

// refused expects a refusal that leaves the account as it is.
func (f *fixture) refused(t *testing.T, want wire.Code, c *wire.Commit) {
	t.Helper()
	before := f.everything(t)
	if _, err := f.Commit(f.ctx, c); wire.CodeOf(err) != want {
		t.Fatalf("Commit: %v, want %s", err, want)
	}
	if !reflect.DeepEqual(before, f.everything(t)) {
		t.Fatal("a refused commit changed the account")
	}
}

func absent(t *testing.T, f *fixture) {
	handle := wire.Handle{1}
	s, err := f.Load(f.ctx, wire.Need{Account: f.account.ID, State: true, After: new(uint64), Records: []wire.Handle{handle}, Manifest: true})
	if err != nil || !reflect.DeepEqual(s, wire.State{}) {
		t.Fatalf("Load: %+v, %v", s, err)
	}
	s, err = f.Load(f.ctx, wire.Need{Account: f.account.ID, Blobs: make([]wire.Digest, 2)})
	if err != nil || len(s.Blobs) != 2 || len(s.Blobs[0])+len(s.Blobs[1]) != 0 {
		t.Fatalf("absent blobs must keep their places: %+v, %v", s, err)
	}
	if id, err := f.Ledger(f.ctx); id != nil || err != nil {
		t.Fatalf("Ledger: %x, %v", id, err)
	}
}

func stands(t *testing.T, f *fixture) {
	first, second := f.account.Change(3), f.account.Change(1)
	f.commit2(t, first, second)
	third := f.account.Delete()
	f.commit(t, third)
	s := f.everything(t)
	want := wire.State{
		Newest: third.Append.Entry, Entries: [][]byte{first.Append.Entry, second.Append.Entry, third.Append.Entry},
		Head: third.Head, Wraps: first.Wraps, Records: [][]byte{first.Records[1], first.Records[2], second.Records[1]},
		Blobs: third.Blobs, Manifest: third.Manifest,
	}
	if !reflect.DeepEqual(s, want) {
		t.Fatalf("got %+v\nwant %+v", s, want)
	}
	gone, err := f.Load(f.ctx, wire.Need{Account: f.account.ID, Records: third.Deleted, Blobs: []wire.Digest{wire.BlobHash(first.Blobs[0])}})
	if err != nil || len(gone.Records) != 0 || len(gone.Blobs[0]) != 0 {
		t.Fatalf("dropped, and still there: %+v, %v", gone, err)
	}
	f.commit(t, f.account.Reserve())
	s = f.everything(t)
	if !reflect.DeepEqual(s.Head, third.Head) || !reflect.DeepEqual(s.Manifest, third.Manifest) || len(s.Entries) != 4 {
		t.Fatal("an entry alone must leave head and manifest")
	}
	if id, err := f.Ledger(f.ctx); !slices.Equal(id, f.keys.LedgerID) || err != nil {
		t.Fatalf("Ledger: %x, %v", id, err)
	}
}

// commit2 commits in order what was made in order.
func (f *fixture) commit2(t *testing.T, commits ...*wire.Commit) {
	t.Helper()
	for _, c := range commits {
		if _, err := f.Commit(f.ctx, c); err != nil {
			t.Fatalf("Commit: %v", err)
		}
	}
}

func stale(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	other := f.account.Fork("stale")
	f.commit(t, f.account.Change(1))
	f.commit(t, f.account.Change(1))
	f.refused(t, wire.CodeConflict, other.Change(2))
	f.refused(t, wire.CodeConflict, NewAccountAt(f.account, "from nothing").Change(1))
}

// NewAccountAt returns the same account as if it had no entry yet.
func NewAccountAt(a *Account, seed string) *Account {
	b := NewAccount(a.keys, seed)
	b.ID, b.Stream = a.ID, a.Stream
	return b
}

func fork(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	other := f.account.Fork("fork")
	f.commit(t, f.account.Change(1))
	f.refused(t, wire.CodeConflict, other.Change(1))
	next := other.Change(1) // follows an entry that never stood
	f.refused(t, wire.CodeConflict, next)
}

func restored(t *testing.T, f *fixture) {
	f.commit2(t, f.account.Change(2), f.account.Reserve())
	gone := f.account.Fork("gone")
	for range 3 {
		gone.Change(1)
	}
	other := f.account.Fork("another restore")
	early := f.account.Fork("of an entry before")
	restore := f.account.Restore(gone.At)
	after := f.account.Change(1)
	f.commit2(t, restore, restore) // the second time changes nothing
	f.refused(t, wire.CodeConflict, other.Restore(gone.At))
	f.refused(t, wire.CodeConflict, early.Change(1))
	f.commit(t, after)
	s := f.everything(t)
	if n := len(s.Entries); n != 4 || !slices.Equal(s.Entries[2], restore.Append.Entry) || !slices.Equal(s.Newest, after.Append.Entry) {
		t.Fatalf("%d entries", n)
	}
	for _, from := range []uint64{2, 3, gone.At.Sequence} { // before, within and behind the gap
		s, err := f.Load(f.ctx, wire.Need{Account: f.account.ID, After: &from})
		if err != nil || len(s.Entries) != 2 || !slices.Equal(s.Entries[0], restore.Append.Entry) {
			t.Fatalf("after %d: %d entries, %v", from, len(s.Entries), err)
		}
	}
}

func doesNotFollow(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	ahead := f.account.Fork("ahead")
	at := ahead.At
	ahead.Change(0)
	c := ahead.Change(0)
	c.Append.Expected = at
	f.refused(t, wire.CodeEntry, c)
}

func otherStream(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	c := f.account.Fork("x").Change(0)
	c.Append.Stream[0] ^= 1
	f.refused(t, wire.CodeEntry, c)
	c = NewAccount(f.keys, "no entry yet").Change(0)
	c.Append.Stream[0] ^= 1
	if _, err := f.Commit(f.ctx, c); wire.CodeOf(err) != wire.CodeEntry {
		t.Fatalf("a first entry: %v, want %s", err, wire.CodeEntry)
	}
	other := f.account.Fork("y")
	other.Stream[0] ^= 1
	f.refused(t, wire.CodeEntry, other.Change(0))
	// A whole entry of one account's stream, begun once more under another account.
	twice := NewAccount(f.keys, "twice")
	twice.Stream = f.account.Stream
	if _, err := f.Commit(f.ctx, twice.Change(0)); wire.CodeOf(err) != wire.CodeEntry {
		t.Fatalf("one stream of two accounts: %v, want %s", err, wire.CodeEntry)
	}
}

func otherLedger(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	other := NewAccount(ledgertest.NewKeys(t), "other")
	if _, err := f.Commit(f.ctx, other.Change(1)); wire.CodeOf(err) != wire.CodeEntry {
		t.Fatalf("Commit: %v, want %s", err, wire.CodeEntry)
	}
}

func malformedRecord(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	c := f.account.Fork("x").Change(2)
	c.Records[1] = append(c.Records[1], 0)
	f.refused(t, wire.CodeMalformed, c)
}

func repeated(t *testing.T, f *fixture) {
	c := f.account.Change(2)
	f.commit(t, c)
	before := f.everything(t)
	f.commit(t, c)
	if !reflect.DeepEqual(before, f.everything(t)) {
		t.Fatal("a repeated commit changed the account")
	}
}

func repeatedLater(t *testing.T, f *fixture) {
	first := f.account.Change(2)
	place := f.account.At
	f.commit(t, first)
	f.commit(t, f.account.Delete())
	before := f.everything(t)
	done, err := f.Commit(f.ctx, first)
	if err != nil || done.Newest != place {
		t.Fatalf("Commit: %+v, %v", done, err)
	}
	if !reflect.DeepEqual(before, f.everything(t)) {
		t.Fatal("a repeated commit brought back what was replaced")
	}
}

func race(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	const racers = 16
	errs := make([]error, racers)
	accounts := make([]*Account, racers)
	var all sync.WaitGroup
	for i := range racers {
		accounts[i] = f.account.Fork(string(rune('a' + i)))
		c := accounts[i].Change(1)
		all.Go(func() { _, errs[i] = f.Commit(f.ctx, c) })
	}
	all.Wait()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case wire.CodeOf(err) != wire.CodeConflict:
			t.Errorf("racer %d: %v, want one winner and conflicts", i, err)
		}
	}
	if won < 0 {
		t.Fatal("nobody won")
	}
	f.account = accounts[won]
	if s := f.everything(t); len(s.Entries) != 2 || len(s.Records) != 2 {
		t.Fatalf("%d entries, %d records", len(s.Entries), len(s.Records))
	}
}

func entryPages(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(0))
	for range wire.MaxEntries + 4 {
		f.commit(t, f.account.Reserve())
	}
	after := uint64(2)
	s, err := f.Load(f.ctx, wire.Need{Account: f.account.ID, State: true, After: &after})
	if err != nil || len(s.Entries) != wire.MaxEntries {
		t.Fatalf("%d entries, %v", len(s.Entries), err)
	}
	after += uint64(len(s.Entries))
	s, err = f.Load(f.ctx, wire.Need{Account: f.account.ID, After: &after})
	if err != nil || len(s.Entries) != 3 || s.Newest != nil {
		t.Fatalf("%d entries, %v", len(s.Entries), err)
	}
	for _, after := range []uint64{1 << 62, 1 << 63, 1<<64 - 1} {
		s, err = f.Load(f.ctx, wire.Need{Account: f.account.ID, After: &after})
		if err != nil || len(s.Entries) != 0 {
			t.Fatalf("after %d: %d entries, %v", after, len(s.Entries), err)
		}
	}
}

func reopened(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(2))
	f.commit(t, f.account.Change(2))
	if err := f.SetNote(f.ctx, "x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	before := f.everything(t)
	f.Store = f.Reopen()
	if !reflect.DeepEqual(before, f.everything(t)) {
		t.Fatal("the account changed")
	}
	if b, err := f.Note(f.ctx, "x"); string(b) != "y" || err != nil {
		t.Fatalf("Note: %q, %v", b, err)
	}
	f.commit(t, f.account.Change(1))
}

func wraps(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(0))
	load := func() []wire.Wrap { t.Helper(); return f.everything(t).Wraps }
	first := load()

	c := f.account.Change(0) // the KEK is rotated: one more of this epoch
	rotated := wire.Wrap{Generation: 1, Epoch: 1, KEK: "2", Box: []byte("rotated")}
	c.Wraps = []wire.Wrap{rotated}
	f.commit(t, c)
	if got := load(); !reflect.DeepEqual(got, append(first, rotated)) {
		t.Fatalf("after a rotation: %+v", got)
	}

	f.account.Epoch = 2
	c = f.account.Change(0)
	next := wire.Wrap{Generation: 1, Epoch: 2, KEK: "2", Box: []byte("next")}
	c.Wraps, c.DroppedWraps = []wire.Wrap{next}, []wire.Wrap{{Generation: 1, Epoch: 1, KEK: "1"}}
	f.commit(t, c)
	if got := load(); !reflect.DeepEqual(got, []wire.Wrap{next}) {
		t.Fatalf("in the new epoch: %+v", got)
	}
	if f.Inspect != nil { // the dropped one is gone, the other of its epoch is not
		i, err := f.Inspect()
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		err = i.Inspect(f.ctx, f.account.ID, func(v store.View) error {
			all, err := v.Wraps()
			if !reflect.DeepEqual(all, []wire.Wrap{rotated, next}) {
				t.Errorf("kept: %+v", all)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func hanging(t *testing.T, f *fixture) {
	if f.Inspect == nil {
		t.Skip("nobody can look on")
	}
	want := func(want map[string]uint64) {
		t.Helper()
		i, err := f.Inspect()
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		if got, err := i.KEKs(f.ctx); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v hang, %v; want %v", got, err, want)
		}
	}
	want(map[string]uint64{})
	other := NewAccount(f.keys, "another")
	commit := func(c *wire.Commit) {
		t.Helper()
		if _, err := f.Commit(f.ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	commit(f.account.Change(0))
	commit(other.Change(0))
	want(map[string]uint64{"1": 2})

	c := f.account.Change(0) // the KEK is rotated: the account opens with either
	c.Wraps = []wire.Wrap{{Generation: 1, Epoch: 1, KEK: "2", Box: []byte("rotated")}}
	commit(c)
	want(map[string]uint64{"1": 1})

	other.Epoch = 2 // the former epoch's wrap is kept
	c = other.Change(0)
	c.Wraps = []wire.Wrap{{Generation: 1, Epoch: 2, KEK: "2", Box: []byte("next")}}
	commit(c)
	want(map[string]uint64{"1": 1, "2": 1})

	if err := f.Stage(f.ctx, f.account.NewEpoch("3")); err != nil { // it may stand one day
		t.Fatal(err)
	}
	want(map[string]uint64{"1": 1, "2": 1, "3": 1})
}

func closed(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	s := f.Store
	f.Store = f.Reopen()
	if _, err := s.Load(f.ctx, wire.Need{Account: f.account.ID, State: true}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Load: %v", err)
	}
	if _, err := s.Commit(f.ctx, f.account.Fork("x").Change(1)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
}
