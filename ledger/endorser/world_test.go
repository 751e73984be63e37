package endorser_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// world is endorsers of one ledger, its operator and its enclave. Evidence is a key here;
// evidence_test.go has the real kind.
type world struct {
	t        testing.TB
	ledger   wire.Digest
	operator ed25519.PrivateKey
	enclave  ed25519.PrivateKey
	signers  []ledger.Signer
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, ledger: digest(), operator: newKey(t)}
	keys, signers := ledger.Succession(w.ledger[:], [][]byte{random(32), random(32)})
	w.enclave, w.signers = keys[0], signers
	return w
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func digest() (d wire.Digest) {
	rand.Read(d[:])
	return d
}

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// Enclave implements [endorser.Admit]: evidence is "enclave" and the number of signers.
func (w *world) Enclave(evidence []byte, _ wire.Digest) ([]ledger.Signer, error) {
	n, ok := bytes.CutPrefix(evidence, []byte("enclave"))
	if !ok || len(n) != 1 || int(n[0]) > len(w.signers) {
		return nil, wire.Errorf(wire.CodeEvidence, "foreign evidence")
	}
	return w.signers[:n[0]], nil
}

// Successor implements [endorser.Admit].
func (w *world) Successor(evidence, release, key []byte) error {
	if !bytes.Equal(evidence, key) || string(release) != "release" {
		return wire.Errorf(wire.CodeEvidence, "foreign evidence")
	}
	return nil
}

func (w *world) endorser() *endorser.Endorser {
	return endorser.New(&endorser.Configuration{Ledger: w.ledger[:], Number: 1, Operator: wire.Base64(public(w.operator))}, w)
}

func group(list ...*endorser.Endorser) (g endorsement.Group) {
	for _, e := range list {
		g = append(g, endorsement.Member{Key: e.Key(), Evidence: endorsement.EvidenceHash(e.Key())})
	}
	return g
}

func (w *world) view(g ...endorsement.Group) *endorsement.View {
	return &endorsement.View{Version: wire.Version, Ledger: w.ledger[:], Genesis: 1, Number: 1, Groups: g}
}

func (w *world) succession(v *endorsement.View) *endorsement.Succession {
	s := endorsement.NewSuccession(v, w.operator)
	s.Release = []byte("release")
	for _, g := range v.Groups {
		for _, m := range g {
			s.Evidence = append(s.Evidence, m.Key)
		}
	}
	return s
}

// found starts three members that know the enclave.
func (w *world) found() ([]*endorser.Endorser, *endorsement.View) {
	w.t.Helper()
	list := []*endorser.Endorser{w.endorser(), w.endorser(), w.endorser()}
	v := w.view(group(list...))
	for _, e := range list {
		w.must(e.Found(w.succession(v)))
		w.must(e.Introduce([]byte("enclave\x01")))
	}
	return list, v
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// ask encodes an ask of the enclave.
func (w *world) ask(v *endorsement.View, a endorsement.Ask) []byte {
	a.View, a.Nonce = v.Hash(), digest()
	if len(a.Appends) > 0 {
		a.Sign(public(w.enclave), func(m []byte) []byte { return ed25519.Sign(w.enclave, m) })
	}
	return wire.Marshal(&a)
}

func (w *world) append(e *endorser.Endorser, v *endorsement.View, s wire.StreamID, expected, next wire.Head) wire.Head {
	w.t.Helper()
	a, err := e.Ask(w.ask(v, endorsement.Ask{Appends: []endorsement.Append{{Stream: s, Expected: expected, Next: next}}}))
	w.must(err)
	return a.Heads[0]
}

func (w *world) read(e *endorser.Endorser, v *endorsement.View, s wire.StreamID) (wire.Head, bool) {
	w.t.Helper()
	a, err := e.Ask(w.ask(v, endorsement.Ask{Reads: []wire.StreamID{s}}))
	w.must(err)
	return a.Heads[0], len(a.Discontinued) > 0
}

func after(h wire.Head) wire.Head { return wire.Head{Sequence: h.Sequence + 1, Hash: digest()} }

func wantCode(t testing.TB, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

// tails returns all tails of a member that said its last word.
func tails(t testing.TB, e *endorser.Endorser) (all []endorsement.Tail) {
	t.Helper()
	for {
		page, err := e.Tails(uint64(len(all)))
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
	}
}
