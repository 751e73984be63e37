package endorsed_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

var soakTime = flag.Duration("soak", time.Second, "how long the soak of the endorsed ledger runs at least, for each size of a group")

// operation is one call on one stream, as its caller saw it.
type operation struct {
	stream   int
	expected wire.Head // an append's
	next     wire.Head // an append's; zero: a read
}

// register is what the ledger must look like for each stream: a head that a read returns,
// and that an append replaces if it is the expected one.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var out [][]porcupine.Operation
		for _, o := range history {
			s := o.Input.(operation).stream
			for len(out) <= s {
				out = append(out, nil)
			}
			out[s] = append(out[s], o)
		}
		return out
	},
	Init: func() any { return wire.Head{} },
	Step: func(state, input, output any) (bool, any) {
		o := input.(operation)
		if o.next == (wire.Head{}) {
			return state == output, state
		}
		return state == o.expected, o.next
	},
}

// history collects what clients saw.
type history struct {
	mu      sync.Mutex
	began   time.Time
	done    []porcupine.Operation
	unknown []porcupine.Operation // appends whose outcome nobody was told
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) add(client int, o operation, head wire.Head, from int64, unknown bool) {
	to := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	p := porcupine.Operation{ClientId: client, Input: o, Output: head, Call: from, Return: to}
	if unknown {
		h.unknown = append(h.unknown, p)
		return
	}
	h.done = append(h.done, p)
}

// linearizable checks a history. What became of an append in doubt the chain says, which
// stands in the end: either it took place, at any time after it began, or never.
func (h *history) linearizable(t *testing.T, chain map[wire.Head]bool) bool {
	t.Helper()
	end := h.now()
	for _, p := range h.unknown {
		if chain[p.Input.(operation).next] {
			p.Return = end
			h.done = append(h.done, p)
		}
	}
	result := porcupine.CheckOperationsTimeout(register, h.done, 2*time.Minute)
	if result == porcupine.Unknown {
		t.Fatal("not decided in time")
	}
	return result == porcupine.Ok
}

// Several enclaves on one database, members that are away, frames that are lost, come
// twice or come late, writes that fail or only seem to, old hints, view changes: every
// stream behaves as if its calls came one after another.
func TestSoak(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 5} {
		s := newService(t, size)
		w := &soak{service: s, history: history{began: time.Now()}}
		for range 4 {
			x := *s
			x.account[0]++
			s.account = x.account
			w.streams = append(w.streams, &x)
		}
		w.run(*soakTime)
		chain := map[wire.Head]bool{}
		for i, x := range w.streams {
			from := w.now()
			w.add(0, operation{stream: i}, x.enclave().mustRead(), from, false)
			if a := s.Store.Accounts[x.account]; a != nil {
				for _, b := range a.Entries {
					e, err := ledger.ParseEntry(b)
					if err != nil {
						t.Fatal(err)
					}
					chain[ledger.HeadOf(e, b)] = true
				}
			}
		}
		if !w.linearizable(t, chain) {
			t.Fatalf("%d members: the history is not linearizable", size)
		}
		reads, appends := 0, 0
		for _, o := range w.done {
			if o.Input.(operation).next == (wire.Head{}) {
				reads++
			} else {
				appends++
			}
		}
		t.Logf("%d members: %d reads, %d appends (%d in doubt), %d views", size, reads, appends, len(w.unknown), s.View().Number)
	}
}

type soak struct {
	*service
	history
	streams []*service
	least   time.Time
	ended   atomic.Bool
	late    struct {
		sync.Mutex
		frames []func() ([]byte, error)
	}
}

func (w *soak) run(d time.Duration) {
	w.Play(w.carry)
	w.Store.Before = func(*wire.Commit) ledgertest.Fault {
		return []ledgertest.Fault{ledgertest.Failed, ledgertest.FailedButDone, ledgertest.Twice, 9: ledgertest.NoFault}[rand.IntN(10)]
	}
	w.least = time.Now().Add(d)
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() { w.client(i) })
	}
	clients.Go(w.faults)
	clients.Wait()
	w.Play(nil)
	w.Store.Before = nil
	w.only(seq(0, len(w.View().Groups[0]))...)
}

// carry is a bad network, and a host that keeps frames to send them again.
func (w *soak) carry(_ []byte, kind wire.FrameKind, _ []byte, deliver func() ([]byte, error)) ([]byte, error) {
	switch rand.IntN(40) {
	case 0:
		return nil, refused(kind)
	case 1: // it arrives, and its answer is lost
		deliver()
		return nil, refused(kind)
	case 2: // it comes twice
		deliver()
	case 3: // it comes late
		w.late.Lock()
		w.late.frames = append(w.late.frames, deliver)
		w.late.Unlock()
		return nil, refused(kind)
	}
	return deliver()
}

// faults takes a minority away and brings it back, sends late frames, and changes views.
func (w *soak) faults() {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 1; !w.ended.Load(); i++ {
		<-tick.C
		group := w.View().Groups[0]
		order := rand.Perm(len(group))
		w.only(order[:len(group)/2+1+rand.IntN(len(group)/2+1)]...)
		w.late.Lock()
		frames := w.late.frames
		w.late.frames = nil
		w.late.Unlock()
		for _, f := range frames {
			f()
		}
		if i%50 == 0 {
			w.only(order...)
			kept := rand.IntN(len(group) + 1)
			next := append(slices.Clone(group[:kept]), w.Fresh(len(group)-kept)...)
			if err := w.Change(next); err != nil {
				w.t.Errorf("view change: %v", err)
				w.ended.Store(true)
			}
		}
		if time.Now().After(w.least) && w.View().Number > 2 && w.busy() || w.ctx.Err() != nil {
			w.ended.Store(true)
		}
	}
}

// busy reports whether enough happened to be worth a verdict.
func (w *soak) busy() bool {
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	return len(w.done) > 200 && len(w.unknown) > 20
}

// client is an enclave that is started again now and then.
func (w *soak) client(id int) {
	var enclaves []*enclave
	for n := 0; !w.ended.Load(); n++ {
		if n%100 == 0 {
			shared := w.enclave().ledger
			enclaves = nil
			for _, x := range w.streams {
				enclaves = append(enclaves, &enclave{x, shared, w.Store})
			}
		}
		i := rand.IntN(len(w.streams))
		e := enclaves[i]
		hint, _ := w.Store.Newest(w.ctx, e.s.account)
		if rand.IntN(5) == 0 {
			hint = nil // as old as can be
		}
		from := w.now()
		h, err := e.readWith(hint)
		if wire.CodeOf(err) == wire.CodeRollback {
			w.t.Errorf("an honest host is accused: %v", err)
		}
		if err != nil {
			continue
		}
		if h.Discontinued {
			w.t.Errorf("stream %d is discontinued", i)
			return
		}
		w.add(id, operation{stream: i}, h.Head, from, false)
		if rand.IntN(2) == 0 {
			continue
		}
		from = w.now()
		next, err := e.appendTo(h.Head)
		switch wire.CodeOf(err) {
		case "":
			w.add(id, operation{i, h.Head, next}, wire.Head{}, from, false)
		case wire.CodeConflict: // another was faster: nothing was changed
		default:
			w.add(id, operation{i, h.Head, next}, wire.Head{}, from, true)
		}
	}
}

// The soak would find it: an old head that is read after a newer one was acknowledged, two
// entries at one place, an acknowledged entry that is lost.
func TestSoakFinds(t *testing.T) {
	t.Parallel()
	one, two, other := wire.Head{Sequence: 1, Hash: wire.Digest{1}}, wire.Head{Sequence: 2, Hash: wire.Digest{2}}, wire.Head{Sequence: 2, Hash: wire.Digest{3}}
	appended := func(at, next wire.Head) porcupine.Operation {
		return porcupine.Operation{Input: operation{0, at, next}, Output: wire.Head{}}
	}
	read := func(h wire.Head) porcupine.Operation {
		return porcupine.Operation{Input: operation{stream: 0}, Output: h}
	}
	for name, x := range map[string]struct {
		ok      bool
		history []porcupine.Operation
	}{
		"all is well":       {true, []porcupine.Operation{read(wire.Head{}), appended(wire.Head{}, one), read(one), appended(one, two), read(two)}},
		"an old head":       {false, []porcupine.Operation{appended(wire.Head{}, one), appended(one, two), read(one)}},
		"two at one place":  {false, []porcupine.Operation{appended(wire.Head{}, one), appended(one, two), appended(one, other)}},
		"lost":              {false, []porcupine.Operation{appended(wire.Head{}, one), read(wire.Head{})}},
		"a head of nothing": {false, []porcupine.Operation{appended(wire.Head{}, one), read(two)}},
	} {
		for i := range x.history {
			x.history[i].Call, x.history[i].Return = int64(2*i), int64(2*i+1)
		}
		h := &history{began: time.Now(), done: x.history}
		if got := h.linearizable(t, nil); got != x.ok {
			t.Errorf("%s: linearizable is %v", name, got)
		}
	}
}
