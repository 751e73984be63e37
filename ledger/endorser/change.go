package endorser

import (
	"crypto/ed25519"
	"maps"
	"slices"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// Found makes a fresh endorser a member of the first view of a genesis. That this
// genesis counts is for the enclave's measured configuration to say.
func (e *Endorser) Found(s *endorsement.Succession) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.successor(s)
	if err != nil {
		return err
	}
	switch {
	case e.view != nil && e.hash == v.Hash():
		return nil
	case e.view != nil || e.adoption != nil:
		return wire.Errorf(wire.CodeView, "this endorser has a memory already")
	case v.Number != 1:
		return wire.Errorf(wire.CodeView, "view %d founds nothing", v.Number)
	case v.Find(e.Key()) < 0:
		return wire.Errorf(wire.CodeView, "this endorser is no member of view %d", v.Number)
	}
	e.enter(v, newHeads(), map[wire.StreamID]bool{})
	return nil
}

func (e *Endorser) enter(v *endorsement.View, streams *heads, broken map[wire.StreamID]bool) {
	e.view, e.hash, e.streams, e.broken = v, v.Hash(), streams, broken
	e.former, e.finalised, e.sorted, e.adoption = e.finalised, nil, nil, nil
}

// successor checks a view that the operator wishes for: signed by the operator's key,
// of this ledger, every member that is not one already shown by evidence. e.mu is held.
func (e *Endorser) successor(s *endorsement.Succession) (*endorsement.View, error) {
	v, err := s.Verify(ed25519.PublicKey(e.configuration.Operator))
	if err != nil {
		return nil, err
	}
	if string(v.Ledger) != string(e.configuration.Ledger) || v.Genesis != e.configuration.Number {
		return nil, wire.Errorf(wire.CodeView, "a view of another ledger or genesis")
	}
	evidence := map[wire.Digest][]byte{}
	for _, b := range s.Evidence {
		evidence[endorsement.EvidenceHash(b)] = b
	}
	for _, g := range v.Groups {
		for _, m := range g {
			if string(m.Key) == string(e.Key()) || e.view != nil && e.view.Has(m) {
				continue // this endorser knows itself; others were shown when they became members
			}
			b, ok := evidence[m.Evidence]
			if !ok {
				return nil, wire.Errorf(wire.CodeEvidence, "no evidence of a new member")
			}
			if err := e.admit.Successor(b, s.Release, m.Key); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// Finalise ends this endorser's part in its view for good, in favour of one successor.
// It refuses every other one afterwards, and gives the same word for the same one.
func (e *Endorser) Finalise(s *endorsement.Succession) (*endorsement.Finalised, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view == nil {
		return nil, wire.Errorf(wire.CodeView, "not a member of any view yet")
	}
	v, err := e.successor(s)
	if err != nil {
		return nil, err
	}
	hash := v.Hash()
	switch {
	case e.former != nil && e.former.Successor == hash:
		return e.former, nil // it serves that view already
	case e.finalised != nil && e.finalised.Successor == hash:
		return e.finalised, nil
	case e.finalised != nil:
		return nil, wire.Errorf(wire.CodeView, "view %d is finalised in favour of another", e.view.Number)
	case !v.Follows(e.view):
		return nil, wire.Errorf(wire.CodeView, "view %d does not follow view %d", v.Number, e.view.Number)
	}
	e.sorted = make([]wire.StreamID, 0, e.streams.len())
	for s := range e.streams.streams() {
		e.sorted = append(e.sorted, s)
	}
	slices.SortFunc(e.sorted, func(a, b wire.StreamID) int { return slices.Compare(a[:], b[:]) })
	h := endorsement.NewTailHash()
	for _, s := range e.sorted {
		h.Add(e.tail(s))
	}
	e.finalised = &endorsement.Finalised{View: e.hash, Successor: hash, Tails: h.Sum(), Streams: h.Count}
	e.finalised.Sign(e.key)
	return e.finalised, nil
}

func (e *Endorser) tail(s wire.StreamID) endorsement.Tail {
	return endorsement.Tail{Stream: s, Head: e.streams.of(s), Discontinued: e.broken[s]}
}

// MaxTails bounds a page of tails.
const MaxTails = 4096

// Tails returns a page of what this endorser finalised, from an index on.
func (e *Endorser) Tails(from uint64) ([]endorsement.Tail, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finalised == nil {
		return nil, wire.Errorf(wire.CodeView, "the view is not finalised")
	}
	var out []endorsement.Tail
	for _, s := range e.sorted[min(from, uint64(len(e.sorted))):] {
		if len(out) == MaxTails {
			break
		}
		out = append(out, e.tail(s))
	}
	return out, nil
}

// adoption collects the tails of members of the view before.
type adoption struct {
	view    wire.Digest // whose tails they are
	from    map[string]*incoming
	streams *heads                 // the highest of all
	split   map[wire.StreamID]bool // two entries at that place
	broken  map[wire.StreamID]bool // discontinued before
}

// incoming is one member's tails as far as they came.
type incoming struct {
	word endorsement.Finalised
	hash *endorsement.TailHash
}

// Adopt takes a page of the tails of one member of the view before, from an index on, in
// order. Whose they are is found out by [Endorser.Activate], which forgets all of them
// where one is not; an endorser that has a memory to lose takes those of its own view's
// members alone. The first page of a member whose tails came before begins anew, with
// all members.
func (e *Endorser) Adopt(word *endorsement.Finalised, index uint64, tails []endorsement.Tail) error {
	if err := word.Verify(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view != nil && (e.finalised == nil || e.finalised.Successor != word.Successor) {
		return wire.Errorf(wire.CodeView, "this endorser has a memory already")
	}
	if e.view != nil && (word.View != e.hash || e.view.Find(word.Member) < 0) {
		return wire.Errorf(wire.CodeView, "tails of a stranger")
	}
	a := e.adoption
	if a == nil || a.view != word.View || index == 0 && a.from[string(word.Member)] != nil {
		a = &adoption{view: word.View, from: map[string]*incoming{}, streams: newHeads(), split: map[wire.StreamID]bool{}, broken: map[wire.StreamID]bool{}}
		e.adoption = a
	}
	in := a.from[string(word.Member)]
	if in == nil {
		in = &incoming{word: *word, hash: endorsement.NewTailHash()}
		a.from[string(word.Member)] = in
	}
	if index != in.hash.Count {
		return wire.Errorf(wire.CodeView, "tails from %d, not %d", index, in.hash.Count)
	}
	for _, t := range tails {
		if !in.hash.Add(t) || in.hash.Count > in.word.Streams {
			e.adoption = nil
			return wire.Errorf(wire.CodeView, "tails out of order")
		}
		a.merge(t)
	}
	return nil
}

// merge keeps the highest head of a stream. Two entries at the highest place
// discontinue it: nobody can tell any more which of them a person was shown. Below it
// they do no harm: what stands higher was appended to the one that a majority held.
func (a *adoption) merge(t endorsement.Tail) {
	at, known := a.streams.of(t.Stream), a.streams.has(t.Stream)
	switch {
	case !known || t.Head.Sequence > at.Sequence:
		a.streams.set(t.Stream, t.Head)
		delete(a.split, t.Stream)
	case t.Head.Sequence == at.Sequence && t.Head.Hash != at.Hash:
		a.split[t.Stream] = true
	}
	if t.Discontinued {
		a.broken[t.Stream] = true
	}
}

// Activate makes this endorser serve a view, from the tails of a majority of its own
// group in the view before, which s follows by the word of words.
func (e *Endorser) Activate(s *endorsement.Succession, before []byte, words []endorsement.Finalised) error {
	old, err := endorsement.ParseView(before)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := s.Verify(ed25519.PublicKey(e.configuration.Operator))
	if err != nil {
		return err
	}
	if e.view != nil && e.hash == v.Hash() {
		return nil
	}
	group := v.Find(e.Key())
	if group < 0 {
		return wire.Errorf(wire.CodeView, "this endorser is no member of view %d", v.Number)
	}
	if string(v.Ledger) != string(e.configuration.Ledger) || v.Genesis != e.configuration.Number {
		return wire.Errorf(wire.CodeView, "a view of another ledger or genesis")
	}
	if err := endorsement.Succeeds(old, v, words); err != nil {
		return err
	}
	if e.view != nil && (e.finalised == nil || e.finalised.Successor != v.Hash()) {
		return wire.Errorf(wire.CodeView, "this endorser has a memory already")
	}
	a := e.adoption
	if a == nil || a.view != old.Hash() {
		return wire.Errorf(wire.CodeView, "no tails of view %d", old.Number)
	}
	whole := 0
	for key, in := range a.from {
		switch {
		case old.Find([]byte(key)) != group || in.word.Successor != v.Hash():
			e.adoption = nil
			return wire.Errorf(wire.CodeView, "tails of a stranger")
		case in.hash.Count != in.word.Streams || in.hash.Sum() != in.word.Tails:
			e.adoption = nil
			return wire.Errorf(wire.CodeView, "tails that are not those of a member's last word")
		}
		whole++
	}
	if whole < old.Groups[group].Majority() {
		e.adoption = nil // or what came before would stand in the way of handing over anew
		return wire.Errorf(wire.CodeView, "tails of %d members are no majority", whole)
	}
	maps.Copy(a.broken, a.split)
	e.enter(v, a.streams, a.broken)
	return nil
}
