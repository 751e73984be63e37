package endorsed_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// split makes a stream whose newest entry two endorsers hold differently, in a view that
// follows: it is discontinued. It returns what the database has.
func split(t *testing.T, w *endorsedtest.World, account wire.AccountID) wire.Head {
	t.Helper()
	l := w.Memory().Over(w)
	first, head := w.Keys.Entry(account, wire.Head{})
	if _, err := l.CompareAndAppend(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	group := w.View().Groups[0]
	for i, m := range group[:2] {
		// The append above waited for two members, and these may not be the two.
		if err := w.Endorser(m.Key).Introduce(w.Keys.Private.Public().(ed25519.PublicKey)); err != nil {
			t.Fatal(err)
		}
		ask := endorsement.Ask{View: w.View().Hash(), Appends: []endorsement.Append{{
			Stream: first.Append.Stream, Expected: head, Next: wire.Head{Sequence: 2, Hash: wire.Digest{byte(i + 1)}},
		}}}
		sign(w, &ask)
		if _, err := w.Endorser(m.Key).Ask(wire.Marshal(&ask)); err != nil {
			t.Fatal(err)
		}
	}
	w.Stop(group[2].Key)
	if err := w.Change(w.Fresh(3)); err != nil {
		t.Fatal(err)
	}
	return head
}

func sign(w *endorsedtest.World, ask *endorsement.Ask) {
	rand.Read(ask.Nonce[:])
	ask.Sign(w.Keys.Private.Public().(ed25519.PublicKey), func(m []byte) []byte { return ed25519.Sign(w.Keys.Private, m) })
}

// A discontinued stream takes nothing but a restart, and then goes on.
func TestRestartOfASplitStream(t *testing.T) {
	t.Parallel()
	w := endorsedtest.New(t, ledgertest.NewKeys(t), 3)
	account := wire.AccountID{1}
	stream := wire.Stream(w.Keys.LedgerID, account)
	at := split(t, w, account)
	l := w.Memory().Over(w)
	read := func() (ledger.SignedHead, error) {
		newest, _ := w.Newest(t.Context(), account)
		return l.ReadHead(t.Context(), account, stream, [32]byte{}, newest)
	}
	h, err := read()
	if err != nil || !h.Discontinued || h.Head != at || h.View != w.View().Hash() {
		t.Fatalf("%+v, %v", h, err)
	}
	before := w.Store.Snapshot()
	c, _ := w.Keys.Entry(account, at)
	if _, err := l.CompareAndAppend(t.Context(), c); err == nil {
		t.Fatal("appended to a discontinued stream")
	}
	w.Store.Restore(before)
	c, head := w.Keys.Entry(account, at)
	c.Append.Restart = true
	if _, err := l.CompareAndAppend(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for h, err = read(); err == nil && h.Discontinued && t.Context().Err() == nil; h, err = read() {
		time.Sleep(time.Millisecond) // a member that the restart has not reached yet
	}
	if err != nil || h.Discontinued || h.Head != head {
		t.Fatalf("%+v, %v", h, err)
	}
	// A restart is an append as any other where nothing is discontinued: it takes nothing back.
	w.Store.Restore(before)
	c, _ = w.Keys.Entry(account, at)
	c.Append.Restart = true
	if _, err := l.CompareAndAppend(t.Context(), c); err == nil {
		t.Fatal("a second restart replaced the first")
	}
}

// Only a ledger key restarts a stream.
func TestRestartNeedsTheLedgerKey(t *testing.T) {
	t.Parallel()
	w := endorsedtest.New(t, ledgertest.NewKeys(t), 3)
	account := wire.AccountID{1}
	at := split(t, w, account)
	m := w.View().Groups[0][0].Key
	if err := w.Endorser(m).Introduce(w.Keys.Private.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	ask := endorsement.Ask{View: w.View().Hash(), Appends: []endorsement.Append{{
		Stream: wire.Stream(w.Keys.LedgerID, account), Expected: at, Next: wire.Head{Sequence: 2},
	}}}
	sign(w, &ask)
	ask.Appends[0].Restart = true // behind the signature's back
	if _, err := w.Endorser(m).Ask(wire.Marshal(&ask)); wire.CodeOf(err) != wire.CodeSignature {
		t.Fatalf("%v", err)
	}
}

// What fresh endorsers of a later genesis do not know is discontinued in their view.
func TestDiscontinuedNamesItsView(t *testing.T) {
	t.Parallel()
	w := endorsedtest.New(t, ledgertest.NewKeys(t), 3)
	account := wire.AccountID{1}
	stream := wire.Stream(w.Keys.LedgerID, account)
	c, at := w.Keys.Entry(account, wire.Head{})
	if _, err := w.Memory().Over(w).CompareAndAppend(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	w.NextGenesis(t, 3)
	h, err := w.Memory().Over(w).ReadHead(t.Context(), account, stream, [32]byte{}, c.Append.Entry)
	if err != nil || !h.Discontinued || h.Head != at || h.View != w.View().Hash() {
		t.Fatalf("%+v, %v", h, err)
	}
}
