package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/endorsement"
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
