package endorsed

import (
	"context"
	"crypto/ed25519"
	"sync"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// Host is the untrusted side: the database, the chain of views, and the way to the
// endorsers.
type Host interface {
	// Newest returns the newest entry of an account's stream, nil if there is none.
	Newest(ctx context.Context, account wire.AccountID) ([]byte, error)
	// Commit appends compare-and-swap, idempotent by the entry's hash.
	Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error)
	// Relay brings a frame to the endorser with this key, and its answer back.
	Relay(ctx context.Context, endorser []byte, kind wire.FrameKind, body []byte) ([]byte, error)
	// Views returns the chain of views, encoded.
	Views(ctx context.Context) ([]byte, error)
}

// Options are what an enclave's endorsed ledger is made of.
type Options struct {
	Identity wire.LedgerIdentity // of the measured configuration: it names the genesis view
	// Verifier gives the ledger keys in force.
	Verifier func() *ledger.Verifier
	// Key returns the newest ledger key, and how it signs.
	Key func() (public ed25519.PublicKey, sign func(message []byte) []byte)
	// Evidence returns encoded evidence of purpose "client": by it endorsers know the ledger
	// key. It is asked for whenever one is said not to know it, which a host can say for
	// ever: evidence at hand must be good enough.
	Evidence func(ctx context.Context) ([]byte, error)
}

// Memory is what the enclave knows of endorsers. It is safe for concurrent use.
type Memory struct {
	options Options

	mu      sync.Mutex
	current *current // nil: no view is verified yet
	looking sync.Mutex
}

// current is a verified view.
type current struct {
	view   *endorsement.View
	hash   wire.Digest
	groups []group
}

// New returns a memory without a view; it gets one when it is first asked.
func New(o Options) *Memory { return &Memory{options: o} }

// Over returns the ledger that is reached through a host: for a request, the one that
// it came from.
func (m *Memory) Over(host Host) *Ledger { return &Ledger{Memory: m, host: host} }

func (m *Memory) key() (ed25519.PublicKey, func([]byte) []byte) { return m.options.Key() }

// view returns the newest view that was verified, or looks for one.
func (m *Memory) view(ctx context.Context, host Host) (*current, error) {
	m.mu.Lock()
	c := m.current
	m.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return m.look(ctx, host, nil)
}

// look asks the host for the chain of views and takes its newest, if the chain leads
// there from the genesis and not back behind the one in force. than is the view that
// the caller found wanting: where another was found meanwhile, that one is returned.
func (m *Memory) look(ctx context.Context, host Host, than *current) (*current, error) {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	c := m.current
	m.mu.Unlock()
	if c != than {
		return c, nil
	}
	encoded, err := host.Views(ctx)
	if err != nil {
		return nil, err
	}
	var chain endorsement.Chain
	if err := wire.Unmarshal(encoded, &chain); err != nil {
		return nil, wire.NewError(wire.CodeView, err)
	}
	id := m.options.Identity
	v, err := chain.Verify(id.ID, wire.Digest(id.Genesis), id.Number)
	if err != nil {
		return nil, err
	}
	if than != nil && v.Number <= than.view.Number {
		return nil, wire.Errorf(wire.CodeView, "no newer view than number %d, and too few members of it serve", than.view.Number)
	}
	next := &current{view: v, hash: v.Hash(), groups: make([]group, len(v.Groups))}
	m.mu.Lock()
	m.current = next
	m.mu.Unlock()
	return next, nil
}

// member asks one member, and introduces this enclave where it is a stranger.
func (m *Memory) member(ctx context.Context, host Host, who *endorsement.Member, ask *endorsement.Ask, encoded []byte) (*endorsement.Answer, error) {
	answer, err := host.Relay(ctx, who.Key, wire.FrameAsk, encoded)
	if wire.CodeOf(err) == wire.CodeSignature {
		if err := m.introduce(ctx, host, who); err != nil {
			return nil, err
		}
		answer, err = host.Relay(ctx, who.Key, wire.FrameAsk, encoded)
	}
	if err != nil {
		return nil, err
	}
	return endorsement.VerifyAnswer(who, ask, encoded, answer)
}

func (m *Memory) introduce(ctx context.Context, host Host, who *endorsement.Member) error {
	evidence, err := m.options.Evidence(ctx)
	if err != nil {
		return err
	}
	_, err = host.Relay(ctx, who.Key, wire.FrameIntroduce, evidence)
	return err
}

// Ledger is the endorsed backend: a memory through a host.
type Ledger struct {
	*Memory
	host Host
}

var _ ledger.Ledger = (*Ledger)(nil)

// say puts a question to the endorsers of the newest view; where that was replaced, to
// those of its successor.
func (l *Ledger) say(ctx context.Context, stream wire.StreamID, a *endorsement.Append) (tally, error) {
	v, err := l.view(ctx, l.host)
	if err != nil {
		return tally{}, err
	}
	for {
		t, err := l.ask(ctx, v, l.host, stream, a)
		t.view = v.hash
		if wire.CodeOf(err) != wire.CodeView {
			return t, err
		}
		if v, err = l.look(ctx, l.host, v); err != nil {
			return tally{}, err
		}
	}
}

// ReadHead implements [ledger.Ledger]. The nonce is not the caller's: one is drawn for
// all that goes in one round trip, after it was asked. Where the database has an entry
// that follows the newest head, or one that too few endorsers hold, that entry is
// finished first.
//
// A head behind which the hint lies, or that is none of its kind, is returned all the
// same: the caller compares.
func (l *Ledger) ReadHead(ctx context.Context, account wire.AccountID, stream wire.StreamID, _ [32]byte, hint []byte) (ledger.SignedHead, error) {
	offered, err := l.check(stream, hint)
	if err != nil {
		return ledger.SignedHead{}, err
	}
	for range maxReads {
		h, err := l.readHead(ctx, account, stream, &offered)
		if err != errOvertaken {
			return h, err
		}
	}
	return ledger.SignedHead{}, errOvertaken
}

// maxReads bounds how often a read is made again that others overtook.
const maxReads = 4

var errOvertaken = wire.Errorf(wire.CodeUnavailable, "others append faster than this reads")

func (l *Ledger) readHead(ctx context.Context, account wire.AccountID, stream wire.StreamID, offered *place) (ledger.SignedHead, error) {
	t, err := l.say(ctx, stream, nil)
	if err != nil {
		return ledger.SignedHead{}, err
	}
	if !t.stands && offered.head != t.newest && !offered.follows(t.newest) {
		// The hint may have been loaded just before the entry was written.
		newest, err := l.host.Newest(ctx, account)
		if err != nil {
			return ledger.SignedHead{}, err
		}
		if *offered, err = l.check(stream, newest); err != nil {
			return ledger.SignedHead{}, err
		}
	}
	switch {
	case t.broken:
		return discontinued(offered.head, t.view), nil
	case t.newest == (wire.Head{}) && offered.head.Sequence > 0 && l.options.Identity.Number > 1:
		// Endorsers of a later genesis do not know what was before it.
		return discontinued(offered.head, t.view), nil
	case t.stands && !offered.follows(t.newest):
		return signed(t.newest), nil
	case offered.head == t.newest || offered.follows(t.newest):
		return l.finish(ctx, stream, *offered)
	case offered.head.Sequence > t.newest.Sequence:
		return ledger.SignedHead{}, errOvertaken // the database went on between the two looks
	}
	return ledger.SignedHead{}, wire.Errorf(wire.CodeRollback, "endorsers hold entry %d, of which the database knows nothing", t.newest.Sequence)
}

// finish has a majority endorse an entry that stands in the database.
func (l *Ledger) finish(ctx context.Context, stream wire.StreamID, o place) (ledger.SignedHead, error) {
	t, err := l.say(ctx, stream, &endorsement.Append{Stream: stream, Expected: o.before, Next: o.head})
	switch {
	case err != nil:
		return ledger.SignedHead{}, err
	case t.broken:
		return discontinued(o.head, t.view), nil
	case t.stands:
		return signed(o.head), nil
	case t.newest.Sequence > o.head.Sequence:
		return ledger.SignedHead{}, errOvertaken // others finished it, and went on
	}
	return ledger.SignedHead{}, wire.Errorf(wire.CodeUnavailable, "too few endorsers took entry %d", o.head.Sequence)
}

// place is where an entry stands, and what it follows.
type place struct{ head, before wire.Head }

// follows reports whether the entry is the one after a head.
func (p place) follows(h wire.Head) bool { return p.head.Sequence > 0 && p.before == h }

func (l *Ledger) check(stream wire.StreamID, entry []byte) (place, error) {
	if len(entry) == 0 {
		return place{}, nil
	}
	e, err := l.options.Verifier().Verify(stream, entry)
	if err != nil {
		return place{}, err
	}
	return place{ledger.HeadOf(e, entry), wire.Head{Sequence: e.Sequence - 1, Hash: e.Previous}}, nil
}

func signed(h wire.Head) ledger.SignedHead {
	return ledger.SignedHead{Head: h, Freshness: wire.FreshnessEndorsed}
}

func discontinued(offered wire.Head, view wire.Digest) ledger.SignedHead {
	return ledger.SignedHead{Head: offered, Freshness: wire.FreshnessEndorsed, Discontinued: true, View: view}
}

// CompareAndAppend implements [ledger.Ledger]: first the row in the database, which
// there can be one of at each place, then the word of a majority.
func (l *Ledger) CompareAndAppend(ctx context.Context, c *wire.Commit) (ledger.Receipt, error) {
	a := &c.Append
	e, err := l.options.Verifier().VerifyAppend(a)
	if err != nil {
		return ledger.Receipt{}, err
	}
	head := ledger.HeadOf(e, a.Entry)
	done, err := l.host.Commit(ctx, c)
	if err != nil {
		return ledger.Receipt{}, err
	}
	if done.Newest != head {
		return ledger.Receipt{}, wire.Errorf(wire.CodeReceipt, "the store appended another entry")
	}
	t, err := l.say(ctx, a.Stream, &endorsement.Append{Stream: a.Stream, Expected: a.Expected, Next: head, Restart: a.Restart})
	switch {
	case err != nil:
		return ledger.Receipt{}, err
	case t.stands:
		return ledger.Receipt{Head: head}, nil
	case t.broken:
		return ledger.Receipt{}, wire.Errorf(wire.CodeDiscontinued, "endorsers hold two entries at one place")
	case t.lost:
		// The database has two entries at one place; this one can never count.
		return ledger.Receipt{}, wire.Errorf(wire.CodeConflict, "another entry stands at %d", head.Sequence)
	case t.newest.Sequence > head.Sequence && l.standsUnder(ctx, a, head):
		return ledger.Receipt{Head: head}, nil
	}
	return ledger.Receipt{}, wire.Errorf(wire.CodeUnavailable, "too few endorsers took entry %d", head.Sequence)
}

// standsUnder reports whether an entry that was just written stands although members hold a
// newer one: another enclave found it in the database, finished it, and appended behind it,
// before a majority had heard of it from here. Its entry names this one.
func (l *Ledger) standsUnder(ctx context.Context, a *wire.Append, head wire.Head) bool {
	newest, err := l.host.Newest(ctx, a.Account)
	if err != nil {
		return false
	}
	o, err := l.check(a.Stream, newest)
	if err != nil || o.before != head {
		return false
	}
	h, err := l.finish(ctx, a.Stream, o)
	return err == nil && !h.Discontinued
}
