package enclave

import (
	"maps"
	"slices"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Every epoch stays in the head and in the answers to sync as a box that leads back
// to it. So epochs end before a head could no longer be opened or a sync be answered:
// setting the PIN at maxEpochs, revoking, which must go on then, at lastEpoch.
const (
	maxEpochs = 1000
	lastEpoch = 3000
)

// newEpoch gives the account a new account key and vault secret, and hands the
// vault secret to every device that remains; the caller hands it to the recovery
// key. No record is sealed anew here: the head keeps the earlier account keys
// while a record needs them.
func (t *tx) newEpoch(ch *change) error {
	h, ledgerID := ch.account.head, t.core.config.Ledger.ID
	if h.Epoch >= lastEpoch || ch.kind == ledger.KindPINSet && h.Epoch >= maxEpochs {
		return wire.Errorf(wire.CodeLimit, "%d epochs", h.Epoch)
	}
	var hashes []wire.Digest
	for _, d := range h.Devices {
		hashes = append(hashes, d.Encryption)
	}
	keys, err := t.blob(hashes...)
	if err != nil {
		return err
	}

	former := h.scope(ledgerID)
	previous := wire.Previous{VaultSecret: ch.secret, NotesKey: wire.NotesKey(ch.account.key)}
	h.Earlier = append([]earlierKey{{h.Epoch, ch.account.key}}, h.Earlier...)
	h.dropEarlier()
	h.Epoch++
	ch.account.key, ch.secret = random(wire.SecretSize), random(wire.SecretSize)
	scope := h.scope(ledgerID)
	h.Previous = append([][]byte{wire.SealPrevious(ch.secret, scope, previous)}, h.Previous...)

	for i := range h.Devices {
		d := &h.Devices[i]
		envelope, err := wire.SealVaultSecret(keys[i], scope, d.ID, ch.secret)
		if err != nil {
			return err
		}
		ch.commit.DroppedBlobs = append(ch.commit.DroppedBlobs, d.Envelope)
		ch.commit.Blobs = append(ch.commit.Blobs, envelope)
		d.Envelope = wire.BlobHash(envelope)
	}
	ch.commit.Wraps = []wire.Wrap{t.core.wrap(scope, ch.account.key)}
	ch.commit.DroppedWraps = t.core.wrapsOf(former, t.state.have.state.Wraps)
	return nil
}

// wrapsOf names the wraps of an epoch: those that the host showed, and those under the
// versions held here, which a rewrap may have put in their place since.
func (c *Core) wrapsOf(s wire.Scope, shown []wire.Wrap) (out []wire.Wrap) {
	versions := map[string]bool{}
	for _, w := range shown {
		if w.Generation == s.Generation && w.Epoch == s.Epoch {
			versions[w.KEK] = true
		}
	}
	for _, k := range c.keks {
		versions[k.Version] = true
	}
	for _, v := range slices.Sorted(maps.Keys(versions)) {
		out = append(out, wire.Wrap{Generation: s.Generation, Epoch: s.Epoch, KEK: v})
	}
	return out
}

// dropEarlier forgets the account keys of epochs that no record stands under any more.
func (h *head) dropEarlier() {
	used := map[uint64]bool{}
	h.Records.all(func(w row) bool { used[w.Epoch] = true; return true })
	kept := h.Earlier[:0:0]
	for _, e := range h.Earlier {
		if used[e.Epoch] {
			kept = append(kept, e)
		}
	}
	h.Earlier = kept
}

// pinSet sets a new PIN, unlocks the account and begins a new epoch.
func (t *tx) pinSet(args *wire.PINSet) (any, error) {
	vaultSecret, err := t.vault()
	if err != nil {
		return nil, err
	}
	if err := t.uv(); err != nil {
		return nil, err
	}
	k, err := t.openTicket(args.Ticket, t.device.Key)
	if err != nil {
		return nil, err
	}
	if err := k.current(t.account.head); err != nil {
		return nil, err
	}
	if !k.Fresh {
		return nil, wire.Errorf(wire.CodeLoginStale, "the login is not fresh")
	}
	if err := t.grown(&person{Issued: k.Issued, Fresh: k.Fresh}); err != nil {
		return nil, err
	}
	if len(args.StretchedPIN) != wire.SecretSize {
		return nil, wire.Errorf(wire.CodeArgument, "stretched PIN of %d bytes", len(args.StretchedPIN))
	}
	ch := t.begins(ledger.KindPINSet, vaultSecret)
	ch.note.Consecutive, ch.note.Lifetime = 0, 0
	if err := t.newEpoch(ch); err != nil {
		return nil, err
	}
	if err := t.newRecovery(ch, k.FreshSalt, args.StretchedPIN); err != nil {
		return nil, err
	}
	if err := t.sealToRecovery(ch); err != nil {
		return nil, err
	}
	return t.membership(ch), nil
}
