package endorsed

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

const (
	maxFlights = 4               // round trips of one group under way
	answerTime = 5 * time.Second // for an endorser's answer
)

// question is one stream's part of an ask.
type question struct {
	ctx    context.Context
	host   Host
	stream wire.StreamID
	append *endorsement.Append // nil: a read
	answer chan tally          // buffered
}

// tally is what a group said about one stream.
type tally struct {
	answers int         // of distinct members
	newest  wire.Head   // a read: the one that a majority names, else the highest that was named
	stands  bool        // a majority names newest, or the append's Next
	lost    bool        // a majority holds another entry at the append's place
	broken  bool        // a member says that the stream is discontinued
	view    wire.Digest // hash of the view that was asked
	err     error       // of members that did not answer, where they were too many
	heads   []wire.Head // one a member
}

// group collects the questions about its streams: while some round trips are under way,
// those that come wait and go together in the next one.
type group struct {
	mu      sync.Mutex
	flights int
	waiting []*question
}

// ask puts a question and waits for what the group says.
func (m *Memory) ask(ctx context.Context, v *current, host Host, stream wire.StreamID, a *endorsement.Append) (tally, error) {
	q := &question{ctx: ctx, host: host, stream: stream, append: a, answer: make(chan tally, 1)}
	g := &v.groups[v.view.GroupOf(stream)]
	g.mu.Lock()
	g.waiting = append(g.waiting, q)
	if g.flights < maxFlights {
		g.flights++
		go m.fly(v, g)
	}
	g.mu.Unlock()
	select {
	case t := <-q.answer:
		return t, t.err
	case <-ctx.Done():
		g.mu.Lock()
		g.waiting = slices.DeleteFunc(g.waiting, func(w *question) bool { return w == q })
		g.mu.Unlock()
		return tally{}, wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}

// fly makes round trips for what waits until nothing does.
func (m *Memory) fly(v *current, g *group) {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), endorsement.MaxStreams)
		if n == 0 {
			g.flights--
			g.mu.Unlock()
			return
		}
		batch := slices.Clone(g.waiting[:n])
		g.waiting = slices.Delete(g.waiting, 0, n)
		g.mu.Unlock()
		m.roundTrip(v, batch)
	}
}

// roundTrip asks all members of a group at once. The nonce is drawn here, after every
// question of the batch came. It returns when each has its answer or can get none.
func (m *Memory) roundTrip(v *current, batch []*question) {
	ask := endorsement.Ask{View: v.hash}
	rand.Read(ask.Nonce[:])
	order := make([]*question, 0, len(batch)) // as the ask has them
	for _, q := range batch {
		if q.append == nil {
			ask.Reads, order = append(ask.Reads, q.stream), append(order, q)
		}
	}
	for _, q := range batch {
		if q.append != nil {
			ask.Appends, order = append(ask.Appends, *q.append), append(order, q)
		}
	}
	if len(ask.Appends) > 0 {
		ask.Sign(m.key())
	}
	encoded := wire.Marshal(&ask)

	// The host of the first question carries the whole batch; it is the same process.
	ctx, done := context.WithTimeout(context.WithoutCancel(batch[0].ctx), answerTime)
	members := v.view.Groups[v.view.GroupOf(batch[0].stream)]
	type result struct {
		answer *endorsement.Answer
		err    error
	}
	results := make(chan result, len(members))
	for i := range members {
		go func() {
			a, err := m.member(ctx, batch[0].host, &members[i], &ask, encoded)
			results <- result{a, err}
		}()
	}
	tallies := make([]tally, len(order))
	settled := make([]bool, len(order))
	left, missing := len(order), len(members)
	var lost error
	for missing > 0 && left > 0 {
		r := <-results
		missing--
		if r.err != nil && lost == nil || wire.CodeOf(r.err) == wire.CodeView {
			lost = r.err
		}
		for i, q := range order {
			if settled[i] {
				continue
			}
			t := &tallies[i]
			if r.answer != nil {
				t.add(r.answer.Heads[i])
			}
			if r.answer != nil && slices.Contains(r.answer.Discontinued, uint64(i)) {
				t.broken = true
			}
			if t.settle(q.append, members.Majority(), missing) {
				settled[i] = true
				left--
				if t.answers < members.Majority() {
					t.err = tooFew(t.answers, len(members), lost)
				}
				q.answer <- *t
			}
		}
	}
	if missing == 0 {
		done()
		return
	}
	// Late members hear of the entry too; nobody waits for them.
	go func() {
		defer done()
		for ; missing > 0; missing-- {
			<-results
		}
	}()
}

func (t *tally) add(head wire.Head) {
	t.answers++
	t.heads = append(t.heads, head)
	if head.Sequence > t.newest.Sequence || t.answers == 1 {
		t.newest = head
	}
}

// settle reports whether more answers would change nothing, or none can come, and what
// follows from those that came.
//
// A read is settled by any head that a majority names: a higher one, of which another
// member knows, was then not acknowledged before this question was put. A stream that a
// member calls discontinued stands nowhere.
func (t *tally) settle(a *endorsement.Append, majority, missing int) bool {
	if a != nil {
		other := 0
		for _, h := range t.heads {
			if h.Sequence == a.Next.Sequence && h != a.Next {
				other++
			}
		}
		t.lost = other >= majority
		t.stands = count(t.heads, a.Next) >= majority && !t.broken
		return t.stands || t.lost || missing == 0
	}
	for _, h := range t.heads {
		if n := count(t.heads, h); n >= majority || h.Sequence == t.newest.Sequence && n > count(t.heads, t.newest) {
			t.newest = h
			if n >= majority {
				break
			}
		}
	}
	t.stands = count(t.heads, t.newest) >= majority && !t.broken
	return t.stands || missing == 0
}

func count(heads []wire.Head, h wire.Head) (n int) {
	for _, x := range heads {
		if x == h {
			n++
		}
	}
	return n
}

func tooFew(answers, members int, lost error) error {
	if wire.CodeOf(lost) == wire.CodeView {
		return lost
	}
	return wire.Errorf(wire.CodeUnavailable, "%d of %d endorsers answered: %w", answers, members, lost)
}
