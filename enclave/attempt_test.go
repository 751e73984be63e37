package enclave

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// A PIN set between ticket and join: what the joiner stretched is of no use, and no
// attempt is spent on finding that out.
func TestJoinWithOlderTicket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	early := w.device("alice")
	stray := early.joinAsk(pin) // with the salt of an account that does not exist
	first, next := w.device("alice").enrol(pin), w.device("alice")
	_, err := early.change(stray)
	wantCode(t, err, wire.CodeChallenge)
	a := next.joinAsk("564738")
	first.setPIN(t, "564738")
	_, err = next.change(a)
	wantCode(t, err, wire.CodeChallenge)
	if n := w.commits(); n != 0 {
		t.Fatalf("%d commits", n)
	}
	if n := first.counts(); n.Kind != ledger.KindPINSet || n.Lifetime != 0 {
		t.Fatalf("note %+v", n)
	}
	if err := next.join("564738"); err != nil {
		t.Fatal(err)
	}
}

// The verdict on a PIN must not outlive the recovery record that it is about.
func TestResultAfterRecoveryChanged(t *testing.T) {
	t.Parallel()
	for _, guess := range []string{pin, wrongPIN} {
		for name, change := range map[string]func(*testing.T, *world, *phone){
			"PIN set": func(t *testing.T, _ *world, first *phone) { first.setPIN(t, "564738") },
			"generation": func(t *testing.T, w *world, first *phone) {
				w.rewrite(t, first, func(h *head) { h.Generation++ })
			},
			"membership full": func(t *testing.T, w *world, first *phone) {
				w.rewrite(t, first, func(h *head) { addDevices(h, wire.MaxDevices) })
			},
		} {
			t.Run(name+" "+guess, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				first, next := w.device("alice").enrol(pin), w.device("alice")
				var entries int
				w.commitsAt(2, func() {
					change(t, w, first)
					entries = len(w.store.Accounts[first.account].Entries)
				})
				wantCode(t, next.join(guess), wire.CodeConflict)
				if n := len(w.store.Accounts[first.account].Entries); entries == 0 || n != entries {
					t.Fatalf("%d entries, %d when the verdict was void", n, entries)
				}
			})
		}
	}
}

// A success takes back what was counted up to its own RESERVE, not the guesses of
// others that came between.
func TestSuccessKeepsOthersAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, next, thief := w.device("alice").enrol(pin), w.device("alice"), w.device("alice")
	wantCode(t, thief.join(wrongPIN), wire.CodePINWrong)
	w.commitsAt(2, func() { wantCode(t, thief.join(wrongPIN), wire.CodePINLocked) })
	if err := next.join(pin); err != nil {
		t.Fatal(err)
	}
	if n := first.counts(); n.Kind != ledger.KindJoin || n.Consecutive != 1 || n.Lifetime != 3 {
		t.Fatalf("note %+v", n)
	}
}

// Two successes under way at once take back what was counted up to their RESERVEs once,
// not twice: the guess that came between their results stays counted.
func TestTwoSuccessesTakeBackOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, next, third, thief := w.device("alice").enrol(pin), w.device("alice"), w.device("alice"), w.device("alice")
	w.commitsAt(2, func() {
		if err := third.join(pin); err != nil {
			t.Fatal(err)
		}
		wantCode(t, thief.join(wrongPIN), wire.CodePINWrong)
	})
	if err := next.join(pin); err != nil {
		t.Fatal(err)
	}
	if n := first.counts(); n.Kind != ledger.KindJoin || n.Consecutive != 1 || n.Lifetime != 3 {
		t.Fatalf("note %+v", n)
	}
}

// Right or wrong, the network sees no answer earlier.
func TestRightPINTakesTheLeastTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	if err := w.device("alice").join(pin); err != nil {
		t.Fatal(err)
	}
	if w.reply.Least != leastPINTime {
		t.Fatalf("answered after %s", w.reply.Least)
	}
}

// What a join would be refused for after a right PIN, it is refused for before an
// attempt is spent.
func TestJoinRefusedBeforeReserve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	try := func(p *phone, want wire.Code) {
		t.Helper()
		a := p.joinAsk(pin)
		_, err := p.send(a)
		wantCode(t, err, want)
		if n := w.commits(); n != 0 {
			t.Fatalf("%d commits", n)
		}
	}
	try(first, wire.CodeConflict) // a member
	w.rewrite(t, first, func(h *head) { addDevices(h, wire.MaxDevices) })
	try(w.device("alice"), wire.CodeLimit)
	w.rewrite(t, first, func(h *head) { h.Devices = h.Devices[:wire.MaxDevices-1] })
	if err := w.device("alice").join(pin); err != nil {
		t.Fatal(err)
	}
}
