package client

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func yes(*Confirmation) (bool, error) { return true, nil }

// Two devices confirm, one after the other; then all goes on as before.
func TestConfirm(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	laptop := f.enrolled()
	phone := f.joined()
	create(t, laptop, "a.test", "alice")
	f.lost = true
	for _, d := range []*Device{laptop, phone} {
		_, err := d.Sync(t.Context())
		wantCode(t, err, wire.CodeDiscontinued)
	}
	var shown *Confirmation
	c, err := laptop.Confirm(t.Context(), func(c *Confirmation) (bool, error) { shown = c; return true, nil })
	if err != nil || c.Confirmed || c.Approved() != 1 || c.Needed != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	if shown.Offered != f.account.newest() || shown.Approved() != 0 || len(shown.Devices) != 2 {
		t.Fatalf("shown %+v", shown)
	}
	// Once more changes nothing, and asks nobody.
	c, err = f.again(laptop).Confirm(t.Context(), func(*Confirmation) (bool, error) { return false, errors.New("asked again") })
	if err != nil || c.Confirmed || len(f.approved) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err = phone.Confirm(t.Context(), yes); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, d := range []*Device{laptop, phone} {
		if _, err := d.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	create(t, laptop, "b.test", "alice")
	if n := laptop.Notices(); !slices.ContainsFunc(n, func(n Notice) bool { return n.Kind == ledger.KindConfirm && n.Device == phone.ID() }) {
		t.Errorf("notices %+v", n)
	}
	if c, err := laptop.Confirm(t.Context(), yes); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
}

// A device that remembers an entry outside the offered chain vetoes: alarm, no login, no
// approval.
func TestConfirmVeto(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(f *fake){
		"older":  func(f *fake) { f.account.entries = f.account.entries[:2] },
		"forked": func(f *fake) { f.fork(3) },
		"forked, and longer": func(f *fake) {
			f.fork(3)
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
		},
		"nothing": func(f *fake) {
			f.respond = func(_ *wire.Body, r *wire.Response) { r.Newest, r.Entries = wire.Head{}, nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.enrolled()
			d := f.joined()
			create(t, d, "a.test", "alice")
			f.lost = true
			attack(f)
			known := d.Status().Remembered
			d.options.Login = func(context.Context, LoginRequest) (string, error) { t.Error("logged in"); return "", ErrNoLogin }
			_, err := d.Confirm(t.Context(), func(*Confirmation) (bool, error) { t.Error("asked"); return true, nil })
			wantCode(t, err, wire.CodeFork)
			if s := f.again(d).Status(); s.Alarm == nil || s.Alarm.Remembered != known || s.Remembered != known {
				t.Errorf("%+v", s)
			}
			if len(f.approved) > 0 {
				t.Error("approved")
			}
		})
	}
}

// An offer far ahead of what the device remembers is followed to its end, page by page.
func TestConfirmManyPages(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.joined()
	for range 2*wire.MaxEntries + 3 {
		f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
	}
	f.lost = true
	c, err := d.Confirm(t.Context(), yes)
	if err != nil || c.Approved() != 1 || d.Status().Remembered != f.account.newest() {
		t.Fatalf("%+v, %v", c, err)
	}
	if n := f.count(wire.CommandHistory); n != 0 {
		t.Errorf("%d times history, which is refused", n)
	}
}

// A device approves the head that it compared, whatever is offered a moment later.
func TestConfirmApprovesWhatItSaw(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.joined()
	f.lost = true
	_, err := d.Confirm(t.Context(), func(*Confirmation) (bool, error) {
		f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
		return true, nil
	})
	wantCode(t, err, wire.CodeConflict)
	// Nor is it shown another head than the one it followed.
	f.respond = func(_ *wire.Body, r *wire.Response) {
		var result wire.ConfirmResult
		if wire.Unmarshal(r.Results[0], &result) == nil {
			result.Offered.Hash[0]++
			r.Results[0] = wire.Marshal(result)
		}
	}
	_, err = d.Confirm(t.Context(), func(*Confirmation) (bool, error) { t.Error("asked"); return true, nil })
	wantCode(t, err, wire.CodeMalformed)
	if len(f.approved) > 0 {
		t.Error("approved")
	}
}

func TestConfirmDeclined(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.lost = true
	c, err := d.Confirm(t.Context(), func(*Confirmation) (bool, error) { return false, nil })
	if err != nil || c.Confirmed || len(f.approved) > 0 {
		t.Fatalf("%+v, %v, %d approvals", c, err, len(f.approved))
	}
	_, err = f.device().Confirm(t.Context(), yes)
	if !errors.Is(err, ErrNotMember) {
		t.Fatal(err)
	}
}

// An enrol whose entry was stored, and of which no endorser of a later genesis heard.
func TestConfirmUnansweredEnrol(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.device()
	f.lose = func(c wire.CommandName) bool { f.lost = f.account != nil; return c == wire.CommandEnrol }
	_, err := d.Enrol(t.Context(), "laptop", testPIN)
	if err == nil || d.Status().Member {
		t.Fatalf("%v", err)
	}
	f.lose = nil
	_, err = d.Enrol(t.Context(), "laptop", testPIN)
	wantCode(t, err, wire.CodeDiscontinued)
	if c, err := d.Confirm(t.Context(), yes); err != nil || !c.Confirmed {
		t.Fatalf("%+v, %v", c, err)
	}
	a, err := d.Enrol(t.Context(), "laptop", testPIN)
	if err != nil || !a.Completed || !d.Status().Member {
		t.Fatalf("%+v, %v", a, err)
	}
	create(t, d, "a.test", "alice")
}

// What a device saw of an offer that its person declined, or that came to nothing, is
// forgotten: a host may offer an entry that never stood. So is it after a crash.
func TestDeclinedOfferIsForgotten(t *testing.T) {
	t.Parallel()
	for name, agree := range map[string]func(*Confirmation) (bool, error){
		"declined": func(*Confirmation) (bool, error) { return false, nil },
		"left":     func(*Confirmation) (bool, error) { return false, errors.New("left") },
	} {
		for _, restore := range []bool{false, true} {
			f := newFake(t)
			d := f.enrolled()
			f.joined()
			honest := slices.Clone(f.account.entries)
			known := d.Status().Remembered
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit}) // never stood
			f.lost = !restore
			if restore {
				f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindEdit})
				n := len(f.account.entries)
				f.gone, f.account.entries = f.account.entries[n-1], f.account.entries[:n-1]
			}
			asked := false
			during := func(c *Confirmation) (bool, error) {
				asked = true
				if s := f.again(d).Status(); s.Remembered != known {
					t.Errorf("%s: stored before it was decided", name)
				}
				return agree(c)
			}
			if restore {
				d.Restore(t.Context(), during)
			} else {
				d.Confirm(t.Context(), during)
			}
			if s := f.again(d).Status(); !asked || s.Remembered != known || d.Status().Remembered != known || s.Alarm != nil {
				t.Errorf("%s, restore %v: asked %v, %+v", name, restore, asked, s)
			}
			f.account.entries, f.lost, f.gone = honest, false, nil
			f.entry(wire.Digest{}, ledger.Note{Kind: ledger.KindReplaceUV})
			f.list()
			synced(t, d)
		}
	}
}
