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
	// Carry, when set, plays the host: deliver brings a frame to its endorser.
	Carry func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error)
}

// New founds a ledger whose groups have so many endorsers each.
func New(t testing.TB, keys *ledgertest.Keys, sizes ...int) *World {
	t.Helper()
	_, operator, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &World{
		Keys: keys, Operator: operator, Store: ledgertest.NewStore(),
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

// Enclaves returns the memory of one enclave that has just started.
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
func (w *World) Views(context.Context) ([]byte, error) { return wire.Marshal(&w.Chain), nil }

// Relay implements [endorsed.Host].
func (w *World) Relay(_ context.Context, key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	deliver := func() ([]byte, error) { return w.deliver(key, kind, body) }
	if w.Carry != nil {
		return w.Carry(key, kind, body, deliver)
	}
	return deliver()
}

func (w *World) deliver(key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	w.mu.Lock()
	e, down := w.endorsers[string(key)], w.down[string(key)]
	w.mu.Unlock()
	if e == nil || down {
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

// Change makes the next view with these groups, whose old members are asked where they
// can be reached, and shows it.
func (w *World) Change(groups ...endorsement.Group) error {
	old := w.View()
	v := old.Next(groups)
	s := w.Succession(v)
	var words []endorsement.Finalised
	for g, group := range old.Groups {
		for _, m := range group {
			w.mu.Lock()
			e, down := w.endorsers[string(m.Key)], w.down[string(m.Key)]
			w.mu.Unlock()
			if e == nil || down {
				continue
			}
			word, err := e.Finalise(s)
			if err != nil {
				return err
			}
			words = append(words, *word)
			var tails []endorsement.Tail
			for {
				page, err := e.Tails(uint64(len(tails)))
				if err != nil {
					return err
				}
				if len(page) == 0 {
					break
				}
				tails = append(tails, page...)
			}
			for _, n := range groups[g] {
				if err := w.Endorser(n.Key).Adopt(word, 0, tails); err != nil {
					return err
				}
			}
		}
	}
	for _, group := range groups {
		for _, n := range group {
			if err := w.Endorser(n.Key).Activate(s, old.Encode(), words); err != nil {
				return err
			}
		}
	}
	w.Chain.Links = append(w.Chain.Links, endorsement.Link{View: v.Encode(), Finalised: words})
	return nil
}
