package client

import (
	"context"
	"crypto/subtle"
	"slices"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Devices lists the account's devices in the order of their joining.
func (d *Device) Devices(ctx context.Context) ([]wire.DeviceInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return nil, err
	}
	return d.devices(ctx)
}

func (d *Device) devices(ctx context.Context) ([]wire.DeviceInfo, error) {
	var r wire.DevicesResult
	err := d.call(ctx, &request{
		account:  d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandDevices, wire.Devices{})},
		secret:   true,
		apply:    func(a *answer) error { return a.result(&r) },
	})
	return r.Devices, err
}

// youth is how long a device that joined by PIN stays young, a little less than the
// enclave's 24 hours: that counts by the issuer's clock, this by the device's own.
const youth = 23 * time.Hour

// CheckAge refuses with [wire.CodeYoung] a device that is young for so short a time that
// no login could show otherwise.
func CheckAge(i wire.DeviceInfo, now time.Time) error {
	if joined := time.Unix(int64(i.Joined), 0); i.Young && now.Sub(joined) < youth {
		return wire.Errorf(wire.CodeYoung, "it joined by PIN at %s", joined.Format(time.DateTime))
	}
	return nil
}

// loginIfYoung brings the login that shows a young device to be young no more: nil where
// it is not young.
func (d *Device) loginIfYoung(ctx context.Context) (*wire.Login, error) {
	if !d.p.Young {
		return nil, nil
	}
	infos, err := d.devices(ctx)
	if err != nil {
		return nil, err
	}
	own := slices.IndexFunc(infos, func(i wire.DeviceInfo) bool { return i.ID == d.id() })
	if own < 0 || !infos[own].Young {
		return nil, nil
	}
	if err := CheckAge(infos[own], time.Now()); err != nil {
		return nil, err
	}
	login, _, err := d.login(ctx, wire.CommandRevoke, false)
	return login, err
}

// Revoke ends a device's membership, with user verification, and begins a new vault
// epoch. A young device is refused with [wire.CodeYoung] unless a login, which it is
// then asked for, can show that it joined a day ago.
//
// A device may revoke itself without either; it then forgets the account's secrets.
func (d *Device) Revoke(ctx context.Context, device wire.DeviceID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return err
	}
	self := device == d.id()
	var uv UserVerifier
	var login *wire.Login
	if !self {
		var err error
		if login, err = d.loginIfYoung(ctx); err != nil {
			return err
		}
		if uv, err = d.uv(ctx); err != nil {
			return err
		}
	}
	r := &request{
		account:  d.p.Account,
		login:    login,
		commands: []wire.Command{wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: device})},
		uv:       uv,
		secret:   true,
		change:   true,
	}
	if !self {
		return d.beginEpoch(ctx, r)
	}
	r.apply = func(*answer) error {
		d.forget()
		return nil
	}
	if err := d.call(ctx, r); err != nil {
		return err
	}
	return d.storage.Save(ctx, ItemRecords, wire.Marshal(&recordCache{}))
}

// forget takes the account's secrets out of the profile; what is remembered of its
// history stays.
func (d *Device) forget() {
	p := d.p
	p.Member, p.Removed = false, true
	p.Epochs, p.Feed, p.UV, p.Left, p.Unread, p.Listed = nil, nil, nil, nil, nil, 0
	d.cache = nil
}

// PINSet sets a new PIN, unlocks the account and begins a new vault epoch. It needs
// a fresh login and user verification; a young device is refused with [wire.CodeYoung].
func (d *Device) PINSet(ctx context.Context, pin string) error {
	if err := CheckPIN(pin); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return err
	}
	uv, err := d.uv(ctx)
	if err != nil {
		return err
	}
	ticket, configuration, err := d.ticket(ctx, wire.CommandPINSet, true)
	if err != nil {
		return err
	}
	if err := checkStretching(ticket.FreshSalt, ticket.FreshParams, configuration.PIN.Argon2id); err != nil {
		return err
	}
	return d.beginEpoch(ctx, &request{
		account: d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandPINSet, wire.PINSet{
			Ticket:       ticket.Ticket,
			StretchedPIN: stretch([]byte(pin), ticket.FreshSalt, ticket.FreshParams),
		})},
		uv:     uv,
		secret: true,
		change: true,
	})
}

// beginEpoch runs a command whose success is a new vault epoch. The new vault secret
// is taken by the sync behind it, which checks that it leads back to the one held;
// the two must be the same.
func (d *Device) beginEpoch(ctx context.Context, r *request) error {
	var m *wire.Membership
	r.apply = func(a *answer) error {
		if a.repeated != nil {
			return nil
		}
		m = new(wire.Membership)
		return a.result(m)
	}
	if err := d.call(ctx, r); err != nil {
		return err
	}
	if err := d.syncAccount(ctx, nil); err != nil {
		return after(err)
	}
	if m != nil {
		if s := d.p.secrets(m.Epoch); s == nil || subtle.ConstantTimeCompare(s.Vault, m.VaultSecret) != 1 {
			return after(wire.Errorf(wire.CodeVaultSecret, "two vault secrets for one epoch"))
		}
	}
	_, err := d.sync(ctx)
	return after(err)
}

// ReplaceUV puts another UV key or platform credential in the place of this
// device's own, verified by the old one and by next itself. next nil: a new software UV key, under a
// code that [Options.Code] is asked for; that is how a local code is changed.
func (d *Device) ReplaceUV(ctx context.Context, next UserVerifier) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil { // a replacement left open decides which key is the old one
		return err
	}
	old, err := d.uv(ctx)
	if err != nil {
		return err
	}
	software := next == nil
	if software {
		fresh, sealed, err := d.makeUV(ctx)
		if err != nil {
			return err
		}
		next, d.p.NextUV = fresh, sealed
	}
	var arguments wire.ReplaceUV
	arguments.UV, arguments.Platform = next.Credential()
	key := arguments.UV
	if arguments.Platform != nil {
		key = arguments.Platform.PublicKey
	}
	if arguments.Possession, err = next.Verify(ctx, wire.UVPossessionMessage(d.p.Account, d.id(), key)); err != nil {
		return err
	}
	err = d.call(ctx, &request{
		account:  d.p.Account,
		commands: []wire.Command{wire.NewCommand(wire.CommandReplaceUV, arguments)},
		uv:       old,
		secret:   true,
		change:   true,
		apply: func(*answer) error {
			if software {
				d.p.uvReplaced(wire.CommandReplaceUV)
			}
			return nil
		},
	})
	if err == nil {
		d.options.UV = next
		if software {
			d.options.UV = nil
		}
	}
	return err
}

// HistoryEntry is one entry of the account's history, verified with public keys.
type HistoryEntry struct {
	Sequence   uint64
	Hash       wire.Digest
	Generation uint64
	Epoch      uint64
	Note       *ledger.Note // nil where this device does not hold the notes' key
}

// History returns all entries of the account, oldest first. Signatures and links are
// verified from the first to the newest, which must be the remembered one: an entry
// that is missing or changed ends in [wire.CodeEntry] or [wire.CodeFork].
func (d *Device) History(ctx context.Context) ([]HistoryEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.member(); err != nil {
		return nil, err
	}
	var out []HistoryEntry
	var at wire.Head
	for at.Sequence == 0 || at.Sequence < d.p.Known.Sequence {
		var r wire.HistoryResult
		err := d.call(ctx, &request{
			account:  d.p.Account,
			commands: []wire.Command{wire.NewCommand(wire.CommandHistory, wire.History{From: at.Sequence + 1, To: at.Sequence + wire.MaxEntries})},
			secret:   true,
			apply:    func(a *answer) error { return a.result(&r) },
		})
		if err != nil {
			return nil, err
		}
		entries, reached, err := d.session.verifier.VerifyChain(d.p.stream(), at, r.Entries)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			return nil, wire.Errorf(wire.CodeEntry, "the history ends at entry %d of %d", at.Sequence, d.p.Known.Sequence)
		}
		for i, e := range entries {
			h := HistoryEntry{Sequence: e.Sequence, Hash: ledger.EntryHash(r.Entries[i]), Generation: e.Generation, Epoch: e.Epoch}
			if key := d.p.notesKey(e); key != nil {
				if h.Note, err = ledger.OpenNote(key, d.p.Account, e); err != nil {
					return nil, err
				}
			}
			out = append(out, h)
		}
		at = reached
	}
	if at != d.p.Known {
		return nil, fork("the history does not end in the entry that this device remembers")
	}
	return out, nil
}
