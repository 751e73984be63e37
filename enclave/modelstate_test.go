package enclave

import (
	"fmt"
	"slices"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
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
	for i, at := range s.members {
		if at == lostMemory {
			continue
		}
		for _, ask := range s.pool {
			if to := m.took(at, ask); to != at && int(s.lates) < m.bounds.lates {
				t := s
				t.lates++
				t.members[i] = to
				emit(t, "endorser %d gets ask %d: entry %d", i, ask, to)
			}
		}
		if int(s.losses) < m.bounds.losses {
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

func (m *machine) begins(s state, i int, emit emitter) {
	var ready []variant
	if int(s.guesses) < m.bounds.guesses {
		for pins := range m.heads[s.store].pins + 1 {
			for _, right := range []bool{false, true} {
				if m.kinds != "" && right != (m.kinds[s.guesses] == 'r') {
					continue
				}
				ready = append(ready, variant{kind: guess, nth: s.guesses, right: right, pins: uint8(pins)})
			}
		}
	}
	if !m.ownerBusy(s) {
		if int(s.syncs) < m.bounds.syncs {
			ready = append(ready, variant{kind: syncing, known: s.known})
		}
		if int(s.pinSets) < m.bounds.pinSets {
			ready = append(ready, variant{kind: pinSet, known: s.known})
		}
	}
	for _, v := range ready {
		for n, h := range m.shows(s) {
			t := s
			if n > 0 {
				t.faults++
			}
			switch v.kind {
			case guess:
				t.guesses++
			case syncing:
				t.syncs++
			case pinSet:
				t.pinSets++
			}
			t.enclave[i] = enclaveState{memory: s.enclave[i].memory, step: m.begin(v, h, 0)}
			emit(m.settle(t, i), "enclave %d gets %v with entry %d", i, v, h)
			if n > 0 || int(s.faults) == m.bounds.faults || m.honest {
				continue
			}
			t.faults++
			for old := m.heads[h].parent; old > 0; old = m.heads[old].parent {
				t.enclave[i].step = m.begin(v, h, old)
				emit(m.settle(t, i), "enclave %d gets %v with entry %d and the account head of entry %d", i, v, h, old)
			}
		}
	}
}

func (m *machine) ownerBusy(s state) bool {
	for _, e := range s.enclave {
		if e.step > 0 && m.steps[e.step].request.kind != guess {
			return true
		}
	}
	return false
}

// goesOn answers what an enclave waits for.
func (m *machine) goesOn(s state, i int, emit emitter) {
	e := s.enclave[i]
	faulty := int(s.faults) < m.bounds.faults
	if e.op == 0 { // Load
		for n, h := range m.shows(s) {
			t := s
			if n > 0 {
				t.faults++
			}
			t.enclave[i].step = m.loaded(e.step, h, 0, nil)
			emit(m.settle(t, i), "enclave %d loads entry %d", i, h)
			if n == 0 && faulty && !m.honest {
				t := s
				t.faults++
				for old := m.heads[h].parent; old > 0; old = m.heads[old].parent {
					t.enclave[i].step = m.loaded(e.step, h, old, nil)
					emit(m.settle(t, i), "enclave %d loads entry %d with the account head of entry %d", i, h, old)
				}
			}
		}
		if faulty {
			t := s
			t.faults++
			t.enclave[i].step = m.loaded(e.step, 0, 0, wire.Errorf(wire.CodeUnavailable, "says the host"))
			emit(m.settle(t, i), "enclave %d loads nothing", i)
		}
		return
	}
	said := func(t state, a answer, label string, args ...any) {
		t.enclave[i].op = m.say(e.op, a)
		if n := m.ops[t.enclave[i].op]; n.round != m.ops[e.op].round || n.waits != waitsEndorser {
			t.enclave[i].asked, t.enclave[i].given = [3]headID{}, [3]bool{}
		}
		emit(m.settle(t, i), label, args...)
	}
	op := m.ops[e.op]
	switch op.waits {
	case waitsNewest:
		for n, h := range m.shows(s) {
			t := s
			if n > 0 {
				t.faults++
			}
			said(t, answer{sayNewest, h}, "enclave %d is shown entry %d", i, h)
		}
		if faulty {
			t := s
			t.faults++
			said(t, answer{kind: sayFailed}, "enclave %d is shown nothing", i)
		}
	case waitsCommit:
		m.commits(s, i, op.key.head, said)
	case waitsEndorser:
		if m.rounds {
			m.round(s, i, &op, emit)
			return
		}
		m.endorsers(s, i, &op, said, emit)
	}
}

// round has an ask reach some endorsers. Unless the answers are lost, they come in order
// as far as the enclave waits for them, and then no more.
func (m *machine) round(s state, i int, op *opNode, emit emitter) {
	e := s.enclave[i]
	for _, k := range []byte{sayOld, sayForeign} {
		if int(s.faults) == m.bounds.faults {
			break
		}
		t := s
		t.faults++
		t.enclave[i].op = m.say(e.op, answer{k, 1}, answer{k, 1}, answer{k, 1})
		emit(m.settle(t, i), "enclave %d: endorsers are said to say entry 1 (%c)", i, k)
	}
	if int(s.faults) < m.bounds.faults && len(op.answers) == 0 {
		t := s
		t.faults++
		id := m.start(false, op.key.head, fakeViews)
		if m.ops[id].waits == waitsEndorser {
			id = m.say(id, answer{sayHead, 1}, answer{sayHead, 1}, answer{sayHead, 1})
		}
		t.enclave[i].op = id
		emit(m.settle(t, i), "enclave %d: the host shows a view of its own endorsers, which say entry 1", i)
	}
	for set := range 8 {
		for _, lost := range []bool{false, true} {
			t := s
			var answers []answer
			for j, at := range s.members {
				switch {
				case set>>j&1 == 0:
				case at == lostMemory:
					answers = append(answers, answer{kind: sayNotMember})
				default:
					t.members[j] = m.took(at, op.ask)
					if !lost {
						answers = append(answers, answer{sayHead, t.members[j]})
					}
				}
			}
			if len(answers) < 2 || len(answers) == 2 && answers[0] != answers[1] {
				if int(s.silences) == m.bounds.silences {
					continue
				}
				t.silences++
			}
			for len(answers) < len(s.members) {
				answers = append(answers, answer{kind: sayFailed})
			}
			id := m.say(e.op, answers...)
			t.enclave[i].op = id
			emit(m.settle(t, i), "enclave %d: endorsers %03b get ask %d, answers are lost: %v", i, set, op.ask, lost)
		}
	}
}

// anybody reports whether an endorser is there.
func (m *machine) anybody(s state) bool {
	for _, at := range s.members {
		if at != lostMemory {
			return true
		}
	}
	return false
}

// canonical orders what does not differ: endorsers, and enclaves, may change names.
func (m *machine) canonical(s state) state {
	if m.enclaves == 2 {
		if s.enclave[s.last].step == 0 {
			s.last = 0
			if s.enclave[0].step > 0 {
				s.last = 1
			}
		}
		if less(s.enclave[1], s.enclave[0]) {
			s.enclave[0], s.enclave[1] = s.enclave[1], s.enclave[0]
			s.last = 1 - s.last
		}
	}
	if !m.endorsed() {
		return s
	}
	swap := func(i, j int) {
		s.members[i], s.members[j] = s.members[j], s.members[i]
		for k := range s.enclave {
			e := &s.enclave[k]
			e.asked[i], e.asked[j] = e.asked[j], e.asked[i]
			e.given[i], e.given[j] = e.given[j], e.given[i]
		}
	}
	after := func(i, j int) bool {
		if s.members[i] != s.members[j] {
			return s.members[i] > s.members[j]
		}
		for k := range s.enclave {
			e := &s.enclave[k]
			if e.asked[i] != e.asked[j] {
				return e.asked[i] > e.asked[j]
			}
			if e.given[i] != e.given[j] {
				return e.given[i]
			}
		}
		return false
	}
	for _, p := range [][2]int{{0, 1}, {1, 2}, {0, 1}} {
		if after(p[0], p[1]) {
			swap(p[0], p[1])
		}
	}
	return s
}

func less(a, b enclaveState) bool {
	if a.step != b.step {
		return a.step < b.step
	}
	return a.op < b.op
}

func (m *machine) commits(s state, i int, entry headID, said func(state, answer, string, ...any)) {
	fits := m.headOf[m.heads[entry].commit.Append.Expected] == s.store
	written := s
	if fits {
		written.store = entry
	}
	if fits || s.store == entry {
		said(written, answer{kind: sayDone}, "enclave %d: entry %d is written", i, entry)
	} else {
		said(s, answer{kind: sayConflict}, "enclave %d: entry %d is too late", i, entry)
	}
	if int(s.faults) >= m.bounds.faults {
		return
	}
	s.faults++
	written.faults++
	said(s, answer{kind: sayFailed}, "enclave %d: entry %d is not written", i, entry)
	if s.held == 0 {
		t := s
		t.held = entry
		said(t, answer{kind: sayFailed}, "enclave %d: entry %d is held back", i, entry)
	}
	if fits {
		said(written, answer{kind: sayFailed}, "enclave %d: entry %d is written, the host says nothing", i, entry)
	}
	if m.honest {
		return
	}
	said(s, answer{kind: sayDone}, "enclave %d: entry %d is not written, the host says it is", i, entry)
	if !fits {
		return
	}
	said(s, answer{kind: sayConflict}, "enclave %d: entry %d is not written, the host says it is too late", i, entry)
	said(written, answer{kind: sayConflict}, "enclave %d: entry %d is written, the host says it is too late", i, entry)
	said(written, answer{kind: sayFull}, "enclave %d: entry %d is written, the host says it has no room", i, entry)
	said(written, answer{kind: sayOther}, "enclave %d: entry %d is written, the host says another is", i, entry)
}

// endorsers lets each endorser get the ask, and each answer come, in any order.
func (m *machine) endorsers(s state, i int, op *opNode, said func(state, answer, string, ...any), emit emitter) {
	e := s.enclave[i]
	left := 0
	for j, at := range s.members {
		if e.given[j] {
			continue
		}
		left++
		t := s
		if at == lostMemory {
			t.enclave[i].given[j] = true
			said(t, answer{kind: sayNotMember}, "enclave %d: endorser %d has no view", i, j)
			continue
		}
		to := m.took(at, op.ask)
		t.members[j] = to
		t.enclave[i].given[j] = true
		said(t, answer{sayHead, to}, "enclave %d: endorser %d says entry %d", i, j, to)
		if e.asked[j] == 0 && int(s.holds) < m.bounds.holds {
			t := s
			t.holds++
			t.members[j] = to
			t.enclave[i].asked[j] = to + 1
			emit(t, "enclave %d: endorser %d says entry %d, which is held back", i, j, to)
		}
		if int(s.faults) < m.bounds.faults {
			for _, k := range []byte{sayOld, sayForeign} {
				t := s
				t.faults++
				t.enclave[i].given[j] = true
				said(t, answer{k, 1}, "enclave %d: endorser %d is said to say entry 1 (%c)", i, j, k)
			}
		}
	}
	for j, h := range e.asked {
		if h > 0 && !e.given[j] {
			t := s
			t.enclave[i].given[j] = true
			t.enclave[i].asked[j] = 0
			said(t, answer{sayHead, h - 1}, "enclave %d: endorser %d said entry %d", i, j, h-1)
		}
	}
	// The others do not answer.
	if m.anybody(s) {
		if int(s.silences) == m.bounds.silences {
			return
		}
		s.silences++
	}
	t := s
	id := e.op
	for range left - 1 {
		id = m.say(id, answer{kind: sayFailed})
		if n := m.ops[id]; n.round != op.round || n.waits != waitsEndorser {
			break
		}
	}
	if n := m.ops[id]; n.round == op.round && n.waits == waitsEndorser {
		id = m.say(id, answer{kind: sayFailed})
	}
	t.enclave[i].op = id
	t.enclave[i].asked, t.enclave[i].given = [3]headID{}, [3]bool{}
	emit(m.settle(t, i), "enclave %d: no more answers come", i)
}

// settle lets an enclave go on up to where it waits for the host.
func (m *machine) settle(s state, i int) state {
	defer func() {
		if m.failed != "" {
			m.violated("%s", m.failed)
		}
	}()
	for {
		e := &s.enclave[i]
		if e.op > 0 {
			op := m.ops[e.op]
			if op.waits == waitsEndorser && op.ask > 0 {
				s.pool = pooled(s.pool, op.ask)
			}
			if op.waits != waitsNothing {
				return s
			}
			e.memory, e.op = op.memory, 0
			if op.outcome.err == nil && !op.outcome.discontinued && !op.outcome.other {
				m.stands(&s, e, op.outcome.head)
			}
			if op.key.append {
				e.step = m.committed(e.step, op.outcome)
			} else {
				e.step = m.headRead(e.step, op.outcome)
			}
			continue
		}
		n := &m.steps[e.step]
		if n.judged > 0 {
			m.judges(&s, n.judged)
		}
		switch n.effect.(type) {
		case ReadHead:
			e.op, e.atStart = m.start(false, n.head, e.memory), s.acked
			continue
		case Commit:
			e.op, e.atStart = m.start(true, n.head, e.memory), s.acked
			continue
		case Reply:
			m.replies(&s, e, n)
			*e = enclaveState{memory: e.memory}
		}
		return s
	}
}

func pooled(pool [maxPool]askID, ask askID) [maxPool]askID {
	i := 0
	for ; i < maxPool && pool[i] > 0; i++ {
		if pool[i] == ask {
			return pool
		}
	}
	pool[i] = ask // out of bounds: maxPool is too small for these bounds
	slices.Sort(pool[:i+1])
	return pool
}

func (m *machine) violated(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
	}
}

// stands: a ledger said that an entry is the newest.
func (m *machine) stands(s *state, e *enclaveState, h headID) {
	switch {
	case m.descends(h, s.stood):
		s.stood = h
	case !m.descends(s.stood, h):
		m.violated("two heads at one sequence: entry %d stands, and entry %d stood", h, s.stood)
	}
	if s.faults == 0 && s.rollbacks == 0 && !m.descends(s.store, s.stood) {
		m.violated("entry %d stands, and an honest database does not have it", s.stood)
	}
	if !m.descends(h, e.atStart) {
		m.violated("lost: entry %d was acknowledged, and entry %d is then said to be the newest", e.atStart, h)
	}
}

// judges: a guess was tried on the recovery record.
func (m *machine) judges(s *state, on headID) {
	if !m.descends(s.stood, on) {
		m.violated("a guess was judged on RESERVE %d, which does not stand", on)
	}
	if slices.Contains(s.judged[:], on) {
		m.violated("two guesses were judged on RESERVE %d", on)
	}
	i := slices.Index(s.judged[:], 0)
	s.judged[i] = on // out of bounds: maxJudged is too small for these bounds
	slices.Sort(s.judged[:i+1])
	m.seen["judged"]++

	var last uint64 // RESERVE of the newest success
	for h := s.stood; h > 0; h = m.heads[h].parent {
		if n := &m.heads[h]; n.note.Kind == ledger.KindJoin && n.pin == m.heads[on].pin {
			last = max(last, n.note.Attempt)
		}
	}
	var lifetime, consecutive uint64
	for _, h := range s.judged {
		if h > 0 && m.heads[h].pin == m.heads[on].pin {
			lifetime++
			if m.heads[h].head.Sequence > last {
				consecutive++
			}
		}
	}
	if lifetime > m.lifetime {
		m.violated("%d guesses were judged between two PIN sets", lifetime)
	}
	if consecutive > m.consecutive {
		m.violated("%d guesses reserved after the last success's RESERVE were judged", consecutive)
	}
}

// replies: the answer of a request reaches its client.
func (m *machine) replies(s *state, e *enclaveState, n *stepNode) {
	m.seen[fmt.Sprintf("%s: %s", [...]string{"guess", "sync", "PIN set"}[n.request.kind], n.finished)]++
	if n.own > 0 {
		if !m.descends(s.stood, n.own) {
			m.violated("entry %d was acknowledged, and does not stand", n.own)
		}
		if m.descends(n.own, s.acked) {
			s.acked = n.own
		}
	}
	if n.request.kind == guess {
		return
	}
	if n.alarm {
		m.seen["alarm"]++
		return
	}
	if !m.descends(n.accepted, s.known) {
		m.violated("a device that remembers entry %d accepts entry %d", s.known, n.accepted)
	}
	if n.accepted != s.known && !m.descends(s.stood, n.accepted) {
		m.violated("a device accepts entry %d, which does not stand", n.accepted)
	}
	s.known = n.accepted
}
