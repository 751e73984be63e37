package client

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func kinds(d *Device) (k []ledger.Kind, lost uint64) {
	for _, n := range d.Notices() {
		k, lost = append(k, n.Kind), lost+n.Lost
	}
	return k, lost
}

// A join stands behind more entries of a new epoch than the profile keeps: it is
// shown, whichever call is the first to hear of the epoch.
func TestJoinBehindManyEntries(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(*testing.T, *Device) error{
		"sync": func(t *testing.T, d *Device) error { _, err := d.Sync(t.Context()); return err },
		"call": func(t *testing.T, d *Device) error { _, err := d.Devices(t.Context()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			f.newEpoch()
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindPINSet, Device: wire.DeviceID{9}})
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindJoin, Device: wire.DeviceID{9}, Name: "thief"})
			for range maxUnread + 20 {
				f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit, Device: wire.DeviceID{9}})
			}
			f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit, Device: wire.DeviceID{9}})
			if err := call(t, d); err != nil {
				t.Fatal(err)
			}
			if k, lost := kinds(f.again(d)); !slices.Equal(k, []ledger.Kind{ledger.KindPINSet, ledger.KindJoin}) || lost != 0 {
				t.Errorf("notices %v, %d lost", k, lost)
			}
		})
	}
}

// More notices than are kept: the oldest go, and one notice says so until it is shown.
func TestTooManyNotices(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.commit(wire.Digest{}, ledger.Note{Kind: ledger.KindJoin, Device: wire.DeviceID{9}})
	for range maxNotices + 9 {
		f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindWrong, Device: wire.DeviceID{9}})
	}
	if _, err := d.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := f.again(d).Notices()
	// Entry 2 is the join; 10 and one more had to go, for the notice that says so.
	if len(n) != maxNotices || n[0] != (Notice{Sequence: 12, Lost: 11}) || n[1].Sequence != 13 {
		t.Fatalf("%d notices, first %+v", len(n), n[0])
	}
	if err := d.NoticesShown(t.Context(), n[len(n)-1].Sequence); err != nil || len(d.Notices()) != 0 {
		t.Error("shown notices stay", err)
	}
}

// A revoked device never gets the key to the notes of after. What it cannot keep of
// them it counts.
func TestUnreadBounded(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop, phone := f.enrolled(), f.joined()
	if err := laptop.Revoke(t.Context(), phone.ID()); err != nil {
		t.Fatal(err)
	}
	for range maxUnread + 6 {
		f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
	}
	_, err := phone.Sync(t.Context())
	wantCode(t, err, wire.CodeUnknownDevice)
	phone = f.again(phone)
	if n := phone.Notices(); len(phone.p.Unread) != maxUnread || len(n) != 1 || n[0].Lost != 7 {
		t.Errorf("%d unread, notices %+v", len(phone.p.Unread), n)
	}
}
