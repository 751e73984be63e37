package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Two devices create at the same time: nothing is lost, nothing made twice.
func TestCreateRace(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	devices := []*device{s.enrolled("alice"), s.joined("alice", "phone", pin)}
	const each = 15
	var all sync.WaitGroup
	errs := make(chan error, len(devices)*each)
	for who, d := range devices {
		all.Go(func() {
			for n := range each {
				_, err := d.Create(t.Context(), site(fmt.Sprint(who, "-", n)))
				errs <- err
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	for _, d := range devices {
		d.sync()
		for who := range devices {
			for n := range each {
				if k := d.passkeysOf(fmt.Sprint(who, "-", n)); len(k) != 1 {
					t.Errorf("%d passkeys of %d-%d", len(k), who, n)
				}
			}
		}
	}
	if n := devices[0].counted()[ledger.KindCreate]; n != uint64(each*len(devices)) {
		t.Errorf("%d creates in the history", n)
	}
	s.whole(1)
}

// Two devices edit one passkey at the same time: one wins, the other is told.
func TestEditRace(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	devices := []*device{s.enrolled("alice"), nil}
	made, err := devices[0].Create(t.Context(), site("one"))
	if err != nil {
		t.Fatal(err)
	}
	devices[1] = s.joined("alice", "phone", pin)
	edits := uint64(0)
	for round := range 10 {
		for _, d := range devices {
			d.sync()
		}
		label := func(who int) string { return fmt.Sprint(round, "-", who) }
		var all sync.WaitGroup
		results := make([]error, len(devices))
		for who, d := range devices {
			all.Go(func() { results[who] = d.Rename(t.Context(), made.Handle, label(who)) })
		}
		all.Wait()
		var won []string
		for who, err := range results {
			if err == nil {
				won = append(won, label(who))
				continue
			}
			wantCode(t, err, wire.CodeConflict)
		}
		// Who synced between the two commits of the others edits the newer version: both may win.
		edits += uint64(len(won))
		for _, d := range devices {
			d.sync()
			if k := d.passkeysOf("one"); len(k) != 1 || !slices.Contains(won, k[0].Metadata.Label) {
				t.Fatalf("%d passkeys, labels %v won: %+v", len(k), won, k)
			}
		}
	}
	if n := devices[0].counted()[ledger.KindEdit]; n != edits {
		t.Errorf("%d edits in the history, %d were acknowledged", n, edits)
	}
	s.whole(1)
}

// Many guess at once: no more are judged than the limit has attempts, and the right
// PIN among them wins at most within it.
func TestGuessRace(t *testing.T) {
	t.Parallel()
	s := newService(t, options{}) // three attempts
	laptop := s.enrolled("alice")
	const guessers = 9
	var all sync.WaitGroup
	errs := make([]error, guessers)
	for n := range guessers {
		thief := s.newDevice("alice")
		all.Go(func() { _, errs[n] = thief.Join(t.Context(), "thief", fmt.Sprint(482913+n)) })
	}
	all.Wait()
	wrong := 0
	for _, err := range errs {
		switch wire.CodeOf(err) {
		case wire.CodePINWrong:
			wrong++
		case wire.CodePINLocked:
		default:
			t.Errorf("a guess ended with: %v", err)
		}
	}
	kinds := laptop.counted()
	// The third wrong guess is told that the account is locked now.
	if wrong != 2 || kinds[ledger.KindReserve] != 3 || kinds[ledger.KindWrong] != 3 {
		t.Errorf("%d guesses were told they are wrong, the history has %v", wrong, kinds)
	}
	_, err := s.newDevice("alice").Join(t.Context(), "owner", pin)
	wantLeft(t, err, wire.CodePINLocked, 0)
	s.whole(1)
}

// Two devices enrol one account at the same time: one wins, the other must join.
func TestEnrolRace(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	devices := []*device{s.newDevice("alice"), s.newDevice("alice")}
	var all sync.WaitGroup
	errs := make([]error, len(devices))
	for n, d := range devices {
		all.Go(func() { _, errs[n] = d.Enrol(t.Context(), fmt.Sprint("device", n), pin) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		t.Fatalf("nobody enrolled: %v", errs)
	}
	wantCode(t, errs[1-winner], wire.CodeAccountExists)
	if _, err := devices[1-winner].Join(t.Context(), "second", pin); err != nil {
		t.Fatal(err)
	}
	if l, err := devices[winner].Devices(t.Context()); err != nil || len(l) != 2 {
		t.Fatal(l, err)
	}
	s.whole(1)
}

// One revokes while the other creates: the passkey stands in the new epoch, or its
// maker is told; nobody's passkey is lost.
func TestRevokeRace(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	laptop, phone := s.enrolled("alice"), s.joined("alice", "phone", pin)
	for round := range 5 {
		guest := s.joined("alice", fmt.Sprint("guest", round), pin)
		var all sync.WaitGroup
		var revoked error
		errs := make([]error, 3)
		all.Go(func() { revoked = laptop.Revoke(t.Context(), guest.ID()) })
		all.Go(func() {
			for n := range errs {
				_, errs[n] = phone.Create(t.Context(), site(fmt.Sprint(round, "-", n)))
			}
		})
		all.Wait()
		if revoked != nil {
			t.Fatal(revoked)
		}
		for _, d := range []*device{laptop, phone} {
			d.sync()
		}
		for n, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
			user := fmt.Sprint(round, "-", n)
			k := laptop.passkeysOf(user)
			if len(k) != 1 || len(phone.passkeysOf(user)) != 1 {
				t.Fatalf("passkey %s: the laptop has %d", user, len(k))
			}
			if _, err := laptop.Assert(t.Context(), client.AssertRequest{Handle: k[0].Handle}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.whole(1)
}
