package client

import (
	"context"
	"crypto/subtle"

	"github.com/passclave/passclave/wire"
)

// syncAccount runs the sync command and takes its result into the profile: epochs,
// feed token, manifest, the outcome of the last changing request. out may be nil.
func (d *Device) syncAccount(ctx context.Context, out *wire.SyncResult) error {
	return d.call(ctx, &request{
		account:  d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandSync, wire.Sync{})},
		founds:   d.p.Known.Sequence == 0,
		apply: func(a *answer) error {
			var r wire.SyncResult
			if err := a.result(&r); err != nil {
				return err
			}
			if out != nil {
				*out = r
			}
			return d.applySync(&r, a)
		},
	})
}

func (d *Device) applySync(r *wire.SyncResult, a *answer) error {
	p := d.p
	if err := d.adopt(r, a); err != nil {
		return err
	}
	p.Member, p.Joining = true, ""
	p.Feed, p.Young, p.Left = r.FeedToken, r.Young, r.Unsealed
	d.settled(r.Last)
	if r.Listed <= p.Known.Sequence {
		p.Edited = max(p.Edited, r.Listed)
	}
	if _, err := p.manifest(r.Manifest, p.manifestFloor()); wire.CodeOf(err) != wire.CodeConflict {
		return err
	}
	return nil // the store's is newer than the answer: another device was faster
}

// adopt takes the vault epoch that a sync names. A newer vault secret must lead
// back, by the chain of earlier ones, to the secrets held: one that does not is
// refused with [wire.CodeVaultSecret], an older epoch with [wire.CodeRollback]. A
// device that holds none takes the first on trust.
func (d *Device) adopt(r *wire.SyncResult, a *answer) error {
	p := d.p
	if p.Member && r.Generation != p.Gen {
		return wire.Errorf(wire.CodeEpoch, "the account started over: generation %d", r.Generation)
	}
	if a.newest == p.Known && r.Generation == p.KnownGen && r.Epoch < p.KnownEp {
		return wire.Errorf(wire.CodeRollback, "epoch %d, while the newest entry stands under %d", r.Epoch, p.KnownEp)
	}
	held := p.epoch()
	switch {
	case held != nil && r.Epoch < held.Epoch:
		return wire.Errorf(wire.CodeRollback, "epoch %d, this device holds %d", r.Epoch, held.Epoch)
	case len(r.NotesKey) != wire.SecretSize:
		return wire.Errorf(wire.CodeMalformed, "notes' key of a wrong size")
	case held != nil && r.Epoch == held.Epoch:
		held.Notes = r.NotesKey
		d.readAgain()
		return nil
	}
	scope := wire.Scope{Ledger: p.Ledger.ID, Account: p.Account, Generation: r.Generation, Epoch: r.Epoch}
	secret, err := wire.OpenVaultSecret(d.kem, scope, d.id(), r.Envelope)
	if err != nil {
		return err
	}
	epochs, err := lead(secret, scope, r.Previous, p.Epochs)
	if err != nil {
		return err
	}
	epochs[len(epochs)-1].Notes = r.NotesKey
	p.Gen, p.Epochs = r.Generation, epochs
	d.readAgain()
	return nil
}

// lead follows the chain of previous secrets from the newest and compares it with
// every secret held. It returns the secrets of all epochs that the chain reaches, ascending.
func lead(secret []byte, s wire.Scope, previous [][]byte, held []epochSecrets) ([]epochSecrets, error) {
	chain, err := wire.FollowPrevious(secret, s, previous)
	if err != nil {
		return nil, wire.NewError(wire.CodeVaultSecret, err)
	}
	for _, h := range held {
		if subtle.ConstantTimeCompare(chain.Vault[h.Epoch], h.Vault) != 1 {
			return nil, wire.Errorf(wire.CodeVaultSecret, "the newer vault secret does not lead back to the one of epoch %d", h.Epoch)
		}
	}
	var out []epochSecrets
	for e := s.Epoch - uint64(len(previous)); e <= s.Epoch; e++ {
		out = append(out, epochSecrets{Epoch: e, Vault: chain.Vault[e], Notes: chain.Notes[e]})
	}
	return out, nil
}

// settled closes the pending request: the enclave says which number it did last,
// and the ledger entries seen say whether that was the pending one.
func (d *Device) settled(last *wire.Outcome) {
	p := d.p
	if q := p.Pending; q != nil {
		done := q.Entry != 0
		s := &Settled{Command: q.Command, Done: done, Handle: q.Handle}
		if done && last != nil && last.Number == q.Number && last.Handle != nil {
			s.Handle = last.Handle
		}
		p.Settled = s
		if done {
			p.Number = max(p.Number, q.Number)
			p.uvReplaced(q.Command)
		}
		p.Pending = nil
	}
	if last != nil {
		p.Number = last.Number
	}
}

// manifestFloor is the sequence that the next manifest asked for has at least: of the
// newest one seen, and of the newest entry that came with one.
func (p *profile) manifestFloor() uint64 { return max(p.Manifest, p.Edited) }

// manifest opens a sealed manifest and takes its sequence; floor is the manifestFloor
// of when it was asked for. Only the vault secret in force vouches for one: a revoked
// device holds those of before. Refused with [wire.CodeRollback] is a manifest of an
// earlier epoch, or below the floor; with [wire.CodeEpoch] one of a later epoch; with
// [wire.CodeConflict] one of an entry that no sealed answer has named yet. Of the last
// two a sync tells whether they are to be believed.
func (p *profile) manifest(sealed []byte, floor uint64) (*wire.Manifest, error) {
	earlier := false
	m, err := wire.OpenManifest(sealed, p.Ledger.ID, p.Account, func(generation, epoch uint64) []byte {
		held := p.epoch()
		if held == nil || generation != p.Gen || epoch > held.Epoch {
			return nil
		}
		if earlier = epoch < held.Epoch; earlier {
			return nil
		}
		return held.Vault
	})
	if earlier {
		return nil, wire.Errorf(wire.CodeRollback, "manifest of an earlier epoch than the one in force")
	}
	if err != nil {
		return nil, err
	}
	if m.Sequence < floor {
		return nil, wire.Errorf(wire.CodeRollback, "manifest of entry %d, while one of entry %d must exist", m.Sequence, floor)
	}
	if m.Sequence > p.Known.Sequence {
		return nil, wire.Errorf(wire.CodeConflict, "manifest of entry %d, while this device knows of %d", m.Sequence, p.Known.Sequence)
	}
	p.Manifest = max(p.Manifest, m.Sequence)
	return m, nil
}

// uvReplaced takes the new software UV key once its request was done.
func (p *profile) uvReplaced(c wire.CommandName) {
	if c == wire.CommandReplaceUV && p.NextUV != nil {
		p.UV, p.NextUV = p.NextUV, nil
	}
}
