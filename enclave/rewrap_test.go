package enclave

import (
	"bytes"
	"testing"

	"github.com/passclave/passclave/wire"
)

// wrapped are an account's wraps as a host sends them.
func (w *world) wrapped(account wire.AccountID) wire.Wrapped {
	return wire.Wrapped{Account: account, Wraps: bytesOf(w.store.Load(wire.Need{Account: account, State: true}).Wraps)}
}

func bytesOf(wraps []wire.Wrap) (out []wire.Wrap) {
	for _, x := range wraps {
		x.Box = bytes.Clone(x.Box)
		out = append(out, x)
	}
	return out
}

// An account that nobody touched is rewrapped without an entry, and goes on when the
// version that it was wrapped under is gone.
func TestRewrapWithoutEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.device("alice").enrol(pin), w.device("bob").enrol(pin)
	made := alice.create()
	first, second := w.keks[0], KEK{Version: "v2", Key: random(32)}
	w.keks = []KEK{first, second}
	w.restart()
	entries := len(w.store.Accounts[alice.account].Entries)
	out := w.core.Rewrap([]wire.Wrapped{w.wrapped(alice.account), w.wrapped(bob.account)})
	if out.KEK != "v2" || len(out.Wraps) != 2 {
		t.Fatalf("%+v", out)
	}
	for i, p := range []*phone{alice, bob} {
		got := out.Wraps[i]
		if got.KEK != "v2" || got.Generation != 1 || got.Epoch != 1 || len(got.Box) == 0 {
			t.Fatalf("wrap %+v", got)
		}
		w.store.Accounts[p.account].Wraps = []wire.Wrap{got}
	}
	w.keks = []KEK{w.left(second, first, second)}
	w.restart()
	if err := alice.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
	if n := len(w.store.Accounts[alice.account].Entries); n != entries {
		t.Fatalf("%d entries, %d before", n, entries)
	}
	if err := w.device("bob").join(pin); err != nil {
		t.Fatal(err)
	}
	bob.create()
}

// Only a genuine wrap, for the very account, generation and epoch, is rewrapped; what a
// host puts beside it changes nothing.
func TestRewrapOpensGenuineWrapsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.device("alice").enrol(pin), w.device("bob").enrol(pin)
	w.keks = append(w.keks, KEK{Version: "v2", Key: random(32)})
	w.restart()
	genuine, bobs := w.wrapped(alice.account), w.wrapped(bob.account)
	other := newWorld(t) // another ledger under the same KEK
	other.keks = w.keks[:1]
	other.restart()
	other.device("alice").enrol(pin)
	change := func(f func(*wire.Wrapped)) wire.Wrapped {
		c := wire.Wrapped{Account: genuine.Account, Wraps: bytesOf(genuine.Wraps)}
		f(&c)
		return c
	}
	refused := map[string]wire.Wrapped{
		"none":               {Account: alice.account},
		"another account's":  {Account: alice.account, Wraps: bobs.Wraps},
		"another ledger's":   other.wrapped(alice.account),
		"another generation": change(func(a *wire.Wrapped) { a.Wraps[0].Generation++ }),
		"another epoch":      change(func(a *wire.Wrapped) { a.Wraps[0].Epoch++ }),
		"another version":    change(func(a *wire.Wrapped) { a.Wraps[0].KEK = "v2" }),
		"an unknown version": change(func(a *wire.Wrapped) { a.Wraps[0].KEK = "v3" }),
		"a bit":              change(func(a *wire.Wrapped) { a.Wraps[0].Box[40] ^= 1 }),
		"cut":                change(func(a *wire.Wrapped) { a.Wraps[0].Box = a.Wraps[0].Box[:50] }),
		"of no account key": change(func(a *wire.Wrapped) {
			s := wire.Scope{Ledger: w.config.Ledger.ID, Account: a.Account, Generation: 1, Epoch: 1}
			a.Wraps[0].Box = wire.SealBox(wire.WrapKey(w.keks[0].Key, s), wire.LabelWrap, s, random(31), "v1")
		}),
		"behind one of another epoch": change(func(a *wire.Wrapped) {
			a.Wraps = append([]wire.Wrap{{Generation: 1, Epoch: 2, KEK: "v1", Box: random(72)}}, a.Wraps...)
		}),
	}
	for name, a := range refused {
		out := w.core.Rewrap([]wire.Wrapped{bobs, a, bobs})
		if len(out.Wraps) != 3 || len(out.Wraps[1].Box) != 0 {
			t.Errorf("%s: %+v", name, out.Wraps)
		} else if len(out.Wraps[0].Box) == 0 || len(out.Wraps[2].Box) == 0 {
			t.Errorf("%s: takes others with it", name)
		}
	}

	// A wrap of the newest version that is damaged is made anew from an older one.
	again := w.core.Rewrap([]wire.Wrapped{genuine}).Wraps[0]
	damaged := again
	damaged.Box = random(len(again.Box))
	out := w.core.Rewrap([]wire.Wrapped{change(func(a *wire.Wrapped) { a.Wraps = append(a.Wraps, damaged) })})
	scope := wire.Scope{Ledger: w.config.Ledger.ID, Account: alice.account, Generation: 1, Epoch: 1}
	want := must(w.core.unwrap(scope, genuine.Wraps))
	if got := must(w.core.unwrap(scope, out.Wraps)); !bytes.Equal(got, want) {
		t.Error("another account key")
	}
	if bytes.Equal(out.Wraps[0].Box, again.Box) {
		t.Error("two wraps are the same: no fresh salt")
	}
}

// What a host makes of an old copy by rewrapping is an old copy still.
func TestRewrappedOldCopyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	old := w.store.Load(wire.Need{Account: p.account, State: true})
	copied := w.wrapped(p.account)
	p.setPIN(t, "5550123") // epoch 2
	first, second := w.keks[0], KEK{Version: "v2", Key: random(32)}
	both := w.coreOf(first, second)
	out := both.Rewrap([]wire.Wrapped{copied, w.wrapped(p.account)})
	w.store.Accounts[p.account].Wraps = out.Wraps[1:]
	w.keks = []KEK{w.left(second, first, second)}
	w.restart()
	if _, err := p.sync(); err != nil {
		t.Fatal(err)
	}
	old.Wraps = out.Wraps[:1]
	w.onState = func(s *wire.State) { *s = old }
	_, err := p.sync()
	wantCode(t, err, wire.CodeRollback)
}

// A rewrap that comes between the reading of an account and the commit that begins an
// epoch leaves nothing of the former epoch behind.
func TestRewrapBeforeANewEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	w.keks = append(w.keks, KEK{Version: "v2", Key: random(32)})
	w.restart()
	again := w.core.Rewrap([]wire.Wrapped{w.wrapped(p.account)}).Wraps
	w.onCommit = func(*wire.Commit) { w.store.Accounts[p.account].Wraps = again }
	p.setPIN(t, "5550123")
	if wraps := w.store.Accounts[p.account].Wraps; len(wraps) != 1 || wraps[0].Epoch != 2 {
		t.Fatalf("wraps %+v", wraps)
	}
}
