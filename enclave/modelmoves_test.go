package enclave

import (
	"cmp"
	"slices"

	"github.com/passclave/passclave/wire"
)

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
	case waitsViews:
		said(s, answer{kind: sayViews}, "enclave %d is shown the first view", i)
		for view := 1; view < len(m.views); view++ {
			for _, t := range m.ended(s, view) {
				if words := min(t.wordsFor(view), 2); words > 0 { // a majority is enough
					said(t, answer{sayViews, headID(4*view + words)}, "enclave %d is shown successor %d by %d last words", i, view, words)
				}
			}
		}
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
			m.reaches(s, op, set, func(t state, heard []answer) {
				var answers []answer
				for _, a := range heard {
					if a.kind == sayNotMember || !lost {
						answers = append(answers, a)
					}
				}
				if len(answers) < 2 || len(answers) == 2 && answers[0] != answers[1] {
					if int(s.silences) == m.bounds.silences {
						return
					}
					t.silences++
				}
				for len(answers) < len(s.members) {
					answers = append(answers, answer{kind: sayFailed})
				}
				t.enclave[i].op = m.say(e.op, answers...)
				if m.ops[t.enclave[i].op].waits == waitsViews { // whatever was said in the view before is forgotten
					t.enclave[i].op = m.say(e.op, answer{kind: sayNotMember}, answer{kind: sayNotMember}, answer{kind: sayFailed})
				}
				emit(m.settle(t, i), "enclave %d: endorsers %03b of view %d get ask %d, answers are lost: %v", i, set, op.view, op.ask, lost)
			})
		}
	}
}

// reaches has an ask reach a set of endorsers, in every way that it can be answered.
func (m *machine) reaches(s state, op *opNode, set int, then func(state, []answer)) {
	var from func(t state, j int, heard []answer)
	from = func(t state, j int, heard []answer) {
		switch {
		case j == len(s.members):
			if op.view > 0 { // as canonical has it: its members do not differ
				slices.SortFunc(heard, func(x, y answer) int { return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.head, y.head)) })
			}
			then(t, heard)
		case set>>j&1 == 0:
			from(t, j+1, heard)
		default:
			for _, g := range m.gets(t, op.view, j, op.ask) {
				from(g.state, j+1, append(heard[:len(heard):len(heard)], g.answer))
			}
		}
	}
	from(s, 0, nil)
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
	for i := range s.next {
		slices.Sort(s.next[i][:])
	}
	swap := func(i, j int) {
		s.members[i], s.members[j] = s.members[j], s.members[i]
		s.words[i], s.words[j] = s.words[j], s.words[i]
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
		if s.words[i] != s.words[j] {
			return s.words[i] > s.words[j]
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
		to := m.gets(t, op.view, j, op.ask)[0].head
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
				if op.view > 0 {
					m.seen[theNextView]++
				}
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
