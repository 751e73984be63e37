package enclave

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var modelBounds = flag.String("model", "quick", "how far the model checker goes: quick, full or deep (docs/model.md)")

// theNextView is what is seen where a head counts by the word of a successor's members.
const theNextView = "the next view's word"

// The bounds, by name. Each level explores what those before it do, too.
var (
	modelLocal = map[string]map[string]bounds{
		"quick": {
			"faults":             {guesses: 4, faults: 1, sees: []string{"guess: pin-locked", "guess: rollback", "guess: receipt"}},
			"crash":              {guesses: 4, crashes: 1, faults: 1, honest: true},
			"rollback":           {guesses: 2, faults: 1, rollbacks: 1},
			"crash-and-rollback": {guesses: 4, crashes: 1, rollbacks: 1, forgets: true},
			"device":             {guesses: 1, crashes: 1, rollbacks: 1, faults: 1, syncs: 2, forgets: true, sees: []string{"alarm", "sync: ok", "sync: rollback"}},
			"PIN-set":            {guesses: 2, pinSets: 1, faults: 1, sees: []string{"PIN set: ok", "guess: challenge", "guess: head-mismatch"}},
		},
		"full": {
			"two-faults":                 {guesses: 3, faults: 2},
			"crash-rollback-and-a-fault": {guesses: 4, crashes: 1, rollbacks: 1, faults: 1, forgets: true},
			"device":                     {guesses: 2, crashes: 1, rollbacks: 1, faults: 1, syncs: 2, forgets: true},
			"PIN-set":                    {guesses: 3, pinSets: 1, faults: 1, crashes: 1, honest: true},
		},
	}
	modelEndorsed = map[string]map[string]bounds{
		"quick": {
			"each-message-by-itself": {guesses: 1, syncs: 1, lates: 99, switches: 99},
			"late-asks":              {guesses: 1, syncs: 1, lates: 2, rollbacks: 1, switches: 1},
			"late-answers":           {guesses: 1, syncs: 1, lates: 2, switches: 1, holds: 1, silences: 1},
			"four-guesses":           {guesses: 4, switches: 1, rounds: true, sees: []string{"guess: pin-locked"}},
			"two-successes":          {guesses: 5, kinds: "rrwww", switches: 1, rounds: true, lifetime: 5},
			"faults":                 {guesses: 2, switches: 1, faults: 1, rounds: true},
			"two-switches":           {guesses: 2, switches: 2, rounds: true},
			"half-endorsed":          {guesses: 1, syncs: 2, silences: 1, rollbacks: 1, switches: 1, rounds: true},
			"silences":               {guesses: 2, switches: 1, silences: 1, lates: 1, rounds: true},
			"rollback":               {guesses: 2, switches: 1, rollbacks: 1, syncs: 1, rounds: true, sees: []string{"guess: rollback", "sync: rollback"}},
			"crash":                  {guesses: 2, switches: 1, crashes: 1, syncs: 1, rounds: true},
			"endorser-lost":          {guesses: 2, switches: 1, losses: 1, silences: 1, rounds: true, sees: []string{"guess: view"}},
			"PIN-set":                {guesses: 2, switches: 1, pinSets: 1, rounds: true, sees: []string{"PIN set: ok", "guess: conflict"}},
			"device":                 {guesses: 1, switches: 1, syncs: 2, faults: 1, rounds: true},
			"view-change":            {guesses: 1, rollbacks: 1, successors: 1, rounds: true, sees: []string{theNextView}},
			"rival-views":            {guesses: 1, kinds: "r", rollbacks: 1, successors: 2, rounds: true, sees: []string{theNextView}},
		},
		"full": {
			"five-guesses":   {guesses: 5, switches: 1, rounds: true, lifetime: 5},
			"two-switches":   {guesses: 4, switches: 2, rounds: true},
			"faults":         {guesses: 2, switches: 2, faults: 1, rounds: true},
			"all-of-it-once": {guesses: 2, switches: 1, faults: 1, rollbacks: 1, crashes: 1, rounds: true},
			"endorser-lost":  {guesses: 3, switches: 2, losses: 1, rounds: true},
			"view-race":      {guesses: 1, syncs: 1, switches: 1, successors: 1, rounds: true, sees: []string{theNextView}},
			"split-tails":    {guesses: 1, kinds: "r", rollbacks: 1, silences: 1, successors: 1, rounds: true, sees: []string{theNextView, "guess: discontinued"}},
			"view-and-loss":  {guesses: 1, kinds: "r", rollbacks: 1, losses: 1, successors: 1, rounds: true, sees: []string{theNextView}},
		},
		"deep": {
			"each-message-by-itself": {guesses: 2, lates: 99, switches: 99},
			"all-of-it-once":         {guesses: 4, switches: 1, faults: 1, rollbacks: 1, crashes: 1, rounds: true},
			"three-guesses-faults":   {guesses: 3, switches: 2, faults: 1, rounds: true},
			"view-device":            {guesses: 1, syncs: 1, rollbacks: 1, successors: 1, rounds: true, sees: []string{theNextView}},
			"view-change":            {guesses: 2, switches: 1, rollbacks: 1, successors: 1, rounds: true, sees: []string{theNextView}},
			"rival-views":            {guesses: 1, syncs: 1, switches: 1, rollbacks: 1, losses: 1, crashes: 1, successors: 2, rounds: true, sees: []string{theNextView}},
		},
	}
)

func TestModelLocal(t *testing.T)    { t.Parallel(); exploreAll(t, modelLocal, false, 1) }
func TestModelEndorsed(t *testing.T) { t.Parallel(); exploreAll(t, modelEndorsed, true, 2) }

func exploreAll(t *testing.T, levels map[string]map[string]bounds, endorsed bool, enclaves int) {
	if raceDetector {
		t.Skip("many times slower, and one thing happens at a time: make model runs it")
	}
	for _, level := range []string{"quick", "full", "deep"} {
		for name, b := range levels[level] {
			t.Run(level+"-"+name, func(t *testing.T) {
				t.Parallel()
				b.endorsed, b.enclaves, b.consecutive = endorsed, enclaves, 2
				if b.lifetime == 0 {
					b.lifetime = 3
				}
				explore(t, b)
			})
		}
		if level == *modelBounds {
			return
		}
	}
}

// explore visits every state within bounds once, nearest first, and logs how many there
// are. It fails at the first violation, and tells how it came about.
func explore(t *testing.T, b bounds) {
	t.Helper()
	start := time.Now()
	w := newModelWorld(t, b.consecutive, b.lifetime)
	m := &machine{modelLedger: newModelLedger(w, b.endorsed, b.successors), bounds: b, seen: map[string]int{}}
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
	// Bounds in which nothing happens would show nothing.
	b.sees = append(b.sees, "judged", "guess: ok")
	if b.kinds == "" || strings.Contains(b.kinds, "w") {
		b.sees = append(b.sees, "guess: pin-wrong")
	}
	for _, what := range b.sees {
		if m.seen[what] == 0 {
			t.Errorf("never seen: %s", what)
		}
	}
	var seen []string
	for what, n := range m.seen {
		seen = append(seen, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(seen)
	t.Logf("%.1f s: %d states, %d transitions, %d steps long; %d runs of Step, %d ledger calls, %d entries\n%s",
		time.Since(start).Seconds(), len(index), transitions, depth, len(m.steps), len(m.ops), len(m.heads), strings.Join(seen, ", "))
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
