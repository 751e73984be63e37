package enclave

import (
	"fmt"
	"slices"

	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// A view change is not one move: each old member gives its last word for a successor that
// the operator wishes for, each new one starts from tails that the host brings it, and the
// host shows an enclave the chain of views that it likes. What members do in each is real
// endorsers' word, found out once.

// brokenHead marks the head of a new member in whose tails two entries stood at one place.
const brokenHead headID = 1 << 15

// viewChanges is what endorsers were found to do.
type viewChanges struct {
	gaveOf  map[[2]uint8]bool // last words given before, and the successor asked for
	startOf map[string]headID // by whose words and tails came; 0: refused
}

func newViewChanges() viewChanges {
	return viewChanges{gaveOf: map[[2]uint8]bool{}, startOf: map[string]headID{}}
}

// wordFor is the bit of a last word in favour of a view.
func wordFor(view int) uint8 { return 1 << (view - 1) }

// shown is the chain of views in an answer of kind [sayViews]: the first view's alone, or
// with a successor and so many members' last words for it.
func (l *modelLedger) shown(what headID) []byte {
	first := l.views[0]
	c := endorsement.Chain{Links: []endorsement.Link{{View: first.Encode()}}}
	if view, words := what/4, what%4; view > 0 {
		link := endorsement.Link{View: l.views[view].Encode()}
		for _, key := range first.keys[:words] {
			f := endorsement.Finalised{View: first.Hash(), Successor: l.views[view].Hash()}
			f.Sign(key)
			link.Finalised = append(link.Finalised, f)
		}
		c.Links = append(c.Links, link)
	}
	return wire.Marshal(&c)
}

// gives reports whether an endorser that gave these last words gives one for a view.
func (l *modelLedger) gives(before uint8, view int) bool {
	key := [2]uint8{before, uint8(view)}
	if gives, ok := l.gaveOf[key]; ok {
		return gives
	}
	e, mine := l.serving(1)
	var wishes []*endorsement.Succession
	for range l.views[1:] {
		wishes = append(wishes, l.world.Succession(mine.Next([]endorsement.Group{l.world.Fresh(3)})))
	}
	for i, w := range wishes {
		if before&wordFor(i+1) != 0 {
			if _, err := e.Finalise(w); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	_, err := e.Finalise(wishes[view-1])
	l.gaveOf[key] = err == nil
	return err == nil
}

// starts is where a new member stands that got the last words of some old ones, who stand
// at these heads, and the tails of those in a set; 0: it does not start.
func (l *modelLedger) starts(ended []headID, set int) headID {
	key := fmt.Sprint(ended, set)
	if at, ok := l.startOf[key]; ok {
		return at
	}
	w := endorsedtest.New(l.t, l.world.Keys, 3)
	old := w.View()
	next := old.Next([]endorsement.Group{w.Fresh(3)})
	wish := w.Succession(next)
	fresh := w.Endorser(next.Groups[0][0].Key)
	var words []endorsement.Finalised
	for i, at := range ended {
		e := w.Endorser(old.Groups[0][i].Key)
		l.bring(e, old, at)
		words = append(words, *must(e.Finalise(wish)))
		if set>>i&1 == 1 {
			if err := fresh.Adopt(&words[i], 0, must(e.Tails(0))); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	at := headID(0)
	if err := fresh.Activate(wish, old.Encode(), words); err == nil {
		answer := must(l.told(fresh, next, nil))
		at = l.headOf[answer.Heads[0]]
		if len(answer.Discontinued) > 0 {
			at |= brokenHead
		}
	}
	l.startOf[key] = at
	return at
}

// of is where the members of a view stand; of a successor's, 0: not started.
func (s *state) of(view int) *[3]headID {
	if view == 0 {
		return &s.members
	}
	return &s.next[view-1]
}

// Nobody can tell when a last word was given, or a new member started, until somebody is
// told of it. So both happen just before they are seen: when the member is asked, when the
// host shows a chain with the word in it, when a new member starts from the tails. That
// leaves no order of events out, and most states that differ in nothing else.

// ended lists the states in which some more members, or none, gave their last words for a
// successor.
func (m *machine) ended(s state, view int) []state {
	out := []state{s}
	for j, at := range s.members {
		for _, t := range out {
			if word := wordFor(view); at != lostMemory && t.words[j]&word == 0 && m.gives(t.words[j], view) {
				t.words[j] |= word
				out = append(out, t)
			}
		}
	}
	return out
}

// wordsFor counts the last words for a successor.
func (s *state) wordsFor(view int) (n int) {
	for _, w := range s.words {
		if w&wordFor(view) != 0 {
			n++
		}
	}
	return n
}

// got is a member's answer, and the state after it.
type got struct {
	state
	answer
}

// gets has an ask reach a member of a view.
func (m *machine) gets(s state, view, member int, ask askID) (out []got) {
	refuses := answer{kind: sayNotMember}
	switch at := s.of(view)[member]; {
	case at == lostMemory:
		out = append(out, got{s, refuses})
	case at == 0:
		out = append(out, got{s, refuses})
		for _, t := range m.started(s, view, member) {
			out = append(out, m.gets(t, view, member, ask)...)
		}
	case at&brokenHead != 0:
		out = append(out, got{s, answer{sayBroken, at &^ brokenHead}})
	default:
		to, refused := m.took(at, ask, view == 0 && s.words[member] > 0)
		if refused {
			return []got{{s, refuses}}
		}
		t := s
		t.of(view)[member] = to
		out = append(out, got{t, answer{sayHead, to}})
		for v := 1; view == 0 && s.words[member] == 0 && v < len(m.views); v++ {
			s.words[member] = wordFor(v)
			out = append(out, m.gets(s, view, member, ask)...)
			s.words[member] = 0
		}
	}
	return out
}

// started lists the states in which a new member of a successor has just started.
func (m *machine) started(s state, view, member int) (out []state) {
	for _, t := range m.ended(s, view) {
		var tails []headID
		for j, at := range t.members {
			if at != lostMemory && t.words[j]&wordFor(view) != 0 { // its word outlives it, its tails do not
				tails = append(tails, at)
			}
		}
		for set := range 1 << len(tails) {
			t.next[view-1][member] = m.starts(tails, set)
			if t.next[view-1][member] > 0 && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}
