package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// A call of the ledger is carried out anew for each distinct run of answers that the
// host gave it so far, by the real backend, up to where it waits for the next one.

// answer is what the host says to a ledger that waits.
type answer struct {
	kind byte
	head headID
}

const (
	sayNewest    = 'n' // this is the newest entry
	sayFailed    = 'f' // unavailable; of an endorser: no answer
	sayDone      = 'c' // the commit is written
	sayConflict  = 'x' // it is not: another was faster
	sayFull      = 's' // it is not: no room
	sayOther     = 'w' // another entry is written
	sayHead      = 'a' // an endorser's answer
	sayOld       = 'p' // an endorser's answer to an earlier ask
	sayForeign   = 'd' // an endorser's answer in another one's name
	sayNotMember = 'v' // an endorser has no such view, or ended it
	sayBroken    = 'b' // an endorser's answer that the stream is discontinued
	sayViews     = 'g' // this chain of views, see shown
)

// outcome is how a ledger's call ended.
type outcome struct {
	head         headID
	freshness    string
	discontinued bool
	other        bool // a receipt for another entry
	err          error
}

// waits is what a call waits for.
type waits byte

const (
	waitsNothing waits = iota // it ended
	waitsNewest
	waitsCommit
	waitsEndorser
	waitsViews
)

type opKey struct {
	append bool
	head   headID // the hint, or the entry to append
	memory memoryID
	before opID
	say    string // answers
}

type opID uint32

type opNode struct {
	key     opKey // of the first
	answers [][]answer
	waits   waits
	ask     askID // waitsEndorser: what is asked; 0: the newest head
	view    int   // whose members were asked last
	round   int   // of asks
	outcome outcome
	memory  memoryID // afterwards
}

// memoryID names what an enclave's ledger remembers between calls.
type memoryID uint16

// fakeViews: an endorsed ledger, which learns of views anew in each call, is shown a
// chain of views that leads to the host's own endorsers.
const fakeViews memoryID = 1

// memoryNode is a local ledger's memory: the calls that led to it.
type memoryNode struct{ calls []opID }

// askID names an append that endorsers are asked for. 0: none.
type askID uint16

// modelLedger is the part of the model that knows a backend.
type modelLedger struct {
	*modelWorld
	endorsed bool
	ops      []opNode
	opOf     map[opKey]opID
	memories []memoryNode
	memoryOf map[string]memoryID
	asks     []modelAsk
	askOf    map[modelAsk]askID

	// of the endorsed backend
	world  *endorsedtest.World
	views  []modelView // the first, and successors that the operator wishes for
	forged modelView   // of the host's own endorsers, which no member named
	fake   []byte      // chain of views that leads there
	tookOf map[endorsing]headID
	viewChanges
}

// modelAsk is an append as the members of a view are asked for it.
type modelAsk struct {
	view int
	endorsement.Append
}

type modelView struct {
	*endorsement.View
	keys []ed25519.PrivateKey // of its members
}

type endorsing struct {
	at    headID
	ask   askID
	ended bool // it gave its last word before
}

func freshLocal(verifier func() *ledger.Verifier) *local.Memory { return local.New(verifier) }

func newModelLedger(w *modelWorld, isEndorsed bool, successors int) *modelLedger {
	l := &modelLedger{
		modelWorld: w, endorsed: isEndorsed, opOf: map[opKey]opID{}, memoryOf: map[string]memoryID{},
		askOf: map[modelAsk]askID{}, tookOf: map[endorsing]headID{}, viewChanges: newViewChanges(),
	}
	l.ops, l.asks, l.memories = make([]opNode, 1), make([]modelAsk, 1), make([]memoryNode, 1)
	l.memoryOf[l.digest(local.New(w.core.Verifier))] = 0
	if !isEndorsed {
		return l
	}
	key := ledger.Key(w.config.Ledger.ID, w.keks[0].Key)
	l.world = endorsedtest.New(w.t, &ledgertest.Keys{LedgerID: w.config.Ledger.ID, Private: key, Verifier: w.core.Verifier()}, 3)
	first := l.withMembers(&endorsement.View{Version: wire.Version, Ledger: w.config.Ledger.ID, Genesis: 1, Number: 1, Groups: []endorsement.Group{nil}})
	l.views = []modelView{first}
	for range successors {
		l.views = append(l.views, l.withMembers(first.Next([]endorsement.Group{nil})))
	}
	l.forged = l.withMembers(first.Next([]endorsement.Group{nil}))
	l.fake = wire.Marshal(&endorsement.Chain{Links: []endorsement.Link{{View: first.Encode()}, {View: l.forged.Encode()}}})
	return l
}

// withMembers gives a view three new members.
func (l *modelLedger) withMembers(v *endorsement.View) modelView {
	out := modelView{View: v}
	for range 3 {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			l.t.Fatal(err)
		}
		out.keys = append(out.keys, private)
		v.Groups[0] = append(v.Groups[0], endorsement.Member{Key: []byte(public)})
	}
	return out
}

// digest is all that a local ledger remembers.
func (l *modelLedger) digest(m *local.Memory) string {
	v := reflect.ValueOf(m).Elem()
	for f := range v.Type().Fields() {
		if !slices.Contains([]string{"verifier", "mu", "streams", "doubt"}, f.Name) {
			l.t.Fatalf("local.Memory has a field that the model checker does not know: %s", f.Name)
		}
	}
	return fmt.Sprint(v.FieldByName("streams"), v.FieldByName("doubt"))
}

func (l *modelLedger) ask(a modelAsk) askID {
	id, ok := l.askOf[a]
	if !ok {
		id = askID(len(l.asks))
		l.asks, l.askOf[a] = append(l.asks, a), id
	}
	return id
}

// start is a call that just began: a read with a hint, or an append.
func (l *modelLedger) start(appends bool, head headID, memory memoryID) opID {
	return l.op(opKey{append: appends, head: head, memory: memory})
}

// say is the call after more answers: all to one ask, if they are several. Those for
// which it does not wait any more are dropped.
func (l *modelLedger) say(before opID, answers ...answer) opID {
	var said []byte
	for _, a := range answers {
		said = append(said, a.kind, byte(a.head>>8), byte(a.head))
	}
	return l.op(opKey{before: before, say: string(said)})
}

func heard(said string) (answers []answer) {
	for i := 0; i < len(said); i += 3 {
		answers = append(answers, answer{said[i], headID(said[i+1])<<8 | headID(said[i+2])})
	}
	return answers
}

func (l *modelLedger) op(key opKey) opID {
	if id, ok := l.opOf[key]; ok {
		return id
	}
	n := opNode{key: key}
	if key.before > 0 {
		b := l.ops[key.before]
		n.key, n.answers = b.key, append(slices.Clone(b.answers), heard(key.say))
	}
	if l.endorsed {
		l.runEndorsed(&n)
	} else {
		l.runLocal(&n)
	}
	id := opID(len(l.ops))
	l.ops, l.opOf[key] = append(l.ops, n), id
	if !l.endorsed && n.waits == waitsNothing {
		l.ops[id].memory = l.remember(n.key.memory, id)
	}
	return id
}

// call is the ledger's own code, on a request's goroutine.
func (l *modelLedger) call(ctx context.Context, to ledger.Ledger, key opKey) outcome {
	if key.append {
		r, err := to.CompareAndAppend(ctx, l.heads[key.head].commit)
		head, ok := l.headOf[r.Head]
		return outcome{head: head, other: !ok, err: err}
	}
	account := l.owner.account
	h, err := to.ReadHead(ctx, account, wire.Stream(l.config.Ledger.ID, account), [32]byte{}, l.entryOf(key.head))
	return outcome{head: l.headOf[h.Head], freshness: h.Freshness, discontinued: h.Discontinued, err: err}
}

func (l *modelLedger) entryOf(h headID) []byte {
	if h == 0 {
		return nil
	}
	return l.heads[h].commit.Append.Entry
}

// runLocal runs the embedded ledger, which waits for its store alone.
func (l *modelLedger) runLocal(n *opNode) {
	m := l.rebuild(n.key.memory)
	s := &scripted{l: l, answers: n.answers}
	defer func() {
		if r := recover(); r != nil {
			w, ok := r.(waits)
			if !ok {
				panic(r)
			}
			n.waits = w
		}
	}()
	n.outcome = l.call(l.t.Context(), m.Over(s), n.key)
}

// remember names the memory that a call leaves behind.
func (l *modelLedger) remember(before memoryID, call opID) memoryID {
	m := l.rebuild(before)
	n := l.ops[call]
	l.call(l.t.Context(), m.Over(&scripted{l: l, answers: n.answers}), n.key)
	d := l.digest(m)
	id, ok := l.memoryOf[d]
	if !ok {
		id = memoryID(len(l.memories))
		l.memories = append(l.memories, memoryNode{append(slices.Clone(l.memories[before].calls), call)})
		l.memoryOf[d] = id
	}
	return id
}

func (l *modelLedger) rebuild(id memoryID) *local.Memory {
	m := local.New(l.core.Verifier)
	for _, call := range l.memories[id].calls {
		n := l.ops[call]
		l.call(l.t.Context(), m.Over(&scripted{l: l, answers: n.answers}), n.key)
	}
	return m
}

// scripted is a store that gives prepared answers, and ends the call behind them.
type scripted struct {
	l       *modelLedger
	answers [][]answer
}

func (s *scripted) next(w waits) answer {
	if len(s.answers) == 0 {
		panic(w)
	}
	a := s.answers[0][0]
	s.answers = s.answers[1:]
	return a
}

func (s *scripted) Newest(context.Context, wire.AccountID) ([]byte, error) {
	return s.l.newest(s.next(waitsNewest))
}

func (s *scripted) Commit(_ context.Context, c *wire.Commit) (wire.Appended, error) {
	return s.l.appended(c, s.next(waitsCommit))
}

func (l *modelLedger) newest(a answer) ([]byte, error) {
	if a.kind != sayNewest {
		return nil, wire.Errorf(wire.CodeUnavailable, "says the host")
	}
	return l.entryOf(a.head), nil
}

// appended is what the enclave makes of a host's answer: see hostsError in its runtime.
func (l *modelLedger) appended(c *wire.Commit, a answer) (done wire.Appended, err error) {
	switch a.kind {
	case sayDone:
		return wire.Appended{Newest: l.heads[l.entry(c)].head}, nil
	case sayOther:
		return wire.Appended{Newest: wire.Head{Sequence: 1 << 20}}, nil
	case sayConflict:
		return done, wire.Errorf(wire.CodeConflict, "says the host")
	case sayFull:
		return done, wire.Errorf(wire.CodeStorageFull, "says the host")
	}
	return done, wire.Errorf(wire.CodeUnavailable, "says the host")
}

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
