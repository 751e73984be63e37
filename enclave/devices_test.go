package enclave

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestYoungDeviceCannotRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	young := w.device("alice")
	if err := young.join(pin); err != nil {
		t.Fatal(err)
	}
	revoke := func(p, target *phone, uv bool) *ask {
		a := p.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: target.id}))
		a.uv = uv
		return a
	}
	_, err := young.change(revoke(young, first, true))
	wantCode(t, err, wire.CodeYoung)
	a := revoke(young, first, true)
	a.body.Login = young.login()
	_, err = young.change(a)
	wantCode(t, err, wire.CodeYoung)
	_, err = first.change(revoke(first, young, false))
	wantCode(t, err, wire.CodeUVRequired)
	_, err = first.change(revoke(first, w.device("alice"), true))
	wantCode(t, err, wire.CodeNotFound)
	// A day of login time later it may.
	w.iat += youth
	a = revoke(young, first, true)
	a.body.Login = young.login()
	r, err := young.change(a)
	young.member(result[wire.Membership](t, r, err))
	_, err = first.sync()
	wantCode(t, err, wire.CodeUnknownDevice)
}

// A refusal tells a device that knows the account where it stands, so that a
// revocation read out of an older state is found out.
func TestRefusalCarriesHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	gone := w.device("alice")
	if err := gone.join(pin); err != nil {
		t.Fatal(err)
	}
	a := first.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: gone.id}))
	a.uv = true
	if _, err := first.change(a); err != nil {
		t.Fatal(err)
	}
	known := *gone.known
	r, err := gone.send(gone.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})))
	wantCode(t, err, wire.CodeUnknownDevice)
	_, head, err := w.core.Verifier().VerifyChain(wire.Stream(w.config.Ledger.ID, gone.account), known, r.Entries)
	if err != nil || head != r.Newest || head.Sequence == known.Sequence {
		t.Fatalf("%v, newest %v: %v", head, r.Newest, err)
	}
}

func TestDeviceRevokesItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	next := w.device("alice")
	if err := next.join(pin); err != nil {
		t.Fatal(err)
	}
	a := next.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: next.id}))
	r, err := next.change(a) // young, and without UV
	m := result[wire.Membership](t, r, err)
	if m.VaultSecret != nil || m.FeedToken != nil || m.NotesKey != nil {
		t.Fatal("the leaver got the new epoch's secrets")
	}
	if s, err := first.sync(); err != nil || s.Epoch != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if tokens := w.store.Accounts[first.account].FeedTokens; len(tokens) != 1 {
		t.Fatalf("%d feed tokens", len(tokens))
	}
}

func TestReplaceUV(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	fresh := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	digest := wire.UVPossession(p.account, p.id, point(fresh))
	replace := func(possession []byte) *ask {
		a := p.ask(wire.NewCommand(wire.CommandReplaceUV, wire.ReplaceUV{UV: point(fresh), Possession: &wire.UserVerification{Signature: possession}}))
		a.uv = true
		return a
	}
	a := replace(must(ecdsa.SignASN1(rand.Reader, p.uvKey, digest[:])))
	_, err := p.change(a)
	wantCode(t, err, wire.CodeSignature)
	a = replace(must(ecdsa.SignASN1(rand.Reader, fresh, digest[:])))
	a.uvWith = fresh
	_, err = p.change(a)
	wantCode(t, err, wire.CodeUVRequired)
	a = replace(must(ecdsa.SignASN1(rand.Reader, fresh, digest[:])))
	if _, err := p.change(a); err != nil {
		t.Fatal(err)
	}
	p.uvKey = fresh
	p.create()
}

// A device that shares another's encryption key would take it along when it goes.
func TestEncryptionKeyOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	thief := w.device("alice")
	thief.encryption = first.encryption
	wantCode(t, thief.join(pin), wire.CodeArgument)
	if w.commits() != 0 {
		t.Fatal("an attempt was spent on it")
	}
}
