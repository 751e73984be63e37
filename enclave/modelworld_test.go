package enclave

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// The model checker explores what the real Step does. A request is a pure function of
// the events that it got, so each distinct run of events is carried out once, with real
// keys and real boxes, and kept as a node of a tree; states of the whole system then
// name nodes. Randomness needs no abstraction: a node draws its random values once.

// headID names an entry that an enclave signed, and the account as the host's store
// has it when that entry is the newest. 0: no account.
type headID uint16

type headNode struct {
	head    wire.Head
	parent  headID // by the entry's own words
	entry   *ledger.Entry
	commit  *wire.Commit
	store   *ledgertest.Store // in which it is the newest
	note    ledger.Note
	pin     wire.Digest // the recovery key that guesses are judged by
	pins    int         // PIN sets up to here
	members []wire.DeviceID
}

type requestKind uint8

const (
	guess   requestKind = iota // a join by PIN
	syncing                    // of the first device
	pinSet                     // by the first device
)

// variant is a request as a client seals it.
type variant struct {
	kind  requestKind
	nth   uint8  // of the guesses
	right bool   // the guess
	pins  uint8  // PIN sets before its ticket was given
	known headID // what the first device remembers
}

// stepNode is a request after some events.
type stepNode struct {
	parent   stepID
	request  variant
	state    State
	effect   Effect
	head     headID // of the entry in effect, or of the hint
	judged   headID // the RESERVE on which the last event had a guess judged
	finished wire.Code
	own      headID // the entry whose standing the answer tells
	accepted headID // what the first device remembers after the answer
	alarm    bool   // it refuses the answer's history
}

type stepID uint32

type eventKey struct {
	node    stepID
	request variant // of the first event
	kind    byte    // r: received, h: head read, l: loaded, c: committed
	head    headID
	mixed   headID // whose account head comes with the entry, where not its own
	code    wire.Code
	other   bool // discontinued, or a receipt for another entry
}

// modelWorld is the part of the model that is the same in all states: trees of what
// components do.
type modelWorld struct {
	*world
	owner    *phone
	heads    []headNode
	headOf   map[wire.Head]headID
	guests   []*phone
	requests map[variant]Received
	pinReset *ask // the first device's PIN set, ticket and all
	steps    []stepNode
	stepOf   map[eventKey]stepID
	stepBy   map[string]stepID // by content
	failed   string            // an invariant that a node itself violates
}

const modelPIN, modelNewPIN = "928374", "564738"

func newModelWorld(t testing.TB, consecutive, lifetime uint64) *modelWorld {
	w := &modelWorld{world: newWorld(t), headOf: map[wire.Head]headID{}, requests: map[variant]Received{}, stepOf: map[eventKey]stepID{}, stepBy: map[string]stepID{}}
	w.config.PIN.ConsecutiveLimit, w.config.PIN.LifetimeLimit = consecutive, lifetime
	w.heads = []headNode{{store: ledgertest.NewStore()}}
	w.headOf[wire.Head{}] = 0
	w.steps = make([]stepNode, 1) // 0: none
	var enrolled *wire.Commit
	w.onCommit = func(c *wire.Commit) { enrolled = c }
	w.owner = w.device("alice").enrol(modelPIN)
	w.onCommit = nil
	if w.entry(enrolled) != 1 {
		t.Fatal("the account is not the first entry")
	}
	return w
}

// entry names the entry that a commit appends, and makes the store in which it stands.
func (w *modelWorld) entry(c *wire.Commit) headID {
	e := must(ledger.ParseEntry(c.Append.Entry))
	head := ledger.HeadOf(e, c.Append.Entry)
	if id, ok := w.headOf[head]; ok {
		return id
	}
	before := w.heads[w.headOf[c.Append.Expected]]
	n := headNode{head: head, entry: e, commit: c, store: ledgertest.NewStore(), pins: before.pins}
	n.parent = w.headOf[wire.Head{Sequence: e.Sequence - 1, Hash: e.Previous}]
	n.store.Restore(before.store.Snapshot())
	if _, err := n.store.Commit(w.t.Context(), c); err != nil {
		w.t.Fatalf("an enclave made a commit that does not fit where it says: %v", err)
	}
	state := n.store.Load(wire.Need{Account: w.owner.id0(w), State: true})
	a := must(w.core.open(w.owner.id0(w), head, &atHand{state: state}))
	n.note, n.pin = *a.note, a.head.Recovery.Public
	for _, d := range a.head.Devices {
		n.members = append(n.members, d.ID)
	}
	for _, id := range before.members {
		if !slices.Contains(n.members, id) {
			w.failed = "lost: an entry takes away a member that nobody revoked"
		}
	}
	if n.note.Kind == ledger.KindPINSet {
		n.pins++
	}
	id := headID(len(w.heads))
	w.heads, w.headOf[head] = append(w.heads, n), id
	return id
}

// id0 is the account; there is only one.
func (*phone) id0(w *modelWorld) wire.AccountID { return w.config.Issuers[0].AccountID("alice") }

// descends reports whether a is b, or lies on b's chain.
func (w *modelWorld) descends(b, a headID) bool {
	for w.heads[b].head.Sequence > w.heads[a].head.Sequence {
		b = w.heads[b].parent
	}
	return a == b
}

// honestly runs something on a store and a ledger that have one entry as the newest.
func (w *modelWorld) honestly(h headID, do func()) {
	w.store = ledgertest.NewStore()
	w.store.Restore(w.heads[h].store.Snapshot())
	w.ledger = freshLocal(w.core.Verifier).Over(w.store)
	do()
}

// received returns a request as an enclave gets it, but for what the host loads.
func (w *modelWorld) received(v variant) Received {
	if r, ok := w.requests[v]; ok {
		return r
	}
	var from *phone
	var a *ask
	at := headID(1)
	for int(v.pins) > w.heads[at].pins {
		at++
	}
	switch v.kind {
	case guess:
		for len(w.guests) <= int(v.nth) {
			w.guests = append(w.guests, w.device("alice"))
		}
		from = w.guests[v.nth]
		pin := map[bool]string{true: modelPIN, false: "000000"}[v.right]
		if v.right && v.pins > 0 {
			pin = modelNewPIN
		}
		w.honestly(at, func() { a = from.joinAsk(pin) })
		a.known = false
	case syncing:
		from = w.owner
		a = from.ask(wire.NewCommand(wire.CommandSync, wire.Sync{}))
		a.body.VaultSecret, a.body.Epoch = nil, 0
	case pinSet:
		from = w.owner
		if w.pinReset == nil {
			w.honestly(at, func() { w.pinReset = from.pinSetAsk(w.t.(*testing.T), modelNewPIN, from.login()) })
			w.pinReset.body.Number = 2
		}
		a = w.pinReset
	}
	if v.known > 0 {
		from.known = &w.heads[v.known].head
	}
	raw, _ := from.envelope(a)
	envelope := must(wire.ParseEnvelope(raw))
	r := Received{Envelope: envelope, Raw: raw, Opened: must(envelope.Open(w.hpke)), Now: w.wall, Time: w.now}
	w.requests[v] = r
	return r
}

// mix puts another entry's account head beside an entry.
func (w *modelWorld) mix(state wire.State, of headID) wire.State {
	if of > 0 && len(state.Head) > 0 {
		old := w.load(of, wire.Need{Account: w.owner.account, State: true})
		state.Head, state.Wraps = old.Head, old.Wraps
	}
	return state
}

func (w *modelWorld) load(h headID, n wire.Need) wire.State { return w.heads[h].store.Load(n) }

// begin is the node of a request that just came, with what the host loaded
// at hand: entry h, and the account head of another where mixed names one.
func (w *modelWorld) begin(v variant, h, mixed headID) stepID {
	key := eventKey{request: v, kind: 'r', head: h, mixed: mixed}
	return w.step(key, func() (State, Event) {
		r := w.received(v)
		need := wire.Need{Account: r.Envelope.Header.Account, State: true}
		if known := r.Envelope.Header.Known; known != nil {
			need.After = &known.Sequence
		}
		r.State = w.mix(w.load(h, need), mixed)
		return State{}, r
	})
}

func (w *modelWorld) loaded(id stepID, h, mixed headID, err error) stepID {
	key := eventKey{node: id, kind: 'l', head: h, mixed: mixed, code: wire.CodeOf(err)}
	return w.step(key, func() (State, Event) {
		s := w.steps[id].state.clone()
		if err != nil {
			return s, Loaded{Err: err}
		}
		return s, Loaded{State: w.mix(w.load(h, w.steps[id].effect.(Load).Need), mixed)}
	})
}

func (w *modelWorld) headRead(id stepID, o outcome) stepID {
	key := eventKey{node: id, kind: 'h', head: o.head, code: wire.CodeOf(o.err), other: o.discontinued}
	return w.step(key, func() (State, Event) {
		return w.steps[id].state.clone(), HeadRead{ledger.SignedHead{Head: w.heads[o.head].head, Freshness: o.freshness, Discontinued: o.discontinued}, o.err}
	})
}

func (w *modelWorld) committed(id stepID, o outcome) stepID {
	key := eventKey{node: id, kind: 'c', head: o.head, code: wire.CodeOf(o.err), other: o.other}
	return w.step(key, func() (State, Event) {
		r := ledger.Receipt{Head: w.heads[o.head].head}
		if o.other {
			r.Head = wire.Head{Sequence: 1 << 20}
		}
		return w.steps[id].state.clone(), Committed{r, o.err}
	})
}

func (w *modelWorld) step(key eventKey, prepare func() (State, Event)) stepID {
	if id, ok := w.stepOf[key]; ok {
		return id
	}
	before := w.steps[key.node]
	n := stepNode{parent: key.node, request: before.request}
	if key.kind == 'r' {
		n.request = key.request
	}
	state, event := prepare()
	next, effects := w.core.Step(state, event)
	if len(effects) != 1 {
		w.t.Fatalf("%d effects", len(effects))
	}
	n.state, n.effect = next, effects[0]
	if newlyJudged(before.state.attempt, next.attempt) {
		n.judged = w.headOf[next.at.Head]
		if e := w.heads[n.judged]; e.note.Kind != ledger.KindReserve || e.head.Sequence != next.attempt.sequence {
			w.failed = "a guess was judged without a RESERVE that stands"
		}
	}
	switch e := n.effect.(type) {
	case ReadHead:
		if len(e.Hint) > 0 {
			n.head = w.headOf[ledger.HeadOf(must(ledger.ParseEntry(e.Hint)), e.Hint)]
		}
	case Commit:
		n.head = w.entry(&e.Commit)
	case Reply:
		w.finish(&n, e.Response)
	}
	same := ""
	if n.judged == 0 {
		same = w.content(&n)
	}
	id, ok := w.stepBy[same]
	if !ok || same == "" {
		id = stepID(len(w.steps))
		w.steps, w.stepBy[same] = append(w.steps, n), id
	}
	w.stepOf[key] = id
	return id
}

// content is all that a request's further course hangs on, where nothing random was
// drawn since the last event: requests that came there by different ways are one.
func (w *modelWorld) content(n *stepNode) string {
	s := &n.state
	var need any
	switch e := n.effect.(type) {
	case Commit, Reply, FetchKeys:
		return ""
	case Load:
		need = e.Need
	}
	of := func(p *pending) (h wire.Head) {
		if p != nil {
			h = p.head
		}
		return h
	}
	text := []any{n.request, n.head, s.phase, s.at, s.matched, s.loads, s.races, s.spent, s.missed, of(s.pending), s.login,
		slices.Sorted(maps.Keys(s.have.entries)), s.have.loaded, s.have.keys, s.have.fetches, s.have.issuer, s.have.refreshed}
	var blobs []string
	for b := range s.have.blobs {
		blobs = append(blobs, string(b[:]))
	}
	slices.Sort(blobs)
	if a := s.attempt; a != nil {
		var sent []wire.Head
		for _, p := range a.sent {
			sent = append(sent, p.head)
		}
		text = append(text, a.public, a.gen, of(a.own), sent, a.sequence, a.judged, a.right, a.note, wire.BlobHash(a.envelope))
	}
	h := sha256.New()
	fmt.Fprintf(h, "%v %q %x %x", text, blobs, wire.Marshal(s.have.state), wire.Marshal([]any{need, s.have.need, s.have.entries, s.have.manifest}))
	return string(h.Sum(nil))
}

func newlyJudged(before, now *attempt) bool {
	return now != nil && now.judged && (before == nil || !before.judged || before.join != now.join)
}

// finish finds out what an answer tells whoever gets it.
func (w *modelWorld) finish(n *stepNode, r *wire.Response) {
	n.finished = "ok"
	if r.Error != nil {
		n.finished = r.Error.Code
	}
	told := r.Error == nil || n.finished == wire.CodePINWrong || n.finished == wire.CodePINLocked
	switch s := &n.state; {
	case told && s.attempt != nil && s.attempt.judged:
		n.own = w.headOf[s.attempt.own.head]
	case r.Error == nil && s.pending != nil:
		n.own = w.headOf[s.pending.head]
	}
	if n.request.kind == guess {
		return
	}
	known := w.heads[n.request.known]
	remembered := ledger.Remembered{
		Head: known.head, Generation: known.entry.Generation, Epoch: known.entry.Epoch, Signer: known.entry.Signer[:],
	}
	n.accepted = n.request.known
	if r.Newest.Sequence == 0 && r.Error != nil {
		return // says nothing about the history
	}
	if _, err := remembered.Extend(w.core.Verifier(), known.entry.Stream, r.Newest, r.Entries); err != nil {
		n.alarm = true
		return
	}
	if remembered.Head != r.Newest {
		w.failed = "a device takes an answer whose newest entry it does not remember then"
	}
	n.accepted = w.headOf[remembered.Head]
}

// clone copies what Step changes in place. A confirm does not stand in the model; its state
// is replaced, never changed.
func (s State) clone() State {
	s.have.blobs, s.have.entries, s.have.keys = maps.Clone(s.have.blobs), maps.Clone(s.have.entries), maps.Clone(s.have.keys)
	if s.attempt != nil {
		a := *s.attempt
		a.sent = slices.Clone(a.sent)
		s.attempt = &a
	}
	return s
}

// A field that is new must be looked at by clone, and then be listed here.
func TestCloneKnowsAllFields(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		of   any
		want string
	}{
		{State{}, "[phase in request body at lost have pending attempt confirming login loads matched races spent missed]"},
		{atHand{}, "[state entry entryOf blobs entries manifest loaded keys fetches need issuer refreshed]"},
		{attempt{}, "[join ticket envelope public gen own sent sequence judged right unlock note]"},
		{pending{}, "[commit head response joined]"},
	} {
		var fields []string
		for f := range reflect.TypeOf(test.of).Fields() {
			fields = append(fields, f.Name)
		}
		if got := fmt.Sprint(fields); got != test.want {
			t.Errorf("%T has %s, clone knows %s", test.of, got, test.want)
		}
	}
}
