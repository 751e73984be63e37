package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/wire"
)

// Every command of a member but sync and history needs the vault secret in force;
// and whoever brings one that is wrong is refused by those too.
func TestVaultSecretNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	former := p.vault
	p.setPIN(t, "564738")
	made := p.create()
	h := []wire.Handle{made.Handle}
	asks := map[wire.CommandName]func() *ask{
		wire.CommandCreate: p.createAsk,
		wire.CommandAssert: func() *ask { return p.assertAsk(made.Handle) },
		wire.CommandPINSet: func() *ask { return p.pinSetAsk(t, pin, p.login()) },
	}
	for name, arguments := range map[wire.CommandName]any{
		wire.CommandBlob:      wire.WriteBlob{Handle: made.Handle, Replaces: made.Version},
		wire.CommandRename:    wire.Rename{Handle: made.Handle, Replaces: made.Version, Label: "new"},
		wire.CommandHide:      wire.Hide{Handle: made.Handle, Replaces: made.Version, Hidden: true},
		wire.CommandDelete:    wire.Delete{Handle: made.Handle, Replaces: made.Version},
		wire.CommandReseal:    wire.ResealPage{},
		wire.CommandRevoke:    wire.Revoke{Device: p.id},
		wire.CommandReplaceUV: wire.ReplaceUV{UV: point(p.uvKey), Possession: &wire.UserVerification{Signature: sign(p.uvKey, wire.UVPossessionMessage(p.account, p.id, point(p.uvKey)))}},
		wire.CommandDevices:   wire.Devices{},
		wire.CommandSync:      wire.Sync{},
		wire.CommandHistory:   wire.History{From: 1, To: 9},
		wire.CommandConfirm:   wire.Confirm{},
	} {
		asks[name] = func() *ask {
			a := p.ask(wire.NewCommand(name, arguments))
			if commands[name].handle != nil {
				a.handles = h
			}
			a.uv = true
			return a
		}
	}
	for name := range commands {
		if asks[name] == nil && !stranger(&wire.Body{Commands: []wire.Command{{Name: name}}}) {
			t.Fatalf("no row for %s", name)
		}
	}
	for name, ask := range asks {
		t.Run(string(name), func(t *testing.T) {
			without := name == wire.CommandSync || name == wire.CommandHistory || name == wire.CommandConfirm
			send := func(secret []byte, epoch uint64) error {
				a := ask()
				a.body.VaultSecret, a.body.Epoch = secret, epoch
				if commands[name].changes {
					a.body.Number = p.number + 1
				}
				_, err := p.send(a)
				return err
			}
			refused := func(err error, want wire.Code, alsoWithout bool) {
				t.Helper()
				if without && !alsoWithout {
					want = ""
				}
				if wire.CodeOf(err) != want {
					t.Fatalf("got %v, want %q", err, want)
				}
			}
			refused(send(nil, 0), wire.CodeVaultSecret, false)
			refused(send(former, 1), wire.CodeEpoch, false)
			refused(send(former, 2), wire.CodeVaultSecret, true)
			refused(send(slices.Concat(p.vault, []byte{0}), 2), wire.CodeVaultSecret, true)
			refused(send(p.vault, 3), wire.CodeEpoch, true)
		})
	}
}

// Each member of the membership is authenticated by the vault secret: an attacker
// with the KEK changes one, and nothing is done for the device that brings it.
func TestForgedMembership(t *testing.T) {
	t.Parallel()
	spy := newWorld(t).device("spy")
	hello := newAuthenticator()
	for name, change := range map[string]func(*head){
		"device ID":           func(h *head) { h.Devices[1].ID = spy.id },
		"device key":          func(h *head) { h.Devices[1].Key = point(spy.key) },
		"UV key":              func(h *head) { h.Devices[1].UV = point(spy.uvKey) },
		"platform credential": func(h *head) { h.Devices[1].Platform = &hello.credential },
		"encryption key":      func(h *head) { h.Devices[1].Encryption = wire.BlobHash(spy.encryption.PublicKey().Bytes()) },
		"how it joined":       func(h *head) { h.Devices[1].How = howEnrol },
		"when it joined":      func(h *head) { h.Devices[1].Joined -= youth },
		"grown":               func(h *head) { h.Devices[1].Grown = true },
		"one less":            func(h *head) { h.Devices = h.Devices[:1] },
		"one twice":           func(h *head) { h.Devices = append(h.Devices, h.Devices[1]) },
		"recovery key":        func(h *head) { h.Recovery.Public = wire.Digest{1} },
		"generation":          func(h *head) { h.Generation++ },
		"epoch":               func(h *head) { h.Epoch++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.device("alice").enrol(pin)
			if err := w.device("alice").join(pin); err != nil {
				t.Fatal(err)
			}
			first.create()
			w.forge(t, first, func(h *head) {
				change(h)
				first.epoch = h.Epoch
			})
			_, err := first.change(first.createAsk())
			wantCode(t, err, wire.CodeVaultSecret)
			_, err = first.send(first.ask(wire.NewCommand(wire.CommandDevices, wire.Devices{})))
			wantCode(t, err, wire.CodeVaultSecret)
		})
	}
}
