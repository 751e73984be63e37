package enclave

import (
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// A ledger that lost its memory of an account (a later genesis, or endorsers that hold
// two entries at one place) discontinues it: what the host offers may be any old copy.
// Only the account's devices know better. More than half of the trusted ones in the
// offered head must approve that very head, each with a fresh login and user verification;
// one that remembers an entry outside its chain does not (docs/decisions/007).
//
// They come one after another, so the host keeps what came: each approval sealed under
// the account key, good for one account, head, device and one memory of the ledger. Who
// approved is counted anew each time, from what the host brings.

// approval is a device's word for an offered head.
type approval struct {
	Head   wire.Head     `cbor:"1,keyasint"`
	View   wire.Digest   `cbor:"2,keyasint"` // ledger.SignedHead.View
	Device wire.DeviceID `cbor:"3,keyasint"`
	Lost   wire.Head     `cbor:"4,keyasint"` // of a restore: the newest entry there was, by the ledger's word
	Newest []byte        `cbor:"5,keyasint"` // of a restore: the newest entry that the device has seen, encoded
}

// approvalSize is what approvals are padded to: with an entry or without.
const approvalSize = 1 << 10

func (t *tx) sealApproval(a approval) []byte {
	padded := wire.PadBox(wire.Marshal(a), approvalSize)
	return wire.SealBox(wire.ApprovalKey(t.account.key), wire.LabelApproval, t.scope(), padded)
}

func (t *tx) openApproval(box []byte) (*approval, error) {
	padded, err := wire.OpenBox(wire.ApprovalKey(t.account.key), wire.LabelApproval, t.scope(), box)
	if err != nil {
		return nil, err // of another account or epoch, or the host's own
	}
	plain, err := wire.UnpadBox(padded)
	if err != nil {
		return nil, err
	}
	var a approval
	return &a, wire.Unmarshal(plain, &a)
}

// confirming is a confirm on its way.
type confirming struct {
	own    []byte // the device's sealed approval; nil: it only asks
	newest *lost  // of a restore, what the device brought
}

// confirm needs the device key; to approve, a trusted device, UV, a fresh login and the
// head that is offered. Like sync it needs no vault secret: a device that was away may
// hold none that is in force, and could not get it before the account goes on.
func (t *tx) confirm(args *wire.Confirm) (any, error) {
	switch {
	case args.Restore && t.state.at.Discontinued:
		return nil, wire.Errorf(wire.CodeDiscontinued, "confirm comes first")
	case args.Restore:
		newest, err := t.brings(args.Newest)
		if err != nil {
			return nil, err
		}
		t.confirming = &confirming{newest: newest}
	case !t.state.at.Discontinued:
		return &wire.ConfirmResult{Confirmed: true, Offered: t.account.at}, nil
	default:
		t.confirming = &confirming{}
	}
	if args.Approve == nil {
		return nil, nil
	}
	if *args.Approve != t.account.at {
		return nil, wire.Errorf(wire.CodeConflict, "another head is offered than the one approved")
	}
	if lost := t.state.lost; lost != (wire.Head{}) && (args.Lost == nil || *args.Lost != lost) {
		return nil, wire.Errorf(wire.CodeConflict, "more or less is lost than what was approved")
	}
	if err := t.uv(); err != nil {
		return nil, err
	}
	who, err := t.login(t.device.Key)
	if err != nil {
		return nil, err
	}
	if !who.Fresh {
		return nil, wire.Errorf(wire.CodeLoginStale, "the login is not fresh")
	}
	if args.Restore && !t.wasAway() {
		// It makes a new head, and nobody's membership comes back that this secret does not authenticate.
		if _, err := t.vault(); err != nil {
			return nil, err
		}
	}
	t.confirming.own = t.sealApproval(approval{
		Head: t.account.at, View: t.state.at.View, Device: t.device.ID,
		Lost: t.state.lost, Newest: t.confirming.newest.bytes(),
	})
	return nil, nil
}

func (t *tx) scope() wire.Scope { return t.account.head.scope(t.core.config.Ledger.ID) }

// sendKeep hands an approval to the host, and asks for those that came before.
func (c *Core) sendKeep(s State, own *confirming) (State, []Effect) {
	s.confirming, s.phase = own, phaseKeep
	return s, []Effect{Keep{wire.Keep{Account: s.in.Envelope.Header.Account, Approval: own.own}}}
}

// kept counts the approvals, and confirms the account where they are enough.
func (c *Core) kept(s State, e Kept) (State, []Effect) {
	if e.Err != nil {
		return c.refuse(s, e.Err)
	}
	t, err := c.begin(&s)
	if err != nil {
		return c.refuse(s, err)
	}
	approvals := e.Approvals
	if len(approvals) > wire.MaxApprovals {
		return c.refuse(s, wire.Errorf(wire.CodeTooLarge, "%d approvals", len(approvals)))
	}
	if own := s.confirming.own; own != nil {
		approvals = append(approvals[:len(approvals):len(approvals)], own) // whether or not the host brings it
	}
	result := t.count(approvals)
	if s.restores() {
		return c.keptOfRestore(s, t, result)
	}
	switch {
	case t.confirmedBefore():
		s.pending = t.restartAgain()
	case result.enough():
		s.pending = t.restart()
	default:
		t.results = [][]byte{wire.Marshal(result.ConfirmResult)}
		return c.reply(s, t.response())
	}
	return c.commitConfirmed(s, t, result)
}

func (c *Core) commitConfirmed(s State, t *tx, result *counted) (State, []Effect) {
	result.Confirmed, result.Offered = true, s.pending.head
	t.results = [][]byte{wire.Marshal(result.ConfirmResult)}
	s.pending.response = t.responseAfter(s.pending)
	s.phase = phaseCommit
	return s, []Effect{Commit{s.pending.commit}}
}

// counted is who approved the offered head.
type counted struct {
	wire.ConfirmResult
	approved uint64
	newest   [][]byte // what they brought, of a restore
}

func (c *counted) enough() bool { return c.approved >= c.Needed }

// count counts each trusted device of the offered head once, whose approval is of this
// head and for this memory of the ledger.
func (t *tx) count(approvals [][]byte) *counted {
	approved := map[wire.DeviceID]bool{}
	out := &counted{ConfirmResult: wire.ConfirmResult{Offered: t.account.at}}
	for _, box := range approvals {
		a, err := t.openApproval(box)
		if err != nil || a.Head != t.account.at || a.View != t.state.at.View || a.Lost != t.state.lost {
			continue
		}
		approved[a.Device] = true
		out.newest = append(out.newest, a.Newest)
	}
	for _, d := range t.account.head.Devices {
		if !d.trusted() {
			continue
		}
		out.Devices = append(out.Devices, wire.ConfirmDevice{ID: d.ID, Name: d.Name, Approved: approved[d.ID]})
		if approved[d.ID] {
			out.approved++
		}
	}
	out.Needed = uint64(len(out.Devices))/2 + 1
	return out
}

// restart makes the entry by which the stream goes on. The head stays; so do the counts of
// PIN attempts.
func (t *tx) restart() *pending {
	a, view := t.account, t.state.at.View
	p := t.core.append(a, a.at, nil, a.entry.Head, requestHash(t.in.Raw), ledger.Note{
		Kind: ledger.KindConfirm, Consecutive: a.note.Consecutive, Lifetime: a.note.Lifetime,
		Device: t.device.ID, Name: t.device.Name, Time: t.in.Now, View: &view,
	})
	p.commit.Append.Restart = true
	return p
}

// confirmedBefore reports whether the offered entry is itself the one that confirms, for
// this memory of the ledger: it was stored, and the ledger did not hear of it.
func (t *tx) confirmedBefore() bool {
	n := t.account.note
	return n.Kind == ledger.KindConfirm && n.View != nil && *n.View == t.state.at.View
}

// restartAgain appends the offered entry once more: the store has it already.
func (t *tx) restartAgain() *pending {
	a := t.account
	return &pending{head: a.at, commit: wire.Commit{Append: wire.Append{
		Account: a.head.Account, Stream: a.stream, Restart: true, Entry: t.state.have.state.Newest,
		Expected: wire.Head{Sequence: a.entry.Sequence - 1, Hash: a.entry.Previous},
	}}}
}
