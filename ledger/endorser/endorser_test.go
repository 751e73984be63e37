package endorser_test

import (
	"crypto/ed25519"
	"sync"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// A member never vouches for two entries at one place, and never for an older one.
func TestHeadsOnlyRise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list, v := w.found()
	e, s := list[0], wire.StreamID{1}
	one, two := after(wire.Head{}), wire.Head{Sequence: 2, Hash: digest()}
	if got := w.append(e, v, s, wire.Head{}, one); got != one {
		t.Fatalf("%v was not taken: %v", one, got)
	}
	for name, a := range map[string]endorsement.Append{
		"another first entry":             {Expected: wire.Head{}, Next: after(wire.Head{})},
		"behind another entry":            {Expected: wire.Head{Sequence: 1, Hash: digest()}, Next: two},
		"a first entry after a false one": {Expected: wire.Head{Hash: digest()}, Next: after(wire.Head{})},
	} {
		if got := w.append(e, v, s, a.Expected, a.Next); got != one {
			t.Errorf("%s: head is %v", name, got)
		}
	}
	if got := w.append(e, v, s, one, two); got != two {
		t.Fatalf("%v was not taken: %v", two, got)
	}
	if got := w.append(e, v, s, wire.Head{}, one); got != two {
		t.Fatalf("an old append, repeated, brought back %v", got)
	}
	if got := w.append(e, v, wire.StreamID{2}, wire.Head{Hash: digest()}, after(wire.Head{})); got != (wire.Head{}) {
		t.Fatalf("no stream has a hash: %v", got)
	}
}

// A member that was not reached for a while catches up by the next append.
func TestCatchesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list, v := w.found()
	s := wire.StreamID{1}
	w.append(list[0], v, s, wire.Head{}, after(wire.Head{}))
	late := wire.Head{Sequence: 9, Hash: digest()}
	next := after(late)
	if got := w.append(list[0], v, s, late, next); got != next {
		t.Fatalf("stays behind at %v", got)
	}
}

// Appends are an enclave's alone: of one whose evidence named its ledger key, and signed.
func TestAppendNeedsALedgerKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list, v := w.found()
	e, s := list[0], wire.StreamID{1}
	a := endorsement.Ask{View: v.Hash(), Nonce: digest(), Appends: []endorsement.Append{{Stream: s, Next: after(wire.Head{})}}}
	stranger := newKey(t)
	sign := func(k ed25519.PrivateKey) func([]byte) []byte {
		return func(m []byte) []byte { return ed25519.Sign(k, m) }
	}
	for name, forge := range map[string]func(*endorsement.Ask){
		"unsigned":                            func(*endorsement.Ask) {},
		"a stranger's":                        func(a *endorsement.Ask) { a.Sign(public(stranger), sign(stranger)) },
		"a stranger's, in the enclave's name": func(a *endorsement.Ask) { a.Sign(public(w.enclave), sign(stranger)) },
		"the enclave's, of another nonce": func(a *endorsement.Ask) {
			a.Sign(public(w.enclave), sign(w.enclave))
			a.Nonce = digest()
		},
		"the enclave's, with one more": func(a *endorsement.Ask) {
			a.Sign(public(w.enclave), sign(w.enclave))
			a.Appends = append(a.Appends, endorsement.Append{Stream: wire.StreamID{2}, Next: after(wire.Head{})})
		},
	} {
		b := a
		forge(&b)
		_, err := e.Ask(wire.Marshal(&b))
		if wire.CodeOf(err) != wire.CodeSignature {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h, _ := w.read(e, v, s); h != (wire.Head{}) {
		t.Fatalf("something was appended: %v", h)
	}
	// An endorser that no enclave was introduced to takes none.
	fresh := w.endorser()
	f := w.view(group(fresh, list[1], list[2]))
	w.must(fresh.Found(w.succession(f)))
	_, err := fresh.Ask(w.ask(f, endorsement.Ask{Appends: a.Appends}))
	wantCode(t, err, wire.CodeSignature)
}

// Foreign evidence introduces nobody; the ledger keys of the first introduction stay, and
// only their successors come to them.
func TestIntroduce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wantCode(t, w.endorser().Introduce([]byte("enclave\x01")), wire.CodeView)
	list, _ := w.found()
	e := list[0]
	wantCode(t, e.Introduce([]byte("host")), wire.CodeEvidence)
	w.must(e.Introduce([]byte("enclave\x02")))
	w.must(e.Introduce([]byte("enclave\x01"))) // an enclave that did not rotate yet
	if n := e.Status().Signers; n != 2 {
		t.Fatalf("%d ledger keys, want 2", n)
	}
	other := newWorld(t)
	w.signers = other.signers // a service with another KEK, or with keys that no KEK made
	w.ledger = other.ledger
	if err := e.Introduce([]byte("enclave\x01")); wire.CodeOf(err) != wire.CodeEvidence {
		t.Fatalf("another first key: %v", err)
	}
	if err := e.Introduce([]byte("enclave\x02")); err == nil {
		t.Fatal("keys of another ledger were taken")
	}
}

// An answer belongs to one view, and to the member's own group.
func TestAskOfAnotherView(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.endorser().Ask(w.ask(w.view(), endorsement.Ask{Reads: []wire.StreamID{{}}}))
	wantCode(t, err, wire.CodeView)

	a, b := w.endorser(), w.endorser()
	v := w.view(group(a, w.endorser(), w.endorser()), group(b, w.endorser(), w.endorser()))
	w.must(a.Found(w.succession(v)))
	w.must(b.Found(w.succession(v)))
	w.must(a.Introduce([]byte("enclave\x01")))
	even, odd := wire.StreamID{7: 2}, wire.StreamID{7: 3}
	_, err = a.Ask(w.ask(v, endorsement.Ask{Reads: []wire.StreamID{even, odd}}))
	wantCode(t, err, wire.CodeView)
	_, err = a.Ask(w.ask(v, endorsement.Ask{Appends: []endorsement.Append{{Stream: odd, Next: after(wire.Head{})}}}))
	wantCode(t, err, wire.CodeView)
	_, err = b.Ask(w.ask(v, endorsement.Ask{Reads: []wire.StreamID{even}}))
	wantCode(t, err, wire.CodeView)
	if h, _ := w.read(a, v, even); h != (wire.Head{}) {
		t.Fatal(h)
	}
	other := v.Next(v.Groups)
	_, err = a.Ask(w.ask(other, endorsement.Ask{Reads: []wire.StreamID{even}}))
	wantCode(t, err, wire.CodeView)
}

// Asks that race with a last word are in the tails, or are refused.
func TestAskRacesWithFinalise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list, v := w.found()
	e := list[0]
	next := w.succession(v.Next([]endorsement.Group{group(list...)}))
	const writers = 8
	var wait sync.WaitGroup
	taken := make([][]wire.Head, writers)
	for i := range writers {
		wait.Go(func() {
			at := wire.Head{}
			for {
				n := after(at)
				a, err := e.Ask(w.ask(v, endorsement.Ask{Appends: []endorsement.Append{{Stream: wire.StreamID{byte(i)}, Expected: at, Next: n}}}))
				if err != nil {
					return
				}
				at = a.Heads[0]
				taken[i] = append(taken[i], at)
			}
		})
	}
	if _, err := e.Finalise(next); err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	held := map[wire.StreamID]wire.Head{}
	for _, x := range tails(t, e) {
		held[x.Stream] = x.Head
	}
	for i, heads := range taken {
		if n := len(heads); n > 0 && held[wire.StreamID{byte(i)}] != heads[n-1] {
			t.Errorf("stream %d: %v was acknowledged, %v is the tail", i, heads[n-1], held[wire.StreamID{byte(i)}])
		}
	}
}
