package enclave

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

const pin, wrongPIN = "928374", "000001"

func wantLeft(t *testing.T, err error, code wire.Code, left uint64) {
	t.Helper()
	wantCode(t, err, code)
	if e := asError(err); e.AttemptsLeft == nil || *e.AttemptsLeft != left {
		t.Fatalf("attempts left: %v, want %d", e.AttemptsLeft, left)
	}
}

func TestWrongPINsAreCountedAndLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	thief := w.device("alice")
	wantLeft(t, thief.join(wrongPIN), wire.CodePINWrong, 2)
	wantLeft(t, thief.join(wrongPIN), wire.CodePINWrong, 1)
	w.restart()
	wantLeft(t, thief.join(wrongPIN), wire.CodePINLocked, 0)
	// Locked: not even the right PIN is judged, and nothing is appended.
	w.restart()
	wantLeft(t, thief.join(pin), wire.CodePINLocked, 0)
	if n := w.commits(); n != 0 {
		t.Fatalf("a locked account made %d commits", n)
	}
	if left := thief.ticket().AttemptsLeft; left != 0 {
		t.Fatalf("ticket says %d attempts left", left)
	}
	if n := first.counts(); n.Consecutive != 3 || n.Lifetime != 3 || n.Kind != ledger.KindWrong {
		t.Fatalf("note %+v", n)
	}
}

func TestSuccessLowersConsecutiveNotLifetime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	for range 2 {
		thief := w.device("alice")
		wantCode(t, thief.join(wrongPIN), wire.CodePINWrong)
		wantCode(t, thief.join(wrongPIN), wire.CodePINWrong)
		if err := w.device("alice").join(pin); err != nil {
			t.Fatal(err)
		}
	}
	n := first.counts()
	if n.Consecutive != 0 || n.Lifetime != 6 {
		t.Fatalf("counts %d, %d", n.Consecutive, n.Lifetime)
	}
	// Piggybacking on the owner's successes ends at the lifetime limit of 8.
	thief := w.device("alice")
	wantLeft(t, thief.join(wrongPIN), wire.CodePINWrong, 1)
	wantLeft(t, thief.join(wrongPIN), wire.CodePINLocked, 0)
	wantLeft(t, w.device("alice").join(pin), wire.CodePINLocked, 0)
}

func TestPINSetUnlocksAndOldRecordOpensNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	old := w.store.Snapshot()[first.account]
	for range 3 {
		_ = w.device("alice").join(wrongPIN)
	}
	first.setPIN(t, "564738")
	if n := first.counts(); n.Consecutive != 0 || n.Lifetime != 0 || n.Kind != ledger.KindPINSet {
		t.Fatalf("note %+v", n)
	}
	wantLeft(t, w.device("alice").join(pin), wire.CodePINWrong, 2)
	if err := w.device("alice").join("564738"); err != nil {
		t.Fatal(err)
	}
	// The old head with its recovery record, weaker PIN and all, is refused.
	w.onState = func(s *wire.State) { s.Head, s.Wraps = old.Head, old.Wraps }
	wantCode(t, w.device("alice").joinErr(pin), wire.CodeHeadMismatch)
}

func (p *phone) joinErr(pin string) error {
	_, err := p.send(p.ticketAsk(p.login()))
	return err
}

func (p *phone) pinSetAsk(t *testing.T, pin string, l *wire.Login) *ask {
	t.Helper()
	r, err := p.send(p.ticketAsk(l))
	k := result[wire.TicketResult](t, r, err)
	a := p.ask(wire.NewCommand(wire.CommandPINSet, wire.PINSet{Ticket: k.Ticket, StretchedPIN: stretch(pin, k.FreshSalt)}))
	a.uv = true
	return a
}

func (p *phone) setPIN(t *testing.T, pin string) {
	t.Helper()
	r, err := p.change(p.pinSetAsk(t, pin, p.login()))
	p.member(result[wire.Membership](t, r, err))
}

func TestPINSetNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	young := w.device("alice")
	if err := young.join(pin); err != nil {
		t.Fatal(err)
	}
	if _, err := first.sync(); err != nil {
		t.Fatal(err)
	}
	bob := w.device("bob").enrol(pin)

	a := first.pinSetAsk(t, "564738", first.login())
	a.uv = false
	_, err := first.change(a)
	wantCode(t, err, wire.CodeUVRequired)

	_, err = first.change(first.pinSetAsk(t, "564738", first.login(func(l *login) { l.claims["auth_time"] = w.iat - freshLogin - 1 })))
	wantCode(t, err, wire.CodeLoginStale)
	_, err = first.change(first.pinSetAsk(t, "564738", first.login(func(l *login) { delete(l.claims, "auth_time") })))
	wantCode(t, err, wire.CodeLoginStale)

	_, err = young.change(young.pinSetAsk(t, "564738", young.login()))
	wantCode(t, err, wire.CodeYoung)

	// Another device's ticket, and another account's.
	k := young.ticket()
	a = first.ask(wire.NewCommand(wire.CommandPINSet, wire.PINSet{Ticket: k.Ticket, StretchedPIN: stretch(pin, k.FreshSalt)}))
	a.uv = true
	_, err = first.change(a)
	wantCode(t, err, wire.CodeChallenge)
	k = bob.ticket()
	a = first.ask(wire.NewCommand(wire.CommandPINSet, wire.PINSet{Ticket: k.Ticket, StretchedPIN: stretch(pin, k.FreshSalt)}))
	a.uv = true
	_, err = first.change(a)
	wantCode(t, err, wire.CodeChallenge)

	// A day of login time later the young device may.
	w.iat += youth
	young.setPIN(t, "564738")
	s, err := young.sync()
	if err != nil || s.Young {
		t.Fatalf("still young: %v, %v", s, err)
	}
}

// Whatever becomes of RESERVE and RESULT, an attempt is spent once it was
// reserved, and no more is judged than was reserved.
func TestAttemptUnderFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault ledgertest.Fault
		on    ledger.Kind
		pin   string
		want  wire.Code
		life  uint64 // lifetime count afterwards
		joins bool
	}{
		"RESERVE fails":                         {ledgertest.Failed, ledger.KindReserve, pin, wire.CodeUnavailable, 0, false},
		"RESERVE fails but persists":            {ledgertest.FailedButDone, ledger.KindReserve, pin, wire.CodeUnavailable, 1, false},
		"RESERVE comes twice":                   {ledgertest.Twice, ledger.KindReserve, pin, "", 1, true},
		"RESULT of a right PIN fails":           {ledgertest.Failed, ledger.KindJoin, pin, "", 1, true},
		"RESULT of a right PIN fails, persists": {ledgertest.FailedButDone, ledger.KindJoin, pin, "", 1, true},
		"RESULT of a wrong PIN fails":           {ledgertest.Failed, ledger.KindWrong, wrongPIN, wire.CodePINWrong, 1, false},
		"RESULT of a wrong PIN fails, persists": {ledgertest.FailedButDone, ledger.KindWrong, wrongPIN, wire.CodePINWrong, 1, false},
		"RESULT of a wrong PIN comes twice":     {ledgertest.Twice, ledger.KindWrong, wrongPIN, wire.CodePINWrong, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.device("alice").enrol(pin)
			writes, target := 0, map[ledger.Kind]int{ledger.KindReserve: 1, ledger.KindJoin: 2, ledger.KindWrong: 2}[test.on]
			w.store.Before = func(*wire.Commit) ledgertest.Fault {
				if writes++; writes == target {
					return test.fault
				}
				return ledgertest.NoFault
			}
			next := w.device("alice")
			err := next.join(test.pin)
			if wire.CodeOf(err) != test.want {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			w.store.Before = nil
			if _, err := first.sync(); err != nil {
				t.Fatal(err)
			}
			if n := first.counts(); n.Lifetime != test.life {
				t.Fatalf("lifetime count %d, want %d", n.Lifetime, test.life)
			}
			if _, err := next.sync(); (err == nil) != test.joins {
				t.Fatalf("is a member: %v, want %v", err == nil, test.joins)
			}
		})
	}
}

// A store that gives a receipt for something else than RESERVE gets nothing judged.
func TestReserveReceiptIsVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	w.ledger = forgetful{w.ledger}
	wantCode(t, w.device("alice").join(pin), wire.CodeReceipt)
	if w.reply.Refusal != wire.CodeReceipt {
		t.Fatalf("the host is told %q", w.reply.Refusal)
	}
	for _, e := range w.effects {
		if c, ok := e.(Commit); ok && len(c.Commit.Head) > 0 {
			t.Fatal("a join was sent for an attempt without a receipt")
		}
	}
}

// The same for the result: a store that swallows it gets no answer let out.
func TestResultReceiptIsVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	honest, n := w.ledger, 0
	w.onCommit = func(c *wire.Commit) {
		if n++; n >= 2 {
			w.ledger = swallow{honest}
		}
	}
	wantCode(t, w.device("alice").join(pin), wire.CodeUnavailable)
}

// swallow says that it appended something, and appends nothing.
type swallow struct{ ledger.Ledger }

func (swallow) CompareAndAppend(context.Context, *wire.Commit) (ledger.Receipt, error) {
	return ledger.Receipt{Head: wire.Head{Sequence: 1}}, nil
}

// Right PIN, but the membership that would be joined is not authenticated by the
// vault secret: nothing is sealed to anybody.
func TestJoinChecksMembership(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	w.forge(t, first, func(h *head) {
		added := h.Devices[0]
		added.Key = point(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
		added.ID = wire.NewDeviceID(first.account, added.Key)
		h.Devices = append(h.Devices, added)
	})
	wantCode(t, w.device("alice").join(pin), wire.CodeMembers)
}

func TestTickets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	t.Run("stable false salt", func(t *testing.T) {
		a, b := w.device("nobody").ticket(), w.device("nobody").ticket()
		if !slices.Equal(a.Salt, b.Salt) || slices.Equal(a.FreshSalt, b.FreshSalt) {
			t.Fatal("false salts differ, or fresh ones do not")
		}
		if c := w.device("somebody").ticket(); slices.Equal(a.Salt, c.Salt) {
			t.Fatal("two accounts share a false salt")
		}
	})
	t.Run("of an account that does not exist", func(t *testing.T) {
		wantCode(t, w.device("nobody").join(pin), wire.CodeNoAccount)
		if w.reply.Least != leastPINTime {
			t.Fatalf("answered after %s", w.reply.Least)
		}
	})
	t.Run("too old", func(t *testing.T) {
		p := w.device("alice")
		a := p.joinAsk(pin)
		w.now += loginAge + time.Second
		a.body.Challenge = w.core.Challenge(w.now)
		_, err := p.change(a)
		wantCode(t, err, wire.CodeChallenge)
	})
	t.Run("of another boot", func(t *testing.T) {
		p := w.device("alice")
		a := p.joinAsk(pin)
		w.restart()
		a.body.Challenge = w.core.Challenge(w.now)
		_, err := p.change(a)
		wantCode(t, err, wire.CodeChallenge)
	})
	t.Run("of another device key", func(t *testing.T) {
		p, other := w.device("alice"), w.device("alice")
		k := other.ticket()
		a := p.ask(wire.NewCommand(wire.CommandJoin, wire.Join{Ticket: k.Ticket, StretchedPIN: stretch(pin, k.Salt), Keys: p.keys(), Name: "x"}))
		a.uv, a.body.Number = true, 1
		_, err := p.send(a)
		wantCode(t, err, wire.CodeChallenge)
	})
	t.Run("of another account", func(t *testing.T) {
		p, other := w.device("alice"), w.device("bob")
		other.key, other.id = p.key, wire.NewDeviceID(other.account, point(p.key))
		k := other.ticket()
		a := p.ask(wire.NewCommand(wire.CommandJoin, wire.Join{Ticket: k.Ticket, StretchedPIN: stretch(pin, k.Salt), Keys: p.keys(), Name: "x"}))
		a.uv, a.body.Number = true, 1
		_, err := p.send(a)
		wantCode(t, err, wire.CodeChallenge)
	})
}

// forgetful gives receipts for nothing.
type forgetful struct{ ledger.Ledger }

func (f forgetful) CompareAndAppend(ctx context.Context, c *wire.Commit) (ledger.Receipt, error) {
	_, err := f.Ledger.CompareAndAppend(ctx, c)
	return ledger.Receipt{}, err
}

// A store that writes RESERVE and says that it lost a race spends one attempt, not four.
func TestReserveSaidToConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	w.ledger = conflicting{w.ledger}
	wantCode(t, w.device("alice").join(pin), wire.CodeUnavailable)
	if n := first.counts(); n.Lifetime != 1 {
		t.Fatalf("lifetime count %d", n.Lifetime)
	}
}

type conflicting struct{ ledger.Ledger }

func (c conflicting) CompareAndAppend(ctx context.Context, commit *wire.Commit) (ledger.Receipt, error) {
	if _, err := c.Ledger.CompareAndAppend(ctx, commit); err != nil {
		return ledger.Receipt{}, err
	}
	return ledger.Receipt{}, wire.Errorf(wire.CodeConflict, "says the store")
}

// A first RESULT that was thought lost and stands after all is the result.
func TestLostResultStands(t *testing.T) {
	t.Parallel()
	for _, guess := range []string{pin, wrongPIN} {
		w := newWorld(t)
		first := w.device("alice").enrol(pin)
		l := &delayed{Ledger: w.ledger}
		w.ledger = l
		next := w.device("alice")
		err := next.join(guess)
		if guess == pin && err != nil {
			t.Fatalf("right PIN: %v", err)
		}
		if guess != pin {
			wantLeft(t, err, wire.CodePINWrong, 2)
		}
		if _, err := first.sync(); err != nil {
			t.Fatal(err)
		}
		if n := first.counts(); n.Lifetime != 1 {
			t.Fatalf("lifetime count %d", n.Lifetime)
		}
	}
}

// delayed holds the first RESULT back, says so, and applies it when the second comes.
type delayed struct {
	ledger.Ledger
	n    int
	held *wire.Commit
	then func() // after it was applied
}

func (d *delayed) CompareAndAppend(ctx context.Context, c *wire.Commit) (ledger.Receipt, error) {
	switch d.n++; d.n {
	case 2:
		d.held = c
		return ledger.Receipt{}, wire.Errorf(wire.CodeUnavailable, "held back")
	case 3:
		if _, err := d.Ledger.CompareAndAppend(ctx, d.held); err != nil {
			return ledger.Receipt{}, err
		}
		if d.then != nil {
			d.then()
		}
		return ledger.Receipt{}, wire.Errorf(wire.CodeUnavailable, "the other one was applied")
	}
	return d.Ledger.CompareAndAppend(ctx, c)
}

// The same, where another device's entry stands upon it: what the device is told to
// remember, and its feed token, are those of the RESULT that stands.
func TestLostResultStandsUnderNewerEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, next := w.device("alice").enrol(pin), w.device("alice")
	l := &delayed{Ledger: w.ledger}
	w.ledger = l
	l.then = func() { first.create() }
	r, err := next.change(next.joinAsk(pin))
	joined := result[wire.Membership](t, r, err)
	s, err := next.sync()
	if err != nil || string(s.FeedToken) != string(joined.FeedToken) {
		t.Fatalf("the feed token is another one: %v", err)
	}
	entries := w.store.Accounts[first.account].Entries
	if n := r.Newest.Sequence; ledger.EntryHash(entries[n-1]) != r.Newest.Hash {
		t.Fatalf("the device is told of an entry %d that does not stand", n)
	}
}
