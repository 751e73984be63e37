package enclave

import (
	"fmt"
	"slices"

	"github.com/passclave/passclave/ledger"
)

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
	if s.faults == 0 && s.rollbacks == 0 && hostsFault[n.finished] {
		m.violated("an honest host is blamed: %s", n.finished)
	}
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
