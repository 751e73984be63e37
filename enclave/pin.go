package enclave

import (
	"crypto/hmac"
	"time"

	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// A PIN attempt runs in this order and no other:
//
//  1. join: ticket and device signature are checked, on a fresh head.
//  2. sendReserve: RESERVE is appended; the counts rise here.
//  3. reserved: its receipt is verified.
//  4. judge: once, and only by the request whose own RESERVE won, the recovery
//     record is tried.
//  5. sendResult: RESULT is appended; success, the join and the new head are one commit.
//  6. resulted: the answer leaves after RESULT stands.
//
// Whatever fails after step 2 is a spent attempt.
type attempt struct {
	join     *wire.Join
	ticket   *ticket
	envelope []byte       // the vault secret in force, sealed to the recovery key
	public   wire.Digest  // recovery key and generation that were judged: RESULT
	gen      uint64       // must not outlive them
	own      *pending     // RESERVE, then RESULT
	sent     []*pending   // every RESULT: one that was thought lost may stand after all
	sequence uint64       // of the own RESERVE
	judged   bool         //
	right    bool         // the PIN was right
	unlock   *recoveryKey // the private half, when right
	note     ledger.Note  // counts as of the own RESERVE
}

// recoveryKey opens the vault secret of an epoch.
type recoveryKey struct{ seed []byte }

// leastPINTime is the least time until the answer to a PIN attempt: wrong, locked
// and unenrolled take equally long for whoever watches the network. Two durable
// appends and the crypto fit well inside.
const leastPINTime = 50 * time.Millisecond

// leastTime holds back the refusals that only a PIN attempt gets.
func leastTime(err error) time.Duration {
	if e := asError(err); e != nil && (e.Code == wire.CodePINWrong || e.Code == wire.CodePINLocked || e.Code == wire.CodeNoAccount) {
		return leastPINTime
	}
	return 0
}

// join is step 1.
func (t *tx) join(args *wire.Join) (any, error) {
	k, err := t.openTicket(args.Ticket, args.Keys.Device)
	if err != nil {
		return nil, err
	}
	if err := t.possession(&args.Keys, args.Name, args.StretchedPIN); err != nil {
		return nil, err
	}
	if t.account == nil {
		return nil, wire.Errorf(wire.CodeNoAccount, "no such account")
	}
	h := t.account.head
	if err := k.current(h); err != nil {
		return nil, err
	}
	switch {
	case h.device(t.body.Device) != nil:
		return nil, wire.Errorf(wire.CodeConflict, "the device is a member already")
	case len(h.Devices) >= wire.MaxDevices:
		return nil, wire.Errorf(wire.CodeLimit, "%d devices", len(h.Devices))
	case h.hasEncryptionKey(wire.BlobHash(args.Keys.Encryption)):
		return nil, wire.Errorf(wire.CodeArgument, "encryption key of another device")
	case t.core.locked(t.account.note):
		return nil, t.core.locksOut(t.account.note)
	}
	envelope, err := t.blob(h.Recovery.Envelope)
	if err != nil {
		return nil, err
	}
	t.reserve = &attempt{join: args, ticket: k, envelope: envelope[0], public: h.Recovery.Public, gen: h.Generation}
	return nil, nil
}

// hasEncryptionKey reports whether a member has the key: its blob goes when the member goes.
func (h *head) hasEncryptionKey(blob wire.Digest) bool {
	for _, d := range h.Devices {
		if d.Encryption == blob {
			return true
		}
	}
	return false
}

func (c *Core) locksOut(n *ledger.Note) error {
	left := c.attemptsLeft(n)
	code := wire.CodePINWrong
	if left == 0 {
		code = wire.CodePINLocked
	}
	return &wire.Error{Code: code, AttemptsLeft: &left}
}

// sendReserve is step 2.
func (c *Core) sendReserve(s State, t *tx) (State, []Effect) {
	a, now := s.attempt, *t.account.note
	now = ledger.Note{
		Kind: ledger.KindReserve, Consecutive: now.Consecutive + 1, Lifetime: now.Lifetime + 1,
		Device: s.body.Device, Name: a.join.Name, Time: s.in.Now,
	}
	a.note = now
	a.own = c.append(t.account, t.account.at, nil, t.account.entry.Head, requestHash(s.in.Raw), now)
	a.sequence = a.own.head.Sequence
	s.phase = phaseReserve
	return s, []Effect{Commit{a.own.commit}}
}

// reserved is step 3. A RESERVE that another commit beat was never appended, so
// the attempt may begin again from the fresh head; any doubt is a spent attempt.
func (c *Core) reserved(s State, e Committed) (State, []Effect) {
	if wire.CodeOf(e.Err) == wire.CodeConflict {
		s.spent, s.attempt = s.attempt.own.head, nil
		return c.again(s)
	}
	if err := c.checkReceipt(s.attempt.own, e); err != nil {
		return c.refuse(s, err)
	}
	s.at.Head = s.attempt.own.head
	s.have.state.Newest = s.attempt.own.commit.Append.Entry
	account, err := c.open(s.in.Envelope.Header.Account, s.at.Head, &s.have)
	if err != nil {
		return c.refuse(s, err)
	}
	if err := c.judge(s.attempt, account); err != nil {
		return c.refuse(s, err)
	}
	return c.sendResult(s, account)
}

// judge is step 4.
func (c *Core) judge(a *attempt, account *account) error {
	if a.judged {
		return wire.Errorf(wire.CodeInternal, "attempt judged before")
	}
	a.judged = true
	r := account.head.Recovery
	scope := account.head.scope(c.config.Ledger.ID)
	scope.Epoch = r.Epoch
	secret.Do(func() {
		seed, err := wire.OpenBox(wire.RecoveryKey(r.Pepper, a.join.StretchedPIN), wire.LabelRecovery, scope, r.Private)
		if a.right = err == nil; a.right {
			a.unlock = &recoveryKey{seed}
		}
	})
	return nil
}

// open opens the vault secret of the epoch in force, and checks that it
// authenticates the membership before anything is sealed to anybody.
func (k *recoveryKey) open(ledgerID []byte, h *head, envelope []byte) (vaultSecret []byte, err error) {
	secret.Do(func() {
		private, e := wire.KEM().NewPrivateKey(k.seed)
		if e != nil {
			err = wire.Errorf(wire.CodeHeadMismatch, "recovery key")
			return
		}
		vaultSecret, err = wire.OpenFromRecovery(private, h.scope(ledgerID), envelope)
	})
	if err == nil && !h.authentic(vaultSecret) {
		return nil, wire.Errorf(wire.CodeMembers, "membership is not authenticated by the vault secret")
	}
	return vaultSecret, err
}

// sendResult is step 5.
func (c *Core) sendResult(s State, account *account) (State, []Effect) {
	a := s.attempt
	s.phase = phaseResult
	if !a.right {
		note := ledger.Note{
			Kind: ledger.KindWrong, Consecutive: account.note.Consecutive, Lifetime: account.note.Lifetime,
			Device: s.body.Device, Name: a.join.Name, Time: s.in.Now, Attempt: a.sequence,
		}
		return a.result(s, c.append(account, account.at, nil, account.entry.Head, requestHash(s.in.Raw), note))
	}
	vaultSecret, err := a.unlock.open(c.config.Ledger.ID, account.head, a.envelope)
	if err != nil {
		return c.refuse(s, err)
	}
	t := &tx{core: c, state: &s, in: &s.in, body: s.body, account: account}
	ch := t.begins(ledger.KindJoin, vaultSecret)
	ch.note.Attempt = a.sequence
	// What was reserved after the own RESERVE stays counted. The lifetime count tells how
	// much that is, even where another success lowered the consecutive one meanwhile.
	ch.note.Consecutive = min(ch.note.Consecutive, ch.note.Lifetime-a.note.Lifetime)
	if err := t.addDevice(ch, &a.join.Keys, a.join.Name, howJoin, a.ticket.Issued); err != nil {
		return c.refuse(s, err)
	}
	t.results = [][]byte{wire.Marshal(t.membership(ch))}
	p := t.seal()
	p.joined = ch.account.head.device(s.body.Device).FeedToken
	return a.result(s, p)
}

func (a *attempt) result(s State, p *pending) (State, []Effect) {
	a.own, a.sent = p, append(a.sent, p)
	return s, []Effect{Commit{p.commit}}
}

// resulted is step 6. Where RESULT was refused or its fate is unknown, the ledger
// is read again: an own entry counts as done.
func (c *Core) resulted(s State, e Committed) (State, []Effect) {
	if e.Err == nil && e.Receipt.Head == s.attempt.own.head {
		return c.answerAttempt(s)
	}
	s.races++
	if s.races > maxRaces {
		return c.refuse(s, wire.Errorf(wire.CodeUnavailable, "the result of the PIN attempt could not be written"))
	}
	return c.loadState(s)
}

// resumeResult writes RESULT on a newer head, without judging again: the verdict
// stands while recovery key and generation are those that were judged.
func (c *Core) resumeResult(s State) (State, []Effect) {
	a := s.attempt
	for _, p := range a.sent {
		if s.at.Head == p.head {
			a.own = p
			return c.answerAttempt(s)
		}
	}
	account, err := c.open(s.in.Envelope.Header.Account, s.at.Head, &s.have)
	if err != nil {
		return c.refuse(s, err)
	}
	if account == nil || account.head.Recovery.Public != a.public || account.head.Generation != a.gen {
		return c.refuse(s, wire.Errorf(wire.CodeConflict, "the PIN was set anew meanwhile"))
	}
	if member := account.head.device(s.body.Device); a.right && member != nil {
		for _, p := range a.sent {
			if hmac.Equal(p.joined, member.FeedToken) {
				a.own = p // it stands, under somebody's newer entry
				return c.answerAttempt(s)
			}
		}
	}
	if h := account.head; h.device(s.body.Device) != nil || len(h.Devices) >= wire.MaxDevices {
		return c.refuse(s, wire.Errorf(wire.CodeConflict, "the membership changed meanwhile"))
	}
	if a.right {
		blob, ok := s.have.blobs[account.head.Recovery.Envelope]
		if !ok {
			return c.fill(s, &lack{need: &wire.Need{Account: account.head.Account, Blobs: []wire.Digest{account.head.Recovery.Envelope}}})
		}
		a.envelope = blob
	}
	return c.sendResult(s, account)
}

func (c *Core) answerAttempt(s State) (State, []Effect) {
	a := s.attempt
	if a.right {
		s, effects := c.reply(s, a.own.response)
		reply := effects[0].(Reply)
		reply.Least = leastPINTime
		return s, []Effect{reply}
	}
	return c.refuse(s, c.locksOut(&a.note))
}
