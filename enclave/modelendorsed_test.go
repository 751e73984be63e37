package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// runEndorsed runs the endorsed ledger with its goroutines, in a bubble that tells when
// all of them wait.
func (l *modelLedger) runEndorsed(n *opNode) {
	synctest.Test(l.t.(*testing.T), func(t *testing.T) {
		h := &relays{l: l, abort: make(chan struct{}), views: l.views}
		switch {
		case n.key.memory == fakeViews:
			h.chain, h.views = l.fake, []modelView{l.forged}
		case len(l.views) == 1:
			h.chain = l.shown(0)
		}
		m := endorsed.New(endorsed.Options{
			Identity: wire.LedgerIdentity{ID: l.config.Ledger.ID, Backend: wire.BackendEndorsed, Genesis: l.genesis(), Number: 1},
			Verifier: l.core.Verifier, Key: l.core.LedgerKey,
			Evidence: func(context.Context) ([]byte, error) { return nil, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan outcome, 1)
		go func() { done <- l.call(ctx, m.Over(h), n.key) }()
		for _, together := range n.answers {
			synctest.Wait()
			round := h.round
			for _, a := range together {
				if h.round == round {
					h.say(a)
				}
				synctest.Wait()
			}
		}
		synctest.Wait()
		select {
		case n.outcome = <-done:
			n.view = h.view
		default:
			h.waiting(n)
		}
		cancel()
		close(h.abort)
	})
}

func (l *modelLedger) genesis() []byte {
	hash := l.views[0].Hash()
	return hash[:]
}

// relays is the host of one call of the endorsed ledger: it lets everybody wait until
// it is told what to say.
type relays struct {
	l     *modelLedger
	abort chan struct{}
	chain []byte // of views; nil: the host chooses anew each time
	views []modelView

	mu    sync.Mutex
	store *relayed // the call that waits for the database, or for views
	asked []*relayed
	view  int // of those asked
	round int
}

type relayed struct {
	waits  waits
	view   int
	member int
	body   []byte
	answer chan answer
}

var errAborted = wire.Errorf(wire.CodeUnavailable, "the model has seen enough")

func (h *relays) wait(c *relayed) (answer, bool) {
	select {
	case a := <-c.answer:
		return a, true
	case <-h.abort:
		return answer{}, false
	}
}

// ask has a call wait for what the host says; false: the model has seen enough.
func (h *relays) ask(w waits) (answer, bool) {
	c := &relayed{waits: w, answer: make(chan answer, 1)}
	h.mu.Lock()
	h.store = c
	h.mu.Unlock()
	return h.wait(c)
}

func (h *relays) Views(context.Context) ([]byte, error) {
	if h.chain != nil {
		return h.chain, nil
	}
	a, ok := h.ask(waitsViews)
	if !ok {
		return nil, errAborted
	}
	return h.l.shown(a.head), nil
}

func (h *relays) Newest(context.Context, wire.AccountID) ([]byte, error) {
	a, ok := h.ask(waitsNewest)
	if !ok {
		return nil, errAborted
	}
	return h.l.newest(a)
}

func (h *relays) Commit(_ context.Context, commit *wire.Commit) (wire.Appended, error) {
	a, ok := h.ask(waitsCommit)
	if !ok {
		return wire.Appended{}, errAborted
	}
	return h.l.appended(commit, a)
}

func (h *relays) Relay(_ context.Context, key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	c := &relayed{waits: waitsEndorser, body: body, answer: make(chan answer, 1)}
	for i, v := range h.views {
		if j := slices.IndexFunc(v.keys, func(k ed25519.PrivateKey) bool { return string(k.Public().(ed25519.PublicKey)) == string(key) }); j >= 0 {
			c.view, c.member = i, j
		}
	}
	h.mu.Lock()
	if len(h.asked) == 0 || string(h.asked[0].body) != string(body) {
		h.asked = nil // who was not asked before the call went on is not waited for
		h.view = c.view
		h.round++
	}
	h.asked = append(h.asked, c)
	h.mu.Unlock()
	a, ok := h.wait(c)
	if !ok {
		return nil, errAborted
	}
	return h.relay(c, body, a)
}

// relay makes an endorser's answer: what it says is the endorser's own code's, see took.
func (h *relays) relay(c *relayed, body []byte, a answer) ([]byte, error) {
	v := h.views[c.view]
	by, asked := v.keys[c.member], body
	out := endorsement.Answer{Heads: []wire.Head{h.l.heads[a.head].head}}
	switch a.kind {
	case sayHead:
	case sayBroken:
		out.Discontinued = []uint64{0}
	case sayForeign:
		by = v.keys[(c.member+1)%len(v.keys)]
	case sayOld:
		ask := *must(endorsement.ParseAsk(body))
		ask.Nonce[0] ^= 1
		asked = wire.Marshal(&ask)
	case sayNotMember:
		return nil, wire.Errorf(wire.CodeView, "says an endorser")
	default:
		return nil, wire.Errorf(wire.CodeUnavailable, "no answer")
	}
	out.Sign(by, v.Hash(), asked)
	return wire.Marshal(&out), nil
}

// say answers whoever waits; members wait for their turn in order.
func (h *relays) say(a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.store != nil {
		h.store.answer <- a
		h.store = nil
		return
	}
	slices.SortFunc(h.asked, func(x, y *relayed) int { return x.member - y.member })
	i := slices.IndexFunc(h.asked, func(c *relayed) bool { return c.waits == waitsEndorser })
	if i < 0 {
		return
	}
	h.asked[i].waits = waitsNothing
	h.asked[i].answer <- a
}

func (h *relays) waiting(n *opNode) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.store != nil {
		n.waits = h.store.waits
		return
	}
	n.waits, n.round, n.view = waitsEndorser, h.round, h.view
	if a := must(endorsement.ParseAsk(h.asked[0].body)); len(a.Appends) > 0 {
		n.ask = h.l.ask(modelAsk{h.view, a.Appends[0]})
	}
}

// took is where an endorser stands after an ask: a real endorser's word. One that gave its
// last word in its view refuses instead.
func (l *modelLedger) took(at headID, ask askID, ended bool) (to headID, refused bool) {
	if !ended && (ask == 0 || at == 0) {
		return at, false
	}
	key := endorsing{at, ask, ended}
	if to, ok := l.tookOf[key]; ok {
		return to, to == lostMemory
	}
	e, view := l.serving(at)
	if ended {
		if _, err := e.Finalise(l.world.Succession(view.Next([]endorsement.Group{l.world.Fresh(3)}))); err != nil {
			l.t.Fatal(err)
		}
	}
	var a *endorsement.Append
	if ask > 0 {
		a = &l.asks[ask].Append
	}
	answer, err := l.told(e, view, a)
	switch {
	case err == nil:
		to = l.headOf[answer.Heads[0]]
	case ended && wire.CodeOf(err) == wire.CodeView:
		to = lostMemory
	default:
		l.t.Fatal(err)
	}
	l.tookOf[key] = to
	return to, to == lostMemory
}

// serving is an endorser that stands at a head, in a view of its own.
func (l *modelLedger) serving(at headID) (*endorser.Endorser, *endorsement.View) {
	e := endorser.New(&endorser.Configuration{Ledger: l.config.Ledger.ID, Number: 1, Operator: wire.Base64(l.world.Operator.Public().(ed25519.PublicKey))}, l.world)
	first := l.views[0].Groups[0]
	mine := &endorsement.View{Version: wire.Version, Ledger: l.config.Ledger.ID, Genesis: 1, Number: 1, Groups: []endorsement.Group{
		{{Key: e.Key(), Evidence: endorsement.EvidenceHash(e.Key())}, first[1], first[2]},
	}}
	for i := range mine.Groups[0] {
		mine.Groups[0][i].Evidence = endorsement.EvidenceHash(mine.Groups[0][i].Key)
	}
	if err := e.Found(l.world.Succession(mine)); err != nil {
		l.t.Fatal(err)
	}
	l.bring(e, mine, at)
	return e, mine
}

// bring has an endorser that just entered a view stand at a head: by one append.
func (l *modelLedger) bring(e *endorser.Endorser, view *endorsement.View, at headID) {
	public, _ := l.core.LedgerKey()
	if err := e.Introduce([]byte(public)); err != nil {
		l.t.Fatal(err)
	}
	n := &l.heads[at]
	answer, err := l.told(e, view, &endorsement.Append{Stream: n.entry.Stream, Expected: l.heads[n.parent].head, Next: n.head})
	if err != nil || answer.Heads[0] != n.head {
		l.t.Fatal("an endorser without a memory does not take the first append")
	}
}

// told asks an endorser for an append; nil: for the newest head.
func (l *modelLedger) told(e *endorser.Endorser, view *endorsement.View, a *endorsement.Append) (*endorsement.Answer, error) {
	ask := endorsement.Ask{View: view.Hash()}
	rand.Read(ask.Nonce[:])
	if a == nil {
		ask.Reads = []wire.StreamID{wire.Stream(l.config.Ledger.ID, l.owner.account)}
	} else {
		ask.Appends = []endorsement.Append{*a}
		ask.Sign(l.core.LedgerKey())
	}
	return e.Ask(wire.Marshal(&ask))
}
