package client

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func TestEpochRefused(t *testing.T) {
	t.Parallel()
	sync := func(change func(r *wire.SyncResult)) func(*fake) {
		return func(f *fake) {
			f.respond = func(b *wire.Body, r *wire.Response) {
				if b.Commands[0].Name != wire.CommandSync || r.Error != nil {
					return
				}
				var s wire.SyncResult
				if err := wire.Unmarshal(r.Results[0], &s); err != nil {
					f.t.Error(err)
				}
				change(&s)
				r.Results[0] = wire.Marshal(s)
			}
		}
	}
	// forge seals a vault secret of the attacker's to the device: anybody can, the
	// encryption key is public.
	forge := func(f *fake, s *wire.SyncResult, epoch uint64, secret []byte) {
		s.Epoch = epoch
		var err error
		if s.Envelope, err = wire.SealVaultSecret(f.account.devices[0].keys.Encryption, f.scope(epoch), f.account.devices[0].id, secret); err != nil {
			f.t.Error(err)
		}
	}
	previous := func(f *fake, secret []byte, epoch uint64, p wire.Previous) []byte {
		return wire.SealPrevious(secret, f.scope(epoch), p)
	}
	tests := []struct {
		name   string
		attack func(f *fake)
		want   wire.Code
	}{
		{"a new secret without a chain", func(f *fake) {
			sync(func(s *wire.SyncResult) { forge(f, s, 3, random(32)); s.Previous = nil })(f)
		}, wire.CodeVaultSecret},
		{"a chain to another secret", func(f *fake) {
			secret := random(32)
			box := previous(f, secret, 3, wire.Previous{VaultSecret: random(32), NotesKey: random(32)})
			sync(func(s *wire.SyncResult) { forge(f, s, 3, secret); s.Previous = [][]byte{box} })(f)
		}, wire.CodeVaultSecret},
		{"the old chain under a new secret", func(f *fake) {
			sync(func(s *wire.SyncResult) { forge(f, s, 3, random(32)) })(f)
		}, wire.CodeVaultSecret},
		{"a chain that is right at the newest and wrong before", func(f *fake) {
			secret, former := random(32), random(32)
			boxes := [][]byte{
				previous(f, secret, 3, wire.Previous{VaultSecret: f.account.vault[2], NotesKey: random(32)}),
				previous(f, f.account.vault[2], 2, wire.Previous{VaultSecret: former, NotesKey: random(32)}),
			}
			sync(func(s *wire.SyncResult) { forge(f, s, 3, secret); s.Previous = boxes })(f)
		}, wire.CodeVaultSecret},
		{"an envelope to another device", func(f *fake) {
			sync(func(s *wire.SyncResult) { s.Epoch = 3; s.Envelope[len(s.Envelope)-1] ^= 1 })(f)
		}, wire.CodeVaultSecret},
		{"an earlier epoch", func(f *fake) {
			sync(func(s *wire.SyncResult) { s.Epoch = 1 })(f)
		}, wire.CodeRollback},
		{"another generation", func(f *fake) {
			sync(func(s *wire.SyncResult) { s.Generation = 2 })(f)
		}, wire.CodeEpoch},
		{"no notes' key", func(f *fake) {
			sync(func(s *wire.SyncResult) { s.NotesKey = nil })(f)
		}, wire.CodeMalformed},
		{"the newest entry stands under a later epoch", func(f *fake) {
			a := f.account
			f.newEpoch()
			f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindRevoke})
			manifest := a.manifest
			sync(func(s *wire.SyncResult) { s.Epoch, s.Manifest = 2, manifest })(f)
		}, wire.CodeRollback},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			if err := d.PINSet(t.Context(), "730264"); err != nil {
				t.Fatal(err)
			}
			held := string(wire.Marshal(d.p.Epochs))
			tt.attack(f)
			_, err := d.Sync(t.Context())
			wantCode(t, err, tt.want)
			if string(wire.Marshal(f.again(d).p.Epochs)) != held {
				t.Error("the refused epoch was stored")
			}
		})
	}
}

// The answer to pin-set names another secret than the sync behind it.
func TestTwoSecretsForOneEpoch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.respond = func(b *wire.Body, r *wire.Response) {
		if b.Commands[0].Name == wire.CommandPINSet {
			r.Results[0] = wire.Marshal(wire.Membership{Generation: 1, Epoch: 2, VaultSecret: random(32), NotesKey: random(32)})
		}
	}
	err := d.PINSet(t.Context(), "730264")
	wantCode(t, err, wire.CodeVaultSecret)
}

// A device that joined has seen no entry of its epoch, and still takes no earlier one.
func TestEarlierEpochAfterJoin(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	if err := f.enrolled().PINSet(t.Context(), testPIN); err != nil {
		t.Fatal(err)
	}
	phone := f.joined()
	f.respond = func(b *wire.Body, r *wire.Response) {
		var s wire.SyncResult
		if err := wire.Unmarshal(r.Results[0], &s); err != nil {
			t.Error(err)
		}
		s.Epoch = 1
		r.Results[0] = wire.Marshal(s)
	}
	_, err := phone.Sync(t.Context())
	wantCode(t, err, wire.CodeRollback)
}
