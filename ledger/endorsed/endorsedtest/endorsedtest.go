// Package endorsedtest gives tests endorsers in one process, and a host that carries
// their frames as it likes.
package endorsedtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"sync"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// World is a ledger with its endorsers, and the host between them.
type World struct {
	Keys     *ledgertest.Keys
	Operator ed25519.PrivateKey
	Store    *ledgertest.Store
	Chain    endorsement.Chain // what the host shows
	Genesis  wire.Digest
	Number   uint64 // of the genesis

	mu        sync.Mutex
	endorsers map[string]*endorser.Endorser
	down      map[string]bool
	carry     Carry
}

// Carry plays the host: deliver brings a frame to its endorser.
type Carry func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error)

// Play has frames carried so from now on; nil: faithfully.
func (w *World) Play(c Carry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.carry = c
}

// New founds a ledger whose groups have so many endorsers each.
func New(t testing.TB, keys *ledgertest.Keys, sizes ...int) *World {
	t.Helper()
	return NewGenesis(t, keys, 1, sizes...)
}

// NewGenesis is New for a later genesis of the ledger.
func NewGenesis(t testing.TB, keys *ledgertest.Keys, number uint64, sizes ...int) *World {
	t.Helper()
	_, operator, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{
		Keys: keys, Operator: operator, Number: number - 1, Store: ledgertest.NewStore(),
		endorsers: map[string]*endorser.Endorser{}, down: map[string]bool{},
	}
	w.NextGenesis(t, sizes...)
	return w
}

// NextGenesis stops all endorsers and founds a genesis of fresh ones, whose groups have so
// many each.
func (w *World) NextGenesis(t testing.TB, sizes ...int) {
	t.Helper()
	w.mu.Lock()
	clear(w.endorsers)
	w.mu.Unlock()
	w.Number++
	v := &endorsement.View{Version: wire.Version, Ledger: w.Keys.LedgerID, Genesis: w.Number, Number: 1}
	for _, size := range sizes {
		v.Groups = append(v.Groups, w.Fresh(size))
	}
	s := w.Succession(v)
	for _, g := range v.Groups {
		for _, m := range g {
			if err := w.Endorser(m.Key).Found(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Genesis = v.Hash()
	w.Chain.Links = []endorsement.Link{{View: v.Encode()}}
}

// Fresh starts endorsers that have no memory.
func (w *World) Fresh(n int) endorsement.Group {
	var g endorsement.Group
	for range n {
		e := endorser.New(&endorser.Configuration{Ledger: w.Keys.LedgerID, Number: w.Number, Operator: wire.Base64(w.Operator.Public().(ed25519.PublicKey))}, w)
		w.mu.Lock()
		w.endorsers[string(e.Key())] = e
		w.mu.Unlock()
		g = append(g, endorsement.Member{Key: e.Key(), Evidence: endorsement.EvidenceHash(e.Key())})
	}
	return g
}

// Succession has the operator sign a view. An endorser's evidence is its key here.
func (w *World) Succession(v *endorsement.View) *endorsement.Succession {
	s := endorsement.NewSuccession(v, w.Operator)
	for _, g := range v.Groups {
		for _, m := range g {
			s.Evidence = append(s.Evidence, m.Key)
		}
	}
	return s
}

// Enclave implements [endorser.Admit]: the evidence is the ledger's public key.
func (w *World) Enclave(evidence []byte, _ wire.Digest) ([]ledger.Signer, error) {
	if !bytes.Equal(evidence, w.public()) {
		return nil, wire.Errorf(wire.CodeEvidence, "not the enclave's")
	}
	return []ledger.Signer{{Public: evidence}}, nil
}

// Successor implements [endorser.Admit]: an endorser shows its own key.
func (w *World) Successor(evidence, _, key []byte) error {
	if !bytes.Equal(evidence, key) {
		return wire.Errorf(wire.CodeEvidence, "evidence of another key")
	}
	return nil
}

func (w *World) public() ed25519.PublicKey { return w.Keys.Private.Public().(ed25519.PublicKey) }

// Identity is the ledger as the measured configuration names it.
func (w *World) Identity() wire.LedgerIdentity {
	return wire.LedgerIdentity{ID: w.Keys.LedgerID, Backend: wire.BackendEndorsed, Genesis: w.Genesis[:], Number: w.Number}
}

// Memory returns the memory of one enclave that has just started.
func (w *World) Memory() *endorsed.Memory {
	return endorsed.New(endorsed.Options{
		Identity: w.Identity(),
		Verifier: func() *ledger.Verifier { return w.Keys.Verifier },
		Key: func() (ed25519.PublicKey, func([]byte) []byte) {
			return w.public(), func(message []byte) []byte { return ed25519.Sign(w.Keys.Private, message) }
		},
		Evidence: func(context.Context) ([]byte, error) { return w.public(), nil },
	})
}

// Endorser returns the endorser with a key.
func (w *World) Endorser(key []byte) *endorser.Endorser {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.endorsers[string(key)]
}

// Stop ends an endorser for good: what it remembered is gone.
func (w *World) Stop(key []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.endorsers, string(key))
}

// Cut makes an endorser unreachable, or reachable again.
func (w *World) Cut(key []byte, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[string(key)] = cut
}

// View returns the newest view that the host shows.
func (w *World) View() *endorsement.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := endorsement.ParseView(w.Chain.Links[len(w.Chain.Links)-1].View)
	if err != nil {
		panic(err)
	}
	return v
}

// Newest implements [endorsed.Host].
func (w *World) Newest(ctx context.Context, account wire.AccountID) ([]byte, error) {
	return w.Store.Newest(ctx, account)
}

// Commit implements [endorsed.Host].
func (w *World) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	return w.Store.Commit(ctx, c)
}

// Views implements [endorsed.Host].
func (w *World) Views(context.Context) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return wire.Marshal(&w.Chain), nil
}

// Relay implements [endorsed.Host].
func (w *World) Relay(_ context.Context, key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	deliver := func() ([]byte, error) { return w.deliver(key, kind, body) }
	w.mu.Lock()
	carry := w.carry
	w.mu.Unlock()
	if carry != nil {
		return carry(key, kind, body, deliver)
	}
	return deliver()
}

func (w *World) deliver(key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	e := w.reached(key)
	if e == nil {
		return nil, wire.Errorf(wire.CodeUnavailable, "no such endorser")
	}
	switch kind {
	case wire.FrameAsk:
		a, err := e.Ask(body)
		if err != nil {
			return nil, err
		}
		return wire.Marshal(a), nil
	case wire.FrameIntroduce:
		return nil, e.Introduce(body)
	}
	return nil, wire.Errorf(wire.CodeMalformed, "frame kind %d", kind)
}

// reached returns an endorser that can be reached.
func (w *World) reached(key []byte) *endorser.Endorser {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[string(key)] {
		return nil
	}
	return w.endorsers[string(key)]
}

// handOver brings a member's tails to those of the new view.
func (w *World) handOver(word *endorsement.Finalised, group endorsement.Group) error {
	var tails []endorsement.Tail
	for {
		page, err := w.Endorser(word.Member).Tails(uint64(len(tails)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		tails = append(tails, page...)
	}
	for _, n := range group {
		if err := w.Endorser(n.Key).Adopt(word, 0, tails); err != nil {
			return err
		}
	}
	return nil
}

// Change makes the next view with these groups, whose old members are asked where they
// can be reached, and shows it.
func (w *World) Change(groups ...endorsement.Group) error {
	old := w.View()
	v := old.Next(groups)
	s := w.Succession(v)
	var words []endorsement.Finalised
	for _, group := range old.Groups {
		for _, m := range group {
			e := w.reached(m.Key)
			if e == nil {
				continue
			}
			word, err := e.Finalise(s)
			if err != nil {
				return err
			}
			words = append(words, *word)
		}
	}
	for i := range words { // after all last words: members that stay take nothing before their own
		if err := w.handOver(&words[i], groups[old.Find(words[i].Member)]); err != nil {
			return err
		}
	}
	for _, group := range groups {
		for _, n := range group {
			if err := w.Endorser(n.Key).Activate(s, old.Encode(), words); err != nil {
				return err
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Chain.Links = append(w.Chain.Links, endorsement.Link{View: v.Encode(), Finalised: words})
	return nil
}
