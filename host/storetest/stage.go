package storetest

import (
	"reflect"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// staged: nothing of a staged commit shows before it is settled, all of it afterwards,
// also when either comes twice or the store was closed in between.
func staged(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	before := f.whole(t)
	c := f.account.Change(2)
	hash := ledger.EntryHash(c.Append.Entry)
	for range 2 {
		if err := f.Stage(f.ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.whole(t); !reflect.DeepEqual(got, before) {
		t.Fatal("a staged commit shows")
	}
	f.Store = f.Reopen()
	for range 2 {
		if err := f.Settle(f.ctx, f.account.ID, hash); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.whole(t); string(got.Newest) != string(c.Append.Entry) || string(got.Head) != string(c.Head) {
		t.Fatal("a settled commit does not stand")
	}
	f.settles(t, wire.Digest{1}, wire.CodeNotFound)
}

// stagedLost: of two commits for one place the settled one stands, and the other can
// never be settled.
func stagedLost(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	at := *f.account
	won, lost := f.account.Change(1), at.Change(1)
	for _, c := range []*wire.Commit{won, lost} {
		if err := f.Stage(f.ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Settle(f.ctx, f.account.ID, ledger.EntryHash(won.Append.Entry)); err != nil {
		t.Fatal(err)
	}
	f.settles(t, ledger.EntryHash(lost.Append.Entry), wire.CodeNotFound)

	late := at.Change(1)
	if err := f.Stage(f.ctx, late); err != nil {
		t.Fatal(err)
	}
	f.settles(t, ledger.EntryHash(late.Append.Entry), wire.CodeConflict)
}

// settles wants a refusal.
func (f *fixture) settles(t *testing.T, entry wire.Digest, want wire.Code) {
	t.Helper()
	if got := wire.CodeOf(f.Settle(f.ctx, f.account.ID, entry)); got != want {
		t.Fatalf("Settle: %q, want %q", got, want)
	}
}

func (f *fixture) whole(t *testing.T) wire.State {
	t.Helper()
	s, err := f.Load(f.ctx, wire.Need{Account: f.account.ID, State: true, Manifest: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
