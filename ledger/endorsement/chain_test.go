package endorsement_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

func TestChain(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 5} {
		h := newHistory(t, size)
		v, err := h.verify()
		if err != nil || v.Hash() != h.views[1].Hash() {
			t.Fatalf("%d members: %v, %v", size, v, err)
		}
	}
}

// A view counts by the word of a majority of distinct members of the view before, about
// this view and no other.
func TestForgedChain(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(t *testing.T, h *history){
		"no view": func(_ *testing.T, h *history) { h.chain.Links = nil },
		"another genesis": func(t *testing.T, h *history) {
			h.chain = newHistory(t, 3).chain
			for i := range h.chain.Links { // of this ledger
				v, _ := endorsement.ParseView(h.chain.Links[i].View)
				v.Ledger = h.ledger
				h.chain.Links[i].View = v.Encode()
			}
			h.chain.Links = h.chain.Links[:1]
		},
		"another ledger": func(_ *testing.T, h *history) { d := digest(); h.ledger = d[:] },
		"begins later":   func(_ *testing.T, h *history) { h.chain.Links = h.chain.Links[1:] },
		"no words":       func(_ *testing.T, h *history) { h.chain.Links[1].Finalised = nil },
		"a minority":     func(_ *testing.T, h *history) { h.chain.Links[1].Finalised = h.chain.Links[1].Finalised[:1] },
		"one speaks twice": func(_ *testing.T, h *history) {
			f := h.chain.Links[1].Finalised
			f[1] = f[0]
		},
		"one speaks twice, and a majority": func(_ *testing.T, h *history) {
			h.chain.Links[1].Finalised = append(h.chain.Links[1].Finalised, h.chain.Links[1].Finalised[0])
		},
		"a stranger speaks": func(t *testing.T, h *history) {
			strangers, _ := members(t, 1)
			h.chain.Links[1].Finalised[1] = word(strangers[0], h.views[0], h.views[1])
		},
		"members of the new view speak": func(t *testing.T, h *history) {
			attackers, g := members(t, 3)
			v := h.views[0].Next([]endorsement.Group{g})
			h.chain.Links[1] = endorsement.Link{View: v.Encode()}
			for _, m := range attackers {
				h.chain.Links[1].Finalised = append(h.chain.Links[1].Finalised, word(m, h.views[0], v))
			}
		},
		"the word was about another successor": func(t *testing.T, h *history) {
			_, g := members(t, 3)
			v := h.views[0].Next([]endorsement.Group{g})
			h.chain.Links[1].View = v.Encode()
		},
		"the word names the other view, signed about this one": func(t *testing.T, h *history) {
			_, g := members(t, 3)
			v := h.views[0].Next([]endorsement.Group{g})
			h.chain.Links[1].View = v.Encode()
			for i := range h.chain.Links[1].Finalised {
				h.chain.Links[1].Finalised[i].Successor = v.Hash()
			}
		},
		"the word was about another view before": func(_ *testing.T, h *history) {
			f := &h.chain.Links[1].Finalised[0]
			f.View = digest()
			f.Sign(h.old[0].key)
		},
		"a word signed by another member": func(_ *testing.T, h *history) {
			f := &h.chain.Links[1].Finalised[1]
			f.Sign(h.old[0].key)
			f.Member = h.old[1].public()
		},
		"a word without a key": func(_ *testing.T, h *history) { h.chain.Links[1].Finalised[1].Member = nil },
		"skips a number":       func(_ *testing.T, h *history) { h.rewrite(func(v *endorsement.View) { v.Number = 3 }) },
		"names another view before": func(_ *testing.T, h *history) {
			h.rewrite(func(v *endorsement.View) { v.Previous = digest() })
		},
		"names another first view": func(_ *testing.T, h *history) {
			h.rewrite(func(v *endorsement.View) { v.First = digest() })
		},
		"another genesis number later": func(_ *testing.T, h *history) {
			h.rewrite(func(v *endorsement.View) { v.Genesis = 2 })
		},
		"another ledger later": func(_ *testing.T, h *history) {
			h.rewrite(func(v *endorsement.View) { d := digest(); v.Ledger = d[:] })
		},
		"more groups": func(t *testing.T, h *history) {
			_, g := members(t, 3)
			h.rewrite(func(v *endorsement.View) { v.Groups = append(v.Groups, g) })
		},
		"goes back": func(_ *testing.T, h *history) {
			h.chain.Links = append(h.chain.Links, h.chain.Links[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, 3)
			forge(t, h)
			_, err := h.verify()
			wantCode(t, err, wire.CodeView)
		})
	}
}

// rewrite changes the second view, and has the old members speak for it.
func (h *history) rewrite(change func(*endorsement.View)) {
	v := h.views[0].Next(h.views[1].Groups)
	change(v)
	h.chain.Links[1] = endorsement.Link{View: v.Encode()}
	for _, m := range h.old {
		h.chain.Links[1].Finalised = append(h.chain.Links[1].Finalised, word(m, h.views[0], v))
	}
}

// A genesis is known by its number too: a higher one discontinues every stream.
func TestChainOfAnotherNumber(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 3)
	_, err := h.chain.Verify(h.ledger, h.genesis, 2)
	wantCode(t, err, wire.CodeView)
}

// Every group decides about its own streams: one must not be outvoted by another.
func TestEveryGroupSpeaks(t *testing.T) {
	t.Parallel()
	a, ga := members(t, 3)
	b, gb := members(t, 3)
	_, next := members(t, 3)
	_, other := members(t, 3)
	ledger := digest()
	first := &endorsement.View{Version: wire.Version, Ledger: ledger[:], Genesis: 1, Number: 1, Groups: []endorsement.Group{ga, gb}}
	second := first.Next([]endorsement.Group{next, other})
	words := []endorsement.Finalised{word(a[0], first, second), word(a[1], first, second), word(a[2], first, second), word(b[0], first, second)}
	wantCode(t, endorsement.Succeeds(first, second, words), wire.CodeView)
	words = append(words, word(b[1], first, second))
	if err := endorsement.Succeeds(first, second, words); err != nil {
		t.Fatal(err)
	}
}

func TestEveryByteOfAChainCounts(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 3)
	encoded := wire.Marshal(&h.chain)
	for i := range encoded {
		for _, bit := range []byte{1, 0x80} {
			flipped := append([]byte{}, encoded...)
			flipped[i] ^= bit
			var c endorsement.Chain
			if err := wire.Unmarshal(flipped, &c); err != nil {
				continue
			}
			if _, err := c.Verify(h.ledger, h.genesis, 1); err == nil {
				t.Fatalf("byte %d of %d, bit %#x: accepted", i, len(encoded), bit)
			}
		}
	}
}

// A view's form: whatever is wrong with it, it is not signed for.
func TestViewRefused(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 3)
	for name, change := range map[string]func(v *endorsement.View){
		"version":              func(v *endorsement.View) { v.Version++ },
		"short ledger":         func(v *endorsement.View) { v.Ledger = v.Ledger[1:] },
		"no genesis number":    func(v *endorsement.View) { v.Genesis = 0 },
		"no number":            func(v *endorsement.View) { v.Number = 0 },
		"number without end":   func(v *endorsement.View) { v.Number = ^uint64(0) },
		"first with a before":  func(v *endorsement.View) { v.Previous = digest() },
		"first with a first":   func(v *endorsement.View) { v.First = digest() },
		"later without before": func(v *endorsement.View) { v.Number, v.First = 2, digest() },
		"later without first":  func(v *endorsement.View) { v.Number, v.Previous = 2, digest() },
		"no group":             func(v *endorsement.View) { v.Groups = nil },
		"too many groups": func(v *endorsement.View) {
			for range endorsement.MaxGroups {
				_, g := members(t, 3)
				v.Groups = append(v.Groups, g)
			}
		},
		"one member":     func(v *endorsement.View) { v.Groups[0] = v.Groups[0][:1] },
		"four members":   func(v *endorsement.View) { _, g := members(t, 4); v.Groups[0] = g },
		"a member twice": func(v *endorsement.View) { v.Groups[0][1].Key = v.Groups[0][0].Key },
		"a member in two groups": func(v *endorsement.View) {
			_, g := members(t, 2)
			v.Groups = append(v.Groups, append(g, v.Groups[0][0]))
		},
		"a member without a key":  func(v *endorsement.View) { v.Groups[0][0].Key = nil },
		"a member with two bytes": func(v *endorsement.View) { v.Groups[0][0].Key = []byte{1, 2} },
	} {
		v, err := endorsement.ParseView(h.views[0].Encode())
		if err != nil {
			t.Fatal(err)
		}
		change(v)
		if _, err := endorsement.ParseView(v.Encode()); wire.CodeOf(err) != wire.CodeView {
			t.Errorf("%s: got %v, want %s", name, err, wire.CodeView)
		}
	}
}

// The operator's wish is the operator's: nobody else's key, and no other view.
func TestSuccessionRefused(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 3)
	keys, _ := members(t, 2)
	s := endorsement.NewSuccession(h.views[1], keys[0].key)
	if v, err := s.Verify(keys[0].public()); err != nil || v.Hash() != h.views[1].Hash() {
		t.Fatal(err)
	}
	_, err := s.Verify(keys[1].public())
	wantCode(t, err, wire.CodeView)
	s.View = h.views[0].Encode()
	_, err = s.Verify(keys[0].public())
	wantCode(t, err, wire.CodeView)
}

// Tails are hashed in ascending order, each stream once, with all that a tail says.
func TestTailHash(t *testing.T) {
	t.Parallel()
	base := []endorsement.Tail{{Stream: wire.StreamID{1}, Head: wire.Head{Sequence: 1, Hash: digest()}}, {Stream: wire.StreamID{2}, Head: wire.Head{Sequence: 7}}}
	sum := func(tails ...endorsement.Tail) wire.Digest {
		h := endorsement.NewTailHash()
		for _, x := range tails {
			if !h.Add(x) {
				t.Fatal("out of order")
			}
		}
		return h.Sum()
	}
	want := sum(base...)
	for name, change := range map[string]func(*endorsement.Tail){
		"stream":       func(x *endorsement.Tail) { x.Stream[31]++ },
		"sequence":     func(x *endorsement.Tail) { x.Head.Sequence++ },
		"hash":         func(x *endorsement.Tail) { x.Head.Hash[0]++ },
		"discontinued": func(x *endorsement.Tail) { x.Discontinued = true },
	} {
		changed := append([]endorsement.Tail{}, base...)
		change(&changed[1])
		if sum(changed...) == want {
			t.Errorf("%s is not hashed", name)
		}
	}
	h := endorsement.NewTailHash()
	if !h.Add(base[1]) || h.Add(base[0]) || h.Add(base[1]) {
		t.Error("tails out of order, or twice, were added")
	}
}

// Each statement has its label: a member's last word is no answer, nor the reverse.
func TestLabelsDiffer(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 3)
	ask := &endorsement.Ask{View: h.views[0].Hash(), Nonce: digest(), Reads: []wire.StreamID{stream()}}
	encoded := wire.Marshal(ask)
	a := &endorsement.Answer{Heads: []wire.Head{{Sequence: 1, Hash: digest()}}}
	a.Sign(h.old[0].key, ask.View, encoded)
	f := word(h.old[0], h.views[0], h.views[1])
	s := endorsement.NewSuccession(h.views[1], h.old[0].key)

	for name, signature := range map[string][]byte{"last word": f.Signature, "succession": s.Signature} {
		b := *a
		b.Signature = signature
		if _, err := endorsement.VerifyAnswer(&h.views[0].Groups[0][0], ask, encoded, wire.Marshal(&b)); wire.CodeOf(err) != wire.CodeReceipt {
			t.Errorf("%s as an answer: %v", name, err)
		}
	}
	for name, signature := range map[string][]byte{"answer": a.Signature, "succession": s.Signature} {
		g := f
		g.Signature = signature
		if g.Verify() == nil {
			t.Errorf("%s as a last word", name)
		}
	}
	if ed25519.Verify(h.old[0].public(), a.Signature, f.Signature) {
		t.Error("a signature over a signature")
	}
}

// A stream belongs to exactly one group, by its first bytes.
func TestGroupOf(t *testing.T) {
	t.Parallel()
	v := &endorsement.View{Groups: make([]endorsement.Group, 5)}
	for s, want := range map[wire.StreamID]int{{}: 0, {7: 3}: 3, {7: 5}: 0, {6: 1}: 256 % 5, {0: 0xff, 1: 0xff, 2: 0xff, 3: 0xff, 4: 0xff, 5: 0xff, 6: 0xff, 7: 0xff}: 0, {8: 9}: 0} {
		if got := v.GroupOf(s); got != want {
			t.Errorf("%x is of group %d, want %d", s[:8], got, want)
		}
	}
}
