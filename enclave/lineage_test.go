package enclave

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// versions returns so many versions of a KEK.
func versions(n int) (out []KEK) {
	for i := range n {
		out = append(out, KEK{Version: fmt.Sprint("v", i+1), Key: random(32)})
	}
	return out
}

func (w *world) coreOf(keks ...KEK) *Core {
	w.t.Helper()
	return must(NewCore(w.config, random(32), keks))
}

// left is a version with what an enclave that holds all of keks leaves for it, as an
// enclave that holds it alone finds it.
func (w *world) left(k KEK, keks ...KEK) KEK {
	w.t.Helper()
	id := w.config.Ledger.ID
	k.Lineage = must(OpenLineage(id, k, w.coreOf(keks...).Lineage(k.Version).Seal(id, k)))
	return k
}

func (w *world) publics(c *Core) (out []string) {
	for _, s := range c.Signers() {
		out = append(out, string(s.Public))
	}
	return out
}

// The ledger keys and the false salts are the same whatever versions are left.
func TestLineage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := versions(4)
	whole := w.coreOf(all...)
	nobody := w.device("nobody").account
	if whole.Lineage("v1") != nil || whole.Lineage("v5") != nil {
		t.Fatal("a lineage without a version before")
	}
	last := w.left(all[3], all...)
	for name, keks := range map[string][]KEK{
		"the newest alone":                  {last},
		"the newest two":                    {w.left(all[2], all...), all[3]},
		"the second is gone":                {all[0], w.left(all[2], all...), all[3]},
		"all but the newest's are gone":     {all[0], all[2], last},
		"left by one that held two of them": {w.left(w.left(all[3], all[1:]...), w.left(all[1], all[:2]...), all[2], all[3])},
		"the first came back":               {all[0], all[1], all[2], w.left(all[3], all[2], all[3])},
		"none is gone, and all were left":   {all[0], w.left(all[1], all...), w.left(all[2], all...), last},
	} {
		c := w.coreOf(keks...)
		if got, want := fmt.Sprint(w.publics(c)), fmt.Sprint(w.publics(whole)); got != want {
			t.Errorf("%s: %d ledger keys, or others, want the %d that there were", name, len(c.Signers()), len(whole.Signers()))
		}
		if !bytes.Equal(c.falseSalt(nobody), whole.falseSalt(nobody)) {
			t.Errorf("%s: the false salt changed", name)
		}
		if !c.Lineage("v4").Equal(whole.Lineage("v4")) {
			t.Errorf("%s: leaves something else", name)
		}
		e := ledger.Entry{Ledger: w.config.Ledger.ID, Sequence: 1, Note: make([]byte, ledger.NoteSize)}
		if _, err := whole.Verifier().Verify(wire.StreamID{}, c.sign(&e)); err != nil {
			t.Errorf("%s: signs what does not verify: %v", name, err)
		}
	}

	// What is not there is missed, and nothing takes its place.
	short := w.coreOf(all[2], all[3])
	if n := len(short.Signers()); n != 2 {
		t.Errorf("%d ledger keys of two versions", n)
	}
	if c := w.coreOf(all[2], w.left(all[3], all[3], all[3])); len(c.Signers()) != 2 {
		t.Errorf("%d ledger keys: a shorter lineage shortens what is known", len(c.Signers()))
	}
}

// A lineage opens with its own version's key alone, whole, and leads to that version.
func TestForgedLineage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := versions(3)
	id, k := w.config.Ledger.ID, all[2]
	genuine := w.coreOf(all...).Lineage("v3")
	box := genuine.Seal(id, k)
	if l, err := OpenLineage(id, k, box); err != nil || !l.Equal(genuine) {
		t.Fatalf("the genuine one: %v", err)
	}
	other := KEK{Version: "v3", Key: random(32)}
	renamed := KEK{Version: "v9", Key: k.Key}
	flip := func(at int) []byte { b := bytes.Clone(box); b[at] ^= 1; return b }
	host := ledger.Key(id, random(32))
	theirs := host.Public().(ed25519.PublicKey)
	public := genuine.Signers[2].Public
	with := func(signers ...ledger.Signer) []byte { return (&Lineage{signers, genuine.Salts}).Seal(id, k) }
	for name, forged := range map[string][]byte{
		"empty":                 {},
		"of another KEK":        genuine.Seal(id, other),
		"of another version":    genuine.Seal(id, renamed),
		"of the version before": w.coreOf(all...).Lineage("v2").Seal(id, all[1]),
		"of another ledger":     genuine.Seal(random(32), k),
		"cut":                   box[:len(box)-1],
		"extended":              append(bytes.Clone(box), 0),
		"a bit of the salt":     flip(0),
		"a bit of it":           flip(len(box) / 2),
		"a bit of the tag":      flip(len(box) - 1),
		"the host's own key, under the host's own KEK": (&Lineage{
			[]ledger.Signer{{Public: theirs}, ledger.Succeed(id, host, public)}, genuine.Salts,
		}).Seal(id, other),
		// What only a holder of the KEK could seal, and no enclave does.
		"no key":                         with(),
		"not to its version":             with(genuine.Signers[:2]...),
		"a key that nobody succeeds":     with(ledger.Signer{Public: theirs}, genuine.Signers[2]),
		"a key in between, not signed":   with(genuine.Signers[0], ledger.Signer{Public: theirs}, ledger.Succeed(id, host, public)),
		"without what salts come from":   (&Lineage{genuine.Signers, nil}).Seal(id, k),
		"with less than a salts' secret": (&Lineage{genuine.Signers, genuine.Salts[:31]}).Seal(id, k),
	} {
		if l, err := OpenLineage(id, k, forged); err == nil {
			t.Errorf("%s: opens, with %d keys", name, len(l.Signers))
		}
	}
}

// A service whose first version is gone goes on: what it signed is history still.
func TestFirstVersionGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	first := w.keks[0]
	second := KEK{Version: "v2", Key: random(32)}
	w.keks = append(w.keks, second)
	w.restart()
	made := p.create() // which wraps the account under v2
	salt := w.device("nobody").ticket().Salt

	w.keks = []KEK{w.left(second, first, second)}
	w.restart()
	if err := p.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
	p.create()
	if err := w.device("alice").join(pin); err != nil {
		t.Fatal(err)
	}
	entries := w.store.Accounts[p.account].Entries
	if _, _, err := w.core.Verifier().VerifyChain(wire.Stream(w.config.Ledger.ID, p.account), wire.Head{}, entries); err != nil {
		t.Fatalf("chain over two ledger keys: %v", err)
	}
	if again := w.device("nobody").ticket().Salt; !bytes.Equal(salt, again) {
		t.Fatal("the false salt changed")
	}

	// Without what the first one left, its entries are nobody's.
	w.keks = []KEK{second}
	w.restart()
	if _, _, err := w.core.Verifier().VerifyChain(wire.Stream(w.config.Ledger.ID, p.account), wire.Head{}, entries); wire.CodeOf(err) != wire.CodeEntry {
		t.Fatalf("%v, want %s", err, wire.CodeEntry)
	}
	// And an account that was not rewrapped needs the version that it is wrapped under.
	w.keks = []KEK{w.left(second, first, second)}
	w.restart()
	w.onState = func(s *wire.State) {
		for _, wrap := range s.Wraps {
			if wrap.KEK == "v1" {
				s.Wraps = []wire.Wrap{wrap}
			}
		}
	}
	wantCode(t, p.assert(made.Handle), wire.CodeWrap)
}
