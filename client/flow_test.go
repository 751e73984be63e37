package client

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func site(rpID, user string) wire.Create {
	return wire.Create{RPID: rpID, UserHandle: []byte(user), UserName: user, Algorithms: []int64{-7}, Created: 1}
}

func create(t *testing.T, d *Device, rpID, user string) *Created {
	t.Helper()
	c, err := d.Create(t.Context(), site(rpID, user))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func passkeys(t *testing.T, d *Device) []Passkey {
	t.Helper()
	l, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l.Passkeys
}

func TestTwoDevices(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	made := create(t, laptop, "a.test", "alice")
	if len(f.account.devices) != 1 || laptop.Status().Remembered != f.account.newest() {
		t.Fatal("not enrolled, or not remembered")
	}

	phone := f.joined()
	if _, err := phone.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k := passkeys(t, phone); len(k) != 1 || k[0].Handle != made.Handle || k[0].Metadata.RPID != "a.test" {
		t.Fatalf("the phone lists %v", k)
	}
	a, err := phone.SignIn(t.Context(), SignInRequest{RPID: "a.test", ClientDataHash: wire.Digest{1}})
	if err != nil || !bytes.Equal(a.CredentialID, made.CredentialID) || string(a.UserHandle) != "alice" {
		t.Fatal(a, err)
	}
	if _, err := phone.SignIn(t.Context(), SignInRequest{RPID: "b.test"}); wire.CodeOf(err) != wire.CodeNotFound {
		t.Fatal(err)
	}

	// The laptop hears of the join and of nothing that it did itself.
	if _, err := laptop.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := laptop.Notices()
	if len(n) != 1 || n[0].Kind != ledger.KindJoin || n[0].Name != "phone" || n[0].Device != phone.ID() {
		t.Fatalf("notices %+v", n)
	}
	if err := laptop.NoticesShown(t.Context(), n[0].Sequence); err != nil || len(f.again(laptop).Notices()) != 0 {
		t.Fatal("shown notices stay", err)
	}

	// A profile opened again is the same device.
	again := f.again(phone)
	if again.ID() != phone.ID() || len(passkeys(t, again)) != 1 {
		t.Fatal("another device after opening the profile again")
	}
	if _, err := again.Assert(t.Context(), AssertRequest{Handle: made.Handle}); err != nil {
		t.Fatal(err)
	}
	h, err := again.History(t.Context())
	if err != nil || len(h) != len(f.account.entries) || h[0].Note == nil || h[0].Note.Kind != ledger.KindEnrol {
		t.Fatal(h, err)
	}
}

func TestNewEpoch(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	for _, user := range []string{"a", "b", "c"} {
		create(t, laptop, "a.test", user)
	}
	phone, lost := f.joined(), f.joined()
	for _, d := range []*Device{phone, lost} {
		if _, err := d.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := laptop.Revoke(t.Context(), lost.ID()); err != nil {
		t.Fatal(err)
	}
	for h, k := range f.account.records {
		if k.record.Epoch != 2 {
			t.Errorf("record %s was not sealed anew", h)
		}
	}
	if err := laptop.PINSet(t.Context(), "730264"); err != nil {
		t.Fatal(err)
	}
	for _, n := range laptop.Notices() {
		if n.Device == laptop.ID() {
			t.Errorf("a notice of what the device did itself: %+v", n)
		}
	}
	if s := laptop.Status(); s.Epoch != 3 {
		t.Fatalf("epoch %d after two new ones", s.Epoch)
	}

	// The phone held epoch 1: its next request says so, syncs and goes on, once.
	f.sent = nil
	if _, err := phone.Devices(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.count(wire.CommandDevices) != 2 || f.count(wire.CommandSync) != 1 {
		t.Fatalf("sent %v", f.sent)
	}
	r, err := phone.Sync(t.Context())
	if err != nil || r.Epoch != 3 {
		t.Fatal(r, err)
	}
	if len(passkeys(t, phone)) != 3 {
		t.Fatal("passkeys lost on the way")
	}
	kinds := map[ledger.Kind]int{}
	for _, n := range r.Notices {
		kinds[n.Kind]++
	}
	if kinds[ledger.KindRevoke] != 1 || kinds[ledger.KindPINSet] != 1 || kinds[ledger.KindJoin] != 1 {
		t.Fatalf("notices %v", kinds)
	}

	// A service that says so and shows no history may have gone back to before the
	// join: that is an alarm, not a revocation.
	f.mute = true
	_, err = lost.Sync(t.Context())
	wantCode(t, err, wire.CodeFork)
	if s := lost.Status(); s.Removed {
		t.Fatal("a revocation without its history is believed")
	}
	lost.ClearAlarm(t.Context())
	f.mute = false
	_, err = lost.Sync(t.Context())
	wantCode(t, err, wire.CodeUnknownDevice)
	if s := f.again(lost).Status(); !s.Removed || !s.Member {
		t.Fatal("a sealed revocation is not kept, or wiped the profile")
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.enrolled()
	phone := f.joined()
	phone.options.Code = nil // leaving needs no user verification
	if err := phone.Revoke(t.Context(), phone.ID()); err != nil {
		t.Fatal(err)
	}
	p, err := loadProfile(t.Context(), phone.storage)
	if err != nil || p.Member || len(p.Epochs) != 0 || p.Feed != nil {
		t.Fatal("secrets stay in the profile of a device that left", err)
	}
	if _, err := phone.Sync(t.Context()); !errors.Is(err, ErrNotMember) {
		t.Fatal(err)
	}
}

func TestReplaceUV(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	codes := []string{testCode, "new code"}
	d.options.Code = func(_ context.Context, r CodeRequest) (string, error) {
		if r.New {
			return codes[1], nil
		}
		return codes[0], nil
	}
	old := f.account.devices[0].keys.UV
	f.lose = func(n wire.CommandName) bool { return n == wire.CommandReplaceUV && f.count(n) == 1 }
	if err := d.ReplaceUV(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(old, f.account.devices[0].keys.UV) {
		t.Fatal("the UV key is the old one")
	}
	d = f.again(d)
	if _, err := d.Create(t.Context(), site("a.test", "a")); !errors.Is(err, ErrWrongCode) {
		t.Fatalf("the old code: %v", err)
	}
	codes[0] = codes[1]
	create(t, d, "a.test", "a")
}

func TestConflict(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	made := create(t, laptop, "a.test", "a")
	phone := f.joined()
	if _, err := phone.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := laptop.Rename(t.Context(), made.Handle, "first"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, phone.Rename(t.Context(), made.Handle, "second"), wire.CodeConflict)
	if k := passkeys(t, phone); k[0].Metadata.Label != "first" {
		t.Fatal("a conflict does not bring what stands")
	}
	if err := phone.Rename(t.Context(), made.Handle, "second"); err != nil {
		t.Fatal(err)
	}
}

func TestKeyGone(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.newKey()
	create(t, d, "a.test", "a")
}

func TestLongHistory(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	phone := f.joined()
	for range 2*wire.MaxEntries + 10 {
		f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindWrong, Device: wire.DeviceID{9}, Name: "thief"})
	}
	f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindReplaceUV, Device: phone.ID()})
	if _, err := laptop.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if laptop.Status().Remembered != f.account.newest() {
		t.Fatal("not all entries were fetched")
	}
	h, err := laptop.History(t.Context())
	if err != nil || len(h) != len(f.account.entries) {
		t.Fatal(len(h), err)
	}
}
