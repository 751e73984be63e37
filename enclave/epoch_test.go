package enclave

import (
	"bytes"
	"testing"

	"github.com/passclave/passclave/wire"
)

func (p *phone) revoke(t *testing.T, target *phone) error {
	t.Helper()
	a := p.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: target.id}))
	a.uv = true
	r, err := p.change(a)
	if err == nil {
		p.member(result[wire.Membership](t, r, err))
	}
	return err
}

// A new epoch leaves nothing that opens the old one in force: not the account key,
// not the vault secret, not a wrap.
func TestNewEpochIsNew(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, first, next *phone){
		"revoke": func(t *testing.T, first, next *phone) {
			if err := first.revoke(t, next); err != nil {
				t.Fatal(err)
			}
		},
		"pin-set": func(t *testing.T, first, _ *phone) { first.setPIN(t, "564738") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first, next := w.device("alice").enrol(pin), w.device("alice")
			if err := next.join(pin); err != nil {
				t.Fatal(err)
			}
			made := first.create()
			before, secret := w.opened(first), first.vault
			begin(t, first, next)
			after := w.opened(first)
			if bytes.Equal(before.key, after.key) || bytes.Equal(secret, first.vault) {
				t.Fatal("the new epoch has a key of the old one")
			}
			if after.head.Epoch != before.head.Epoch+1 {
				t.Fatalf("epoch %d", after.head.Epoch)
			}
			for _, wrap := range w.store.Accounts[first.account].Wraps {
				if wrap.Epoch != after.head.Epoch {
					t.Fatalf("the store still has the wrap of epoch %d", wrap.Epoch)
				}
			}
			old, new := before.head.Recovery, after.head.Recovery
			same := []bool{
				bytes.Equal(old.Salt, new.Salt), bytes.Equal(old.Pepper, new.Pepper),
				old.Public == new.Public, bytes.Equal(old.Private, new.Private),
			}
			for i, same := range same {
				if same != (name == "revoke") {
					t.Errorf("member %d of the recovery record is the same: %v", i, same)
				}
			}
			if old.Envelope == new.Envelope {
				t.Error("the recovery key still opens the old vault secret")
			}
			// Two blobs a device and two of the recovery record: none of before.
			if n := len(w.store.Accounts[first.account].Blobs); n != 2*len(after.head.Devices)+2 {
				t.Errorf("%d blobs for %d devices", n, len(after.head.Devices))
			}
			// The old account key goes with the last record under it.
			if n := len(after.head.Earlier); n != 1 {
				t.Errorf("%d earlier account keys", n)
			}
			a := first.ask(wire.NewCommand(wire.CommandReseal, wire.ResealPage{}))
			a.handles = []wire.Handle{made.Handle}
			if _, err := first.change(a); err != nil {
				t.Fatal(err)
			}
			if n := len(w.opened(first).head.Earlier); n != 0 {
				t.Errorf("%d earlier account keys after all is sealed anew", n)
			}
		})
	}
}

// Epochs end while the head can still be opened; a device can be revoked for longer
// than PINs can be set.
func TestEpochsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, next := w.device("alice").enrol(pin), w.device("alice")
	if err := next.join(pin); err != nil {
		t.Fatal(err)
	}
	setPIN := func() error {
		r, err := first.change(first.pinSetAsk(t, pin, first.login()))
		if err == nil {
			first.member(result[wire.Membership](t, r, err))
		}
		return err
	}
	at := func(epoch uint64) { w.rewrite(t, first, func(h *head) { h.Epoch = epoch }) }
	at(maxEpochs - 1)
	if err := setPIN(); err != nil || first.epoch != maxEpochs {
		t.Fatalf("epoch %d, %v", first.epoch, err)
	}
	wantCode(t, setPIN(), wire.CodeLimit)
	at(lastEpoch)
	wantCode(t, first.revoke(t, next), wire.CodeLimit)
	at(lastEpoch - 1)
	if err := first.revoke(t, next); err != nil {
		t.Fatal(err)
	}
}

// A ticket sets one PIN: another would stand under the same salt.
func TestTicketSetsOnePIN(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	k, other := p.ticket(), p.ticket()
	set := func(k *wire.TicketResult, pin string) error {
		a := p.ask(wire.NewCommand(wire.CommandPINSet, wire.PINSet{Ticket: k.Ticket, StretchedPIN: stretch(pin, k.FreshSalt)}))
		a.uv = true
		r, err := p.change(a)
		if err == nil {
			p.member(result[wire.Membership](t, r, err))
		}
		return err
	}
	if err := set(k, "564738"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, set(k, "564739"), wire.CodeChallenge)
	wantCode(t, set(other, "564740"), wire.CodeChallenge)
	if err := set(p.ticket(), "564741"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, set(k, "564742"), wire.CodeChallenge)
	if err := w.device("alice").join("564741"); err != nil {
		t.Fatal(err)
	}
}
