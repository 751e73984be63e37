package enclave

import (
	"fmt"
	"slices"
)

// bounds say how far the model goes. All interleavings within them are explored.
type bounds struct {
	endorsed       bool
	enclaves       int
	guesses        int // in all; an enclave has at most one under way
	syncs, pinSets int // of the first device
	consecutive    uint64
	lifetime       uint64
	faults         int      // lies, failures and repetitions of the host's store
	rollbacks      int      // of the store, to any earlier snapshot
	crashes        int      // of an enclave, which starts again without a memory
	losses         int      // of an endorser, which starts again without a memory
	holds          int      // answers of endorsers that come later than they were given
	silences       int      // rounds of asks that end although endorsers could still answer
	lates          int      // endorsers that get an ask without the asker hearing of it
	successors     int      // views that the operator wishes for after the first; with rounds alone
	switches       int      // to the other enclave while one has a request under way
	rounds         bool     // an ask reaches whom it reaches, and is answered, in one step
	forgets        bool     // a crash begins a new life: what was before it is not held against the ledger
	honest         bool     // faults of the store are those of a good one whose answers are lost
	kinds          string   // of the guesses, in order: r right, w wrong; empty: all
	sees           []string // what must happen somewhere
}

const lostMemory = ^headID(0) // of an endorser

const (
	maxEnclaves = 2
	maxPool     = 14
	maxJudged   = 6
)

// state is the whole system at one moment. It is comparable: equal states are one.
type state struct {
	store   headID // the newest entry of the host's database
	tip     headID // of the branch that a rollback left
	held    headID // written, says nobody yet: the host may apply it later
	members [3]headID
	words   [3]uint8       // last words that members gave: a bit for each successor
	next    [2][3]headID   // members of the successors: see of
	pool    [maxPool]askID // appends that endorsers were asked for, ascending: each may come again at any time
	enclave [maxEnclaves]enclaveState
	known   headID // what the first device remembers

	// What the invariants are about.
	stood  headID            // the newest head that a ledger said stands
	acked  headID            // the newest entry that a client was told of
	judged [maxJudged]headID // RESERVEs on which a guess was judged, ascending

	guesses, syncs, pinSets, faults, rollbacks, crashes, losses, holds, silences, lates, switches, last uint8
}

type enclaveState struct {
	memory  memoryID
	step    stepID    // 0: idle
	op      opID      // 0: none
	asked   [3]headID // what endorsers answered that the enclave was not given yet, plus one
	given   [3]bool   // who answered in this round
	atStart headID    // acked when the call began
}

// machine explores the states within bounds.
type machine struct {
	*modelLedger
	bounds
	seen    map[string]int // what happened, for the report
	broken  string         // the invariant that the newest transition violates
	telling bool           // labels are wanted
}

func (m *machine) initial() state {
	s := state{store: 1, known: 1, stood: 1, acked: 1}
	if m.endorsed() {
		s.members = [3]headID{1, 1, 1}
	}
	return s
}

func (m *machine) endorsed() bool { return m.bounds.endorsed }

// successors calls next for every state that one transition leads to.
func (m *machine) successors(s state, next func(label string, s state)) {
	emit := func(t state, label string, args ...any) {
		if m.telling {
			label = fmt.Sprintf(label, args...)
		}
		next(label, t)
	}
	for i := range m.enclaves {
		t := s
		if last := s.last; int(last) != i {
			t.last = uint8(i)
			if s.enclave[last].step > 0 {
				t.switches++
			}
		}
		if int(t.switches) > m.bounds.switches {
			continue
		}
		s := t
		if s.enclave[i].step == 0 {
			m.begins(s, i, emit)
		} else {
			m.goesOn(s, i, emit)
		}
	}
	for i := range m.enclaves {
		if e := s.enclave[i]; int(s.crashes) < m.bounds.crashes && (e.step > 0 || e.memory > 0) {
			emit(m.crash(s, i), "enclave %d crashes", i)
		}
	}
	if s.held > 0 && m.heads[s.held].parent == s.store {
		t := s
		t.store, t.held = s.held, 0
		emit(t, "the held entry %d is written", s.held)
	}
	if int(s.rollbacks) < m.bounds.rollbacks {
		for h := m.heads[s.store].parent; h > 0; h = m.heads[h].parent {
			t := s
			t.rollbacks++
			t.store, t.tip = h, s.store
			emit(t, "the store is rolled back to entry %d", h)
		}
	}
	if !m.endorsed() {
		return
	}
	for _, ask := range s.pool {
		if ask == 0 || int(s.lates) == m.bounds.lates {
			break
		}
		for i := range s.members {
			for _, g := range m.gets(s, m.asks[ask].view, i, ask) {
				if t := g.state; t != s {
					t.lates++
					emit(t, "endorser %d gets ask %d late", i, ask)
				}
			}
		}
	}
	for i, at := range s.members {
		if at != lostMemory && int(s.losses) < m.bounds.losses {
			t := s
			t.losses++
			t.members[i] = lostMemory
			emit(t, "endorser %d starts anew", i)
		}
	}
}

type emitter func(t state, label string, args ...any)

// crash ends what is under way in an enclave, and its memory.
func (m *machine) crash(s state, i int) state {
	s.crashes++
	s.enclave[i] = enclaveState{}
	if m.forgets {
		s.stood, s.acked, s.judged = 0, 0, [maxJudged]headID{}
	}
	return s
}

// shows lists the entries that the host can show as the newest: the honest one first.
func (m *machine) shows(s state) []headID {
	out := []headID{s.store}
	if int(s.faults) >= m.bounds.faults || m.honest {
		return out
	}
	for _, from := range []headID{s.store, s.tip, s.held} {
		for h := from; h > 0; h = m.heads[h].parent {
			if !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
	}
	return out
}
