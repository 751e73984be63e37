package enclave

import (
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// A host that lost what came behind an entry, and has an older copy of it, is refused:
// a rollback. It is brought back on purpose by a RESTORE, which the account's devices
// approve as they confirm a discontinued account (docs/decisions/008). RESTORE names both
// places: as its previous entry the newest that there was, lost at the host, and the
// older one that the account goes on from.
//
// What must not come back with the older state are PIN attempts: the counts are those of
// the lost entry. The host does not have it, so a device that has seen it brings it. Nor may
// an earlier epoch: in it a revoked device is a member, and an old PIN opens the account.

// lost is the newest entry that there was.
type lost struct {
	entry   *ledger.Entry
	at      wire.Head
	encoded []byte
}

func (l *lost) bytes() []byte {
	if l == nil {
		return nil
	}
	return l.encoded
}

// restores reports whether a request asks for a restore.
func (s *State) restores() bool {
	c := s.body.Commands[0]
	var args wire.Confirm
	return c.Name == wire.CommandConfirm && wire.Unmarshal(c.Arguments, &args) == nil && args.Restore
}

// brings takes the newest entry that a device has seen for the lost one: where the ledger
// remembers, if it is that very entry. The local ledger forgets at each start, so there
// any entry counts that comes behind what it adopted. nil: it is none, or nothing is lost.
func (t *tx) brings(encoded []byte) (*lost, error) {
	if len(encoded) == 0 || len(encoded) > maxEntry {
		return nil, nil
	}
	e, err := t.core.Verifier().Verify(t.account.stream, encoded)
	if err != nil {
		return nil, err
	}
	at := ledger.HeadOf(e, encoded)
	switch {
	case t.state.lost != (wire.Head{}):
		if at != t.state.lost {
			return nil, nil
		}
	case !t.forgetful() || at.Sequence <= t.account.at.Sequence:
		return nil, nil
	}
	if e.Generation != t.account.entry.Generation || e.Epoch != t.account.entry.Epoch {
		return nil, wire.Errorf(wire.CodeEarlierEpoch, "entry %d stands under epoch %d, the lost entry %d under %d", t.account.at.Sequence, t.account.entry.Epoch, at.Sequence, e.Epoch)
	}
	return &lost{e, at, encoded}, nil
}

// forgetful reports whether the ledger starts without a memory.
func (t *tx) forgetful() bool { return t.core.config.Ledger.Backend == wire.BackendLocal }

// wasAway reports whether the device's vault secret is one of an earlier epoch. It cannot get
// the one in force before the account goes on: it approves, and another one finishes.
func (t *tx) wasAway() bool {
	return len(t.body.VaultSecret) > 0 && t.body.Epoch < t.account.head.Epoch
}

// keptOfRestore restores the account where enough devices approved and the lost entry is
// at hand. It is the work of a device that approves: the new head needs the vault secret.
func (c *Core) keptOfRestore(s State, t *tx, result *counted) (State, []Effect) {
	l := s.confirming.newest
	for _, b := range result.newest {
		other, err := t.brings(b)
		if err != nil {
			return c.refuse(s, err)
		}
		if other != nil && (l == nil || other.at.Sequence > l.at.Sequence) {
			l = other
		}
	}
	switch {
	case s.lost != (wire.Head{}):
		result.Lost = &s.lost
	case l != nil:
		result.Lost = &l.at
	default:
		t.results = [][]byte{wire.Marshal(wire.ConfirmResult{Confirmed: true, Offered: t.account.at})}
		return c.reply(s, t.response())
	}
	result.Known = l != nil
	if !result.enough() || l == nil || s.confirming.own == nil || t.wasAway() {
		t.results = [][]byte{wire.Marshal(result.ConfirmResult)}
		return c.reply(s, t.response())
	}
	vaultSecret, err := t.vault()
	if err != nil {
		return c.refuse(s, err)
	}
	if s.pending, err = t.restore(l, vaultSecret); err != nil {
		return c.refuse(s, err)
	}
	return c.commitConfirmed(s, t, result)
}

// restore makes the entry by which the account goes on from the older place, and a head
// like the one there, under the entry's number.
func (t *tx) restore(l *lost, vaultSecret []byte) (*pending, error) {
	note, err := ledger.OpenNote(wire.NotesKey(t.account.key), t.account.head.Account, l.entry)
	if err != nil {
		return nil, err
	}
	last := t.device.Last
	ch := t.begins(ledger.KindRestore, vaultSecret)
	t.device.Last, ch.outcome = last, nil // confirm has no number
	ch.previous, ch.restored = l.at, &t.account.at
	ch.note.Consecutive, ch.note.Lifetime = note.Consecutive, note.Lifetime
	if t.forgetful() {
		// Nobody vouches that the lost entry came behind this one.
		ch.note.Consecutive = max(note.Consecutive, t.account.note.Consecutive)
		ch.note.Lifetime = max(note.Lifetime, t.account.note.Lifetime)
	}
	return t.seal(), nil
}
