package client

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// copied is an older copy of the fake's account. Its host brings it back with older.
type copied struct {
	entries int
	records map[wire.Handle]*fakeRecord
	devices []fakeDevice
}

func (f *fake) copy() (c copied) {
	c.entries, c.records = len(f.account.entries), map[wire.Handle]*fakeRecord{}
	for h, k := range f.account.records {
		r := *k
		c.records[h] = &r
	}
	for _, d := range f.account.devices {
		c.devices = append(c.devices, *d)
	}
	return c
}

func (f *fake) older(c copied) {
	a := f.account
	f.gone = a.entries[len(a.entries)-1]
	a.entries, a.records, a.devices = slices.Clone(a.entries[:c.entries]), c.records, nil
	for _, d := range c.devices {
		a.devices = append(a.devices, &d)
	}
	f.list()
}

// behind makes an account of two devices whose host has gone back. The laptop has seen
// the newest entry there was, the phone nothing of what was lost.
func behind(t *testing.T) (f *fake, laptop, phone *Device) {
	t.Helper()
	f = newFake(t)
	laptop, phone = f.enrolled(), f.joined()
	create(t, laptop, "kept.test", "alice")
	synced(t, laptop)
	synced(t, phone)
	c := f.copy()
	create(t, laptop, "gone.test", "alice")
	create(t, laptop, "gone too.test", "alice")
	f.older(c)
	return f, laptop, phone
}

func synced(t *testing.T, d *Device) {
	t.Helper()
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// goesOn checks that a device follows the account from now on, with what was kept.
func goesOn(t *testing.T, f *fake, d *Device) {
	t.Helper()
	synced(t, d)
	if s := d.Status(); s.Alarm != nil || s.Remembered != f.account.newest() {
		t.Fatalf("%+v, newest %v", s, f.account.newest())
	}
	l, err := d.List(t.Context())
	if err != nil || l.Stale || l.Missing > 0 || !slices.ContainsFunc(l.Passkeys, func(k Passkey) bool { return k.Metadata.RPID == "kept.test" }) ||
		slices.ContainsFunc(l.Passkeys, func(k Passkey) bool { return k.Metadata.RPID == "gone.test" }) {
		t.Fatalf("%+v, %v", l, err)
	}
	h, err := d.History(t.Context())
	if err != nil || !slices.ContainsFunc(h, func(e HistoryEntry) bool { return e.Note != nil && e.Note.Kind == ledger.KindRestore }) {
		t.Fatalf("%d entries, %v", len(h), err)
	}
}

// Two devices restore the older copy, one after the other; then both go on from it.
func TestRestore(t *testing.T) {
	t.Parallel()
	f, laptop, phone := behind(t)
	lost := laptop.Status().Remembered
	for _, d := range []*Device{laptop, phone} {
		_, err := d.Sync(t.Context())
		wantCode(t, err, wire.CodeRollback)
	}
	var shown *Confirmation
	c, err := laptop.Restore(t.Context(), func(c *Confirmation) (bool, error) { shown = c; return true, nil })
	if err != nil || c.Confirmed || c.Approved() != 1 || !c.Known {
		t.Fatalf("%+v, %v", c, err)
	}
	if shown.Offered != f.account.newest() || shown.Lost != lost || shown.Approved() != 0 {
		t.Fatalf("shown %+v", shown)
	}
	if laptop.Status().Remembered != lost {
		t.Fatal("the device forgot before the account was restored")
	}
	// Once more changes nothing, and asks nobody.
	c, err = f.again(laptop).Restore(t.Context(), func(*Confirmation) (bool, error) { return false, errors.New("asked again") })
	if err != nil || c.Confirmed || len(f.approved) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err = phone.Restore(t.Context(), yes); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	goesOn(t, f, phone)
	laptop = f.again(laptop)
	goesOn(t, f, laptop)
	create(t, laptop, "next.test", "alice")
	create(t, phone, "next too.test", "alice")
	if n := laptop.Notices(); !slices.ContainsFunc(n, func(n Notice) bool { return n.Kind == ledger.KindRestore && n.Device == phone.ID() }) {
		t.Errorf("notices %+v", n)
	}
	if c, err := laptop.Restore(t.Context(), func(*Confirmation) (bool, error) { return false, errors.New("asked") }); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
}

// A device that remembers something in between, and did not approve, shows the alarm until
// its person agrees, too.
func TestRestoreTookBack(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop, phone, tablet := f.enrolled(), f.joined(), f.joined()
	create(t, laptop, "kept.test", "alice")
	for _, d := range []*Device{laptop, phone, tablet} {
		synced(t, d)
	}
	c := f.copy()
	create(t, laptop, "gone.test", "alice")
	synced(t, tablet)
	between := tablet.Status().Remembered
	create(t, laptop, "gone too.test", "alice")
	f.older(c)
	at := f.account.newest()
	for _, d := range []*Device{laptop, phone} {
		if _, err := d.Restore(t.Context(), yes); err != nil {
			t.Fatal(err)
		}
	}
	_, err := tablet.Sync(t.Context())
	wantCode(t, err, wire.CodeFork)
	if s := f.again(tablet).Status(); s.Alarm == nil || !s.Alarm.Restored || s.Alarm.Remembered != between || s.Remembered != between {
		t.Fatalf("%+v", s)
	}
	c2, err := tablet.Restore(t.Context(), func(*Confirmation) (bool, error) { return false, nil })
	if s := tablet.Status(); err != nil || !c2.Confirmed || s.Alarm == nil || s.Remembered != between {
		t.Fatalf("declined: %+v, %v", s, err)
	}
	var shown *Confirmation
	tablet.options.Login = func(context.Context, LoginRequest) (string, error) { t.Error("logged in"); return "", ErrNoLogin }
	if _, err := tablet.Restore(t.Context(), func(c *Confirmation) (bool, error) { shown = c; return true, nil }); err != nil {
		t.Fatal(err)
	}
	if !shown.Confirmed || shown.Offered != at || shown.Lost != between {
		t.Fatalf("shown %+v", shown)
	}
	for _, d := range []*Device{laptop, phone, tablet} {
		goesOn(t, f, d)
	}
}

// What a device does not follow, restore or not.
func TestRestoreVeto(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(f *fake){
		// A copy that is no older, and of another branch, is no copy.
		"another branch": func(f *fake) { f.gone = nil; f.fork(2); f.gone = f.account.entries[len(f.account.entries)-1] },
		"another branch, and longer": func(f *fake) {
			f.gone = nil
			f.fork(2)
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			last := len(f.account.entries) - 1
			f.gone, f.account.entries = f.account.entries[last], f.account.entries[:last]
		},
		"a made-up restore": func(f *fake) {
			f.gone = nil
			at := placeOf(f.account.entries[1])
			f.entryAfter(wire.Head{Sequence: at.Sequence + 9}, &at, wire.Digest{}, ledger.Note{Kind: ledger.KindRestore})
			e, _ := ledger.ParseEntry(f.account.entries[len(f.account.entries)-1])
			e.Signature[0]++
			f.account.entries[len(f.account.entries)-1] = wire.Marshal(e)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			laptop := f.enrolled()
			phone := f.joined()
			create(t, laptop, "a.test", "alice")
			synced(t, phone)
			known := phone.Status().Remembered
			f.gone = []byte("entry")
			attack(f)
			phone.options.Login = func(context.Context, LoginRequest) (string, error) { t.Error("logged in"); return "", ErrNoLogin }
			_, err := phone.Restore(t.Context(), func(*Confirmation) (bool, error) { t.Error("asked"); return true, nil })
			wantCode(t, err, wire.CodeFork)
			if s := phone.Status(); s.Remembered != known || len(f.approved) > 0 {
				t.Errorf("%+v, approved %d", s, len(f.approved))
			}
		})
	}
}

// Agreeing to one place agrees to no other, nor to an earlier epoch.
func TestRestoreAgreedToOnePlace(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(f *fake, at wire.Head){
		"another place": func(f *fake, at wire.Head) {
			f.account.entries = f.account.entries[:len(f.account.entries)-1]
			at = f.account.newest()
			f.entryAfter(placeOf(f.gone), &at, wire.Digest{}, ledger.Note{Kind: ledger.KindRestore})
		},
		"an earlier epoch": func(f *fake, at wire.Head) {
			f.account.epoch = 0
			f.account.keys[0] = random(32)
			f.entryAfter(placeOf(f.gone), &at, wire.Digest{}, ledger.Note{Kind: ledger.KindRestore})
			f.account.epoch = 1
		},
	} {
		f, laptop, _ := behind(t)
		at, known := f.account.newest(), laptop.Status().Remembered
		if c, err := laptop.Restore(t.Context(), yes); err != nil || c.Confirmed {
			t.Fatalf("%+v, %v", c, err)
		}
		// Taken back a little further than agreed, or the lost entry's own place is another.
		laptop.p.Known.Sequence--
		attack(f, at)
		f.gone = nil
		_, err := laptop.Sync(t.Context())
		wantCode(t, err, wire.CodeFork)
		if s := laptop.Status(); s.Alarm == nil || s.Remembered.Sequence != known.Sequence-1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// A device approves the loss that its person saw, whatever more is lost a moment later.
func TestRestoreApprovesTheLossItSaw(t *testing.T) {
	t.Parallel()
	f, laptop, _ := behind(t)
	_, err := laptop.Restore(t.Context(), func(*Confirmation) (bool, error) {
		older := f.copy()
		f.entryAfter(placeOf(f.gone), nil, wire.Digest{}, ledger.Note{Kind: ledger.KindCreate})
		older.entries = len(f.account.entries) - 1
		f.older(older)
		return true, nil
	})
	wantCode(t, err, wire.CodeConflict)
	if len(f.approved) > 0 {
		t.Error("approved")
	}
}

// Without the newest entry nothing is restored, however many approve.
func TestRestoreUnknown(t *testing.T) {
	t.Parallel()
	f, laptop, phone := behind(t)
	laptop.p.Newest = nil
	for _, d := range []*Device{laptop, phone, laptop} {
		if c, err := d.Restore(t.Context(), yes); err != nil || c.Confirmed || c.Known {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	if f.gone == nil || len(f.approved) != 2 {
		t.Fatalf("%d approvals", len(f.approved))
	}
	_, err := f.device().Restore(t.Context(), yes)
	if !errors.Is(err, ErrNotMember) {
		t.Fatal(err)
	}
}

// Lost again before a device followed the first restore: it goes back to where that led,
// and approves the second one.
func TestRestoredTwice(t *testing.T) {
	t.Parallel()
	for name, approved := range map[string]bool{"approved the first": true, "did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			laptop, phone, tablet := f.enrolled(), f.joined(), f.joined()
			create(t, laptop, "kept.test", "alice")
			for _, d := range []*Device{laptop, phone, tablet} {
				synced(t, d)
			}
			c := f.copy()
			create(t, laptop, "gone.test", "alice")
			synced(t, tablet)
			create(t, laptop, "gone too.test", "alice")
			f.older(c)
			if approved {
				if c, err := tablet.Restore(t.Context(), yes); err != nil || c.Confirmed {
					t.Fatalf("%+v, %v", c, err)
				}
			} else if _, err := phone.Restore(t.Context(), yes); err != nil {
				t.Fatal(err)
			}
			if c, err := laptop.Restore(t.Context(), yes); err != nil || !c.Confirmed {
				t.Fatalf("%+v, %v", c, err)
			}
			again := f.copy()
			first := f.account.newest()
			create(t, laptop, "gone.test", "alice")
			f.older(again)
			f.brought = false
			if _, err := laptop.Restore(t.Context(), yes); err != nil {
				t.Fatal(err)
			}
			asked := 0
			if c, err := tablet.Restore(t.Context(), func(*Confirmation) (bool, error) { asked++; return asked < 9, nil }); err != nil || !c.Confirmed {
				t.Fatalf("%+v, %v", c, err)
			}
			if want := map[bool]int{true: 1, false: 2}[approved]; asked != want {
				t.Errorf("asked %d times, want %d", asked, want)
			}
			if e, err := ledger.ParseEntry(f.account.entries[len(f.account.entries)-1]); err != nil || *e.Restored != first {
				t.Fatalf("%+v, %v", e, err)
			}
			for _, d := range []*Device{laptop, phone, tablet} {
				goesOn(t, f, d)
			}
		})
	}
}

// That a device is not in the older copy is no word that it was revoked.
func TestRestoreOfBeforeItJoined(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.enrolled()
	c := f.copy()
	phone := f.joined()
	f.older(c)
	_, err := phone.Restore(t.Context(), yes)
	wantCode(t, err, wire.CodeUnknownDevice)
	if s := f.again(phone).Status(); s.Removed || !s.Member {
		t.Errorf("%+v", s)
	}
}

// To have agreed to a restore that came to nothing is no yes to a later one.
func TestRestoreAgreementEnds(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop, phone := f.enrolled(), f.joined()
	create(t, laptop, "kept.test", "alice")
	synced(t, phone)
	c := f.copy()
	create(t, laptop, "gone.test", "alice")
	create(t, laptop, "gone too.test", "alice")
	whole, entries := f.copy(), slices.Clone(f.account.entries)
	f.older(c)
	c = f.copy()
	at := f.account.newest()
	if c, err := laptop.Restore(t.Context(), yes); err != nil || c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	f.account.entries = entries // the lost database was found
	f.older(whole)
	f.gone, f.approved, f.brought = nil, nil, false
	synced(t, laptop)
	create(t, phone, "other.test", "alice")
	f.older(c)
	f.entryAfter(placeOf(f.gone), &at, wire.Digest{}, ledger.Note{Kind: ledger.KindRestore})
	f.list()
	f.gone = nil
	_, err := laptop.Sync(t.Context())
	wantCode(t, err, wire.CodeFork)
}

// What there was must contain what this device remembers. A local ledger that forgot says
// that nothing is lost; a device that does not have the entry itself knows better.
func TestRestoreOfLess(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(f *fake, d *Device){
		"nothing lost": func(f *fake, d *Device) { f.gone, d.p.Newest = nil, nil },
		"less lost": func(f *fake, d *Device) {
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
			f.gone = f.account.entries[len(f.account.entries)-1]
			f.account.entries = f.account.entries[:len(f.account.entries)-1]
		},
		"another lost": func(f *fake, d *Device) {
			e, _ := ledger.ParseEntry(f.gone)
			e.Request[0]++
			f.gone = e.Sign(f.ledger[0])
		},
	} {
		f, laptop, _ := behind(t)
		attack(f, laptop)
		known := laptop.Status().Remembered
		_, err := laptop.Restore(t.Context(), func(*Confirmation) (bool, error) { return false, errors.New("asked") })
		if wire.CodeOf(err) != wire.CodeFork {
			t.Errorf("%s: %v", name, err)
		}
		if s := f.again(laptop).Status(); s.Alarm == nil || s.Alarm.Remembered != known || s.Alarm.Offered != f.account.newest() {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
