package enclave

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// State is one request on its way. The zero State waits for [Received]; a State
// that was passed to [Core.Step] must not be used again.
type State struct {
	phase      phase
	in         Received
	request    wire.Request
	body       *wire.Body
	at         ledger.SignedHead // the newest head, by the ledger's word; in a restore the one to go back to
	lost       wire.Head         // in a restore: the newest head, by the ledger's word
	have       atHand
	pending    *pending
	attempt    *attempt
	confirming *confirming
	login      *VerifiedLogin
	loads      int       // of the state, since it last matched
	matched    bool      // the state at hand is the one that stands
	races      int       // commits that another won
	spent      wire.Head // the own RESERVE that was said not to stand
	missed     wire.Head // the newest head when a blob was last missing
}

type phase int

const (
	phaseNew      phase = iota
	phaseHead           // ReadHead is under way
	phaseState          // Load of the whole state is under way
	phaseMore           // Load or FetchKeys of what a command lacks is under way
	phaseCommit         // Commit of a change
	phaseReserve        // Commit of a PIN attempt's RESERVE
	phaseResult         // Commit of its RESULT
	phaseKeep           // Keep of an approval is under way
	phaseFinished       // Reply went out
)

// atHand is what the host and issuers gave so far. Commands that lack something
// say so, and run again from their beginning when it is there.
type atHand struct {
	state     wire.State
	entry     *ledger.Entry // decoded from entryOf
	entryOf   []byte
	blobs     map[wire.Digest][]byte
	entries   map[uint64][][]byte // by the sequence they come after
	manifest  []byte
	loaded    bool // manifest
	keys      map[string]*jose.JSONWebKeySet
	fetches   int        // of anything
	need      *wire.Need // under way
	issuer    string     // under way
	refreshed bool       // the issuer was asked a second time
}

// newest decodes the newest entry that the host gave, once.
func (h *atHand) newest() (*ledger.Entry, error) {
	if h.entry == nil || !bytes.Equal(h.entryOf, h.state.Newest) {
		entry, err := ledger.ParseEntry(h.state.Newest)
		if err != nil {
			return nil, err
		}
		h.entry, h.entryOf = entry, h.state.Newest
	}
	return h.entry, nil
}

func (h *atHand) put(blob []byte) {
	if h.blobs == nil {
		h.blobs = map[wire.Digest][]byte{}
	}
	h.blobs[wire.BlobHash(blob)] = blob
}

// maxManifest is more than a manifest of wire.MaxRecords takes.
const maxManifest = 256 << 10

const (
	maxLoads = 2  // a host that cannot give a consistent state in so many is refused
	maxRaces = 3  // commits lost to another before the client is told
	maxLacks = 16 // things one request may ask for
)

// Step takes a request one event further.
func (c *Core) Step(s State, e Event) (State, []Effect) {
	switch e := e.(type) {
	case Received:
		if s.phase == phaseNew {
			return c.received(e)
		}
	case HeadRead:
		if s.phase == phaseHead {
			return c.headRead(s, e)
		}
	case Loaded:
		switch s.phase {
		case phaseState:
			return c.stateLoaded(s, e)
		case phaseMore:
			return c.moreLoaded(s, e)
		}
	case KeysFetched:
		if s.phase == phaseMore {
			return c.keysFetched(s, e)
		}
	case Kept:
		if s.phase == phaseKeep {
			return c.kept(s, e)
		}
	case Committed:
		switch s.phase {
		case phaseCommit:
			return c.committed(s, e)
		case phaseReserve:
			return c.reserved(s, e)
		case phaseResult:
			return c.resulted(s, e)
		}
	}
	if s.phase == phaseFinished {
		return s, nil
	}
	return c.refuse(s, wire.Errorf(wire.CodeInternal, "event %T out of order", e))
}

// received decodes the request and asks the ledger where the account stands.
func (c *Core) received(e Received) (State, []Effect) {
	s := State{in: e, have: atHand{state: e.State}}
	if len(c.keks) == 0 {
		return c.refuse(s, wire.Errorf(wire.CodeSealed, "no KEK yet"))
	}
	if err := wire.Unmarshal(e.Opened.Plaintext, &s.request); err != nil {
		return c.refuse(s, err)
	}
	body, err := wire.ParseBody(s.request.Body)
	if err != nil {
		return c.refuse(s, err)
	}
	s.body = body
	if err := c.checkChallenge(body.Challenge, e.Time, challengeAge); err != nil {
		return c.refuse(s, err)
	}
	return c.readHead(s)
}

func (c *Core) readHead(s State) (State, []Effect) {
	s.phase = phaseHead
	account := s.in.Envelope.Header.Account
	e := ReadHead{Account: account, Stream: wire.Stream(c.config.Ledger.ID, account), Hint: s.have.state.Newest}
	rand.Read(e.Nonce[:])
	return s, []Effect{e}
}

func (c *Core) loadState(s State) (State, []Effect) {
	s.phase, s.matched = phaseState, false
	s.loads++
	h := s.in.Envelope.Header
	need := wire.Need{Account: h.Account, State: true, Records: h.Handles}
	if h.Known != nil {
		need.After = &h.Known.Sequence
	}
	return s, []Effect{Load{need}}
}

func (c *Core) stateLoaded(s State, e Loaded) (State, []Effect) {
	if e.Err != nil {
		return c.refuse(s, e.Err)
	}
	s.have.state = e.State
	return c.readHead(s)
}

// headRead compares what the host loaded with where the ledger says the account
// stands. The host may have loaded just before another request committed, so it
// is asked again before it is refused.
func (c *Core) headRead(s State, e HeadRead) (State, []Effect) {
	if e.Err != nil {
		return c.refuse(s, e.Err)
	}
	s.at, s.lost = e.Head, wire.Head{}
	if s.at.Discontinued && s.body.Commands[0].Name != wire.CommandConfirm {
		return c.refuse(s, wire.Errorf(wire.CodeDiscontinued, "the ledger does not remember this account"))
	}
	if s.spent != (wire.Head{}) && s.at.Head == s.spent {
		return c.refuse(s, wire.Errorf(wire.CodeUnavailable, "RESERVE stands although the store said that it does not"))
	}
	var offered wire.Head
	if newest := s.have.state.Newest; len(newest) > 0 {
		entry, err := s.have.newest()
		if err != nil {
			return c.refuse(s, err)
		}
		offered = ledger.HeadOf(entry, newest)
	}
	if offered != s.at.Head && s.loads < maxLoads {
		return c.loadState(s)
	}
	if s.restores() && 0 < offered.Sequence && offered.Sequence < s.at.Head.Sequence {
		// No ledger vouches for this entry.
		if _, err := c.keys.Verify(wire.Stream(c.config.Ledger.ID, s.in.Envelope.Header.Account), s.have.state.Newest); err != nil {
			return c.refuse(s, err)
		}
		s.at.Head, s.lost = offered, s.at.Head
	}
	if offered != s.at.Head {
		return c.refuse(s, wire.Errorf(wire.CodeRollback, "the host offers entry %d, entry %d stands", offered.Sequence, s.at.Head.Sequence))
	}
	s.loads, s.matched = 0, true
	if s.attempt != nil {
		return c.resumeResult(s)
	}
	return c.decide(s)
}

// decide runs the commands on what is at hand.
func (c *Core) decide(s State) (State, []Effect) {
	t, err := c.begin(&s)
	if err == nil {
		err = t.run()
	}
	if l, ok := err.(*lack); ok {
		return c.fill(s, l)
	}
	switch {
	case err != nil:
		return c.refuse(s, t.named(err))
	case t.reserve != nil:
		s.attempt = t.reserve
		return c.sendReserve(s, t)
	case t.confirming != nil:
		return c.sendKeep(s, t.confirming)
	case t.change != nil:
		s.pending = t.seal()
		s.phase = phaseCommit
		return s, []Effect{Commit{s.pending.commit}}
	}
	return c.reply(s, t.response())
}

// A lack is something that a command needs before it can run.
type lack struct {
	need    *wire.Need
	issuer  *wire.Issuer
	refresh bool
}

func (*lack) Error() string { return "enclave: more data needed" }

func (c *Core) fill(s State, l *lack) (State, []Effect) {
	s.phase = phaseMore
	s.have.fetches++
	if s.have.fetches > maxLacks {
		return c.refuse(s, wire.Errorf(wire.CodeUnavailable, "the host does not give what is needed"))
	}
	if l.issuer != nil {
		s.have.issuer = l.issuer.Issuer
		return s, []Effect{FetchKeys{l.issuer, l.refresh}}
	}
	s.have.need = l.need
	return s, []Effect{Load{*l.need}}
}

func (c *Core) moreLoaded(s State, e Loaded) (State, []Effect) {
	need := s.have.need
	if e.Err != nil || need == nil {
		return c.refuse(s, e.Err)
	}
	s.have.need = nil
	if len(e.State.Blobs) != len(need.Blobs) {
		return c.refuse(s, wire.Errorf(wire.CodeRecordMismatch, "%d blobs for %d", len(e.State.Blobs), len(need.Blobs)))
	}
	for i, b := range e.State.Blobs {
		if len(b) == 0 && s.missed != s.at.Head {
			return c.missing(s)
		}
		if wire.BlobHash(b) != need.Blobs[i] {
			return c.refuse(s, wire.Errorf(wire.CodeRecordMismatch, "a blob is not the one asked for"))
		}
		s.have.put(b)
	}
	if need.After != nil {
		if s.have.entries == nil {
			s.have.entries = map[uint64][][]byte{}
		}
		s.have.entries[*need.After] = e.State.Entries
	}
	if need.Manifest {
		if len(e.State.Manifest) > maxManifest {
			return c.refuse(s, wire.Errorf(wire.CodeRecordMismatch, "manifest of %d bytes", len(e.State.Manifest)))
		}
		s.have.manifest, s.have.loaded = e.State.Manifest, true
	}
	if s.attempt != nil {
		return c.resumeResult(s)
	}
	return c.decide(s)
}

// missing goes on from the fresh head where the host does not have a blob: another commit,
// a PIN set above all, may have replaced it since the state was loaded. Only if no head
// came between is the host to blame.
func (c *Core) missing(s State) (State, []Effect) {
	s.missed = s.at.Head
	s.forget()
	return c.loadState(s)
}

func (c *Core) keysFetched(s State, e KeysFetched) (State, []Effect) {
	if e.Err != nil || e.Keys == nil {
		return c.refuse(s, wire.Errorf(wire.CodeUnavailable, "the issuer's keys: %w", e.Err))
	}
	if s.have.keys == nil {
		s.have.keys = map[string]*jose.JSONWebKeySet{}
	}
	s.have.keys[s.have.issuer] = e.Keys
	return c.decide(s)
}

// pending is a commit under way, and the answer that goes out once it stands.
type pending struct {
	commit   wire.Commit
	head     wire.Head // of the entry in commit
	response *wire.Response
	joined   []byte // of a join: the new member's feed token, random, by which its RESULT is known again
}

// committed lets the answer out, if the receipt is for the very entry that was sent.
func (c *Core) committed(s State, e Committed) (State, []Effect) {
	if wire.CodeOf(e.Err) == wire.CodeConflict {
		return c.again(s)
	}
	if err := c.checkReceipt(s.pending, e); err != nil {
		return c.refuse(s, err)
	}
	return c.reply(s, s.pending.response)
}

// again lets the loser of a race decide from the fresh head.
func (c *Core) again(s State) (State, []Effect) {
	s.races++
	if s.races > maxRaces {
		return c.refuse(s, wire.Errorf(wire.CodeConflict, "lost %d races", s.races))
	}
	s.pending, s.confirming = nil, nil
	s.forget()
	return c.loadState(s)
}

// forget drops what was loaded for a head that may not be the newest any more.
func (s *State) forget() {
	s.have.blobs, s.have.entries, s.have.manifest, s.have.loaded = nil, nil, nil, false
}

func (c *Core) checkReceipt(p *pending, e Committed) error {
	if e.Err != nil {
		return e.Err
	}
	if e.Receipt.Head != p.head {
		return wire.Errorf(wire.CodeReceipt, "receipt for another entry")
	}
	return nil
}

// refuse ends a request with an error.
func (c *Core) refuse(s State, err error) (State, []Effect) {
	public := &wire.Error{Code: wire.CodeInternal}
	if e := asError(err); e != nil {
		public.Code, public.Command, public.AttemptsLeft = e.Code, e.Command, e.AttemptsLeft
	}
	r := &wire.Response{Error: public}
	if s.body != nil && !stranger(s.body) {
		// A device that is refused, because it was revoked above all, must be able to
		// see that this is no older state: the newest entry descends from what it knows.
		s.showHistory(r, false)
	}
	_, effects := c.reply(s, r)
	out := effects[0].(Reply)
	out.Least = leastTime(err)
	if hostsFault[public.Code] {
		out.Refusal = public.Code
	}
	s.phase = phaseFinished
	return s, []Effect{out}
}

// hostsFault lists the refusals whose cause is the host's data, not the client's.
var hostsFault = map[wire.Code]bool{
	wire.CodeRollback: true, wire.CodeHeadMismatch: true, wire.CodeRecordMismatch: true,
	wire.CodeEntry: true, wire.CodeWrap: true, wire.CodeReceipt: true,
}

func (c *Core) reply(s State, r *wire.Response) (State, []Effect) {
	s.phase = phaseFinished
	if s.body != nil {
		r.Request = s.body.Request
	}
	r.Challenge = c.Challenge(s.in.Time)
	if r.Freshness = s.at.Freshness; r.Freshness == "" {
		r.Freshness = c.config.Ledger.Backend
	}
	return s, []Effect{Reply{Response: r, Login: s.login}}
}

// maxEntry bounds what of the host's entries goes into an answer; real ones are smaller.
const maxEntry = 1 << 10

// showHistory puts the newest head and the entries behind the known one into an
// answer, for whoever knows a hash of this stream: the entries that the host gives
// begin at it. The device checks the rest of the chain.
//
// A member may also know an entry that a restore took back: it is shown what did.
func (s *State) showHistory(r *wire.Response, member bool) {
	known, entries := s.in.Envelope.Header.Known, s.have.state.Entries
	if !s.matched || known == nil || known.Sequence == 0 {
		return
	}
	if *known != s.at.Head {
		if len(entries) == 0 || len(entries) > wire.MaxEntries {
			return
		}
		first, err := ledger.ParseEntry(entries[0])
		if err != nil || !first.Follows(*known) && !(member && first.TakesBack(*known)) {
			return
		}
		for _, e := range entries {
			if len(e) > maxEntry {
				return
			}
		}
		r.Entries = entries
	}
	r.Newest = s.at.Head
}

func requestHash(raw []byte) wire.Digest { return wire.Hash("envelope", raw) }

func sealedHeadHash(box []byte) wire.Digest { return sha256.Sum256(box) }
