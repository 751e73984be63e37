package enclave

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var modelDeep = flag.Bool("deep", false, "explore the larger bounds of docs/model.md too")

// explore visits every state within bounds once, nearest first, and returns how many
// there are and how many transitions lead to them. It fails at the first violation.
func explore(t *testing.T, b bounds) (*machine, int, int) {
	t.Helper()
	w := newModelWorld(t, b.consecutive, b.lifetime)
	m := &machine{modelLedger: newModelLedger(w, b.endorsed), bounds: b, seen: map[string]int{}}
	first := m.initial()
	index := map[state]int32{first: 0}
	parents := []int32{-1}
	frontier := []state{first}
	transitions, depth := 0, 0
	for at := int32(0); len(frontier) > 0; depth++ {
		var next []state
		for _, s := range frontier {
			m.successors(s, func(_ string, to state) {
				transitions++
				to = m.canonical(to)
				if m.broken != "" {
					t.Fatalf("%s\n%s", m.broken, m.trace(first, index, parents, at, to))
				}
				if _, ok := index[to]; !ok {
					index[to] = int32(len(parents))
					parents = append(parents, at)
					next = append(next, to)
				}
			})
			at++
		}
		frontier = next
	}
	var seen []string
	for what, n := range m.seen {
		seen = append(seen, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(seen)
	t.Logf("%d states, %d transitions, %d steps long; %d runs of Step, %d ledger calls, %d entries\n%s",
		len(index), transitions, depth, len(m.steps), len(m.ops), len(m.heads), strings.Join(seen, ", "))
	return m, len(index), transitions
}

// trace tells how the last state came about.
func (m *machine) trace(first state, index map[state]int32, parents []int32, at int32, last state) string {
	m.telling = true
	path := []int32{}
	for i := at; i >= 0; i = parents[i] {
		path = append(path, i)
	}
	slices.Reverse(path)
	byIndex := map[int32]state{}
	for s, i := range index {
		if slices.Contains(path, i) {
			byIndex[i] = s
		}
	}
	var out strings.Builder
	for i, id := range path {
		to := last
		if i+1 < len(path) {
			to = byIndex[path[i+1]]
		}
		m.successors(byIndex[id], func(label string, s state) {
			if m.canonical(s) == to {
				fmt.Fprintf(&out, "  %s\n", label)
				to = state{} // told
			}
		})
	}
	return out.String()
}

func TestModelTry(t *testing.T) {
	for _, b := range []bounds{
		{guesses: 4},
		{guesses: 2, faults: 1},
		{guesses: 3, faults: 1},
		{guesses: 4, faults: 1},
		{guesses: 2, faults: 2},
		{guesses: 3, crashes: 1, rollbacks: 1},
		{guesses: 4, crashes: 1, rollbacks: 1},
		{guesses: 2, crashes: 1, rollbacks: 1, faults: 1},
		{guesses: 2, crashes: 1, rollbacks: 1, faults: 1, syncs: 1},
	} {
		b.enclaves, b.consecutive, b.lifetime, b.forgets = 1, 2, 3, true
		start := time.Now()
		t.Logf("%+v", b)
		explore(t, b)
		t.Log(time.Since(start))
	}
}

func TestModelTryEndorsed(t *testing.T) {
	for _, b := range []bounds{
		{guesses: 5, switches: 1},
		{guesses: 3, switches: 1, crashes: 1},
		{guesses: 3, switches: 1, rollbacks: 1},
		{guesses: 3, switches: 1, faults: 1},
		{guesses: 3, switches: 1, losses: 1},
		{guesses: 3, switches: 1, syncs: 2},
	} {
		b.enclaves, b.consecutive, b.lifetime, b.endorsed, b.rounds = 2, 2, 3, true, true
		if b.guesses == 5 {
			b.lifetime = 5
		}
		start := time.Now()
		t.Logf("%+v", b)
		explore(t, b)
		t.Log(time.Since(start))
	}
}
