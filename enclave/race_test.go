package enclave

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// forked is one account in two enclaves over one set of endorsers, each with a database of
// its own or both with one.
type forked struct {
	t         *testing.T
	endorsers *endorsedtest.World
	worlds    []*world
}

// forkedStore is the endorsers' host with another database.
type forkedStore struct {
	*endorsedtest.World
	store *ledgertest.Store
}

func (f forkedStore) Newest(ctx context.Context, a wire.AccountID) ([]byte, error) {
	return f.store.Newest(ctx, a)
}

func (f forkedStore) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	return f.store.Commit(ctx, c)
}

func newForked(t *testing.T, enclaves int) *forked {
	first := newWorld(t)
	id := first.config.Ledger.ID
	keys, signers := ledger.Succession(id, [][]byte{first.keks[0].Key})
	f := &forked{t: t, endorsers: endorsedtest.New(t, &ledgertest.Keys{
		LedgerID: id, Private: keys[0], Verifier: must(ledger.NewVerifier(id, signers)), Signers: signers,
	}, 3)}
	first.config.Ledger = f.endorsers.Identity()
	for i := range enclaves {
		w := &world{t: t, config: first.config, keks: first.keks, store: first.store, now: first.now, wall: first.wall, iat: first.iat, issuer: first.issuer, jwks: first.jwks}
		w.hpke = must(wire.KEM().GenerateKey())
		f.worlds = append(f.worlds, w)
		f.start(i, first.store)
	}
	f.worlds[0].device("alice").enrol(pin)
	return f
}

// start has an enclave begin anew over a store: it remembers nothing.
func (f *forked) start(i int, store *ledgertest.Store) {
	w := f.worlds[i]
	w.store = store
	w.core = must(NewCore(w.config, random(32), w.keks))
	w.ledger = f.endorsers.Memory().Over(forkedStore{f.endorsers, store})
}

// judged reports whether the last request of an enclave judged a PIN: it then tried to
// append a RESULT behind its own RESERVE.
func (w *world) judged() bool {
	reserved := map[wire.Head]bool{}
	for _, e := range w.effects {
		if c, ok := e.(Commit); ok {
			if reserved[c.Commit.Append.Expected] {
				return true
			}
			entry := must(ledger.ParseEntry(c.Commit.Append.Entry))
			reserved[ledger.HeadOf(entry, c.Commit.Append.Entry)] = true
		}
	}
	return false
}

// guesses has each enclave make so many guesses, all at once, and counts those judged.
func (f *forked) guesses(n int, between func(i int)) int {
	judged := make([]int, len(f.worlds))
	var race sync.WaitGroup
	for i, w := range f.worlds {
		race.Go(func() {
			for range n {
				thief := w.device("alice")
				if a, err := w.guess(thief); err == nil {
					if _, err := thief.change(a); err == nil {
						f.t.Error("a wrong PIN joined")
					}
					if w.judged() {
						judged[i]++
					}
				}
				if between != nil {
					between(i)
				}
			}
		})
	}
	race.Wait()
	sum := 0
	for _, n := range judged {
		sum += n
	}
	return sum
}

// guess makes a join with a wrong PIN, if the host lets it have a ticket.
func (w *world) guess(thief *phone) (*ask, error) {
	r, err := thief.send(thief.ticketAsk(thief.login()))
	if err != nil {
		return nil, err
	}
	if len(r.Results) == 0 {
		return nil, fmt.Errorf("no ticket")
	}
	var k wire.TicketResult
	if err := wire.Unmarshal(r.Results[0], &k); err != nil {
		return nil, err
	}
	a := thief.ask(wire.NewCommand(wire.CommandJoin, wire.Join{
		Ticket: k.Ticket, StretchedPIN: stretch("wrong "+rand.Text(), k.Salt), Keys: thief.keys(), Name: "thief",
	}))
	a.uv, a.body.Number = true, 1
	return a, nil
}

// Enclaves that race, on one database or each on its own copy, never judge more PINs than
// the limit; and what the limit took the right PIN does not get back.
func TestRacingEnclavesKeepTheLimit(t *testing.T) {
	t.Parallel()
	const limit, enclaves, guesses = 3, 3, 6
	for name, attack := range map[string]func(f *forked) int{
		"one database": func(f *forked) int { return f.guesses(guesses, nil) },
		"a database each": func(f *forked) int {
			for i := range f.worlds[1:] {
				copied := ledgertest.NewStore()
				copied.Restore(f.worlds[0].store.Snapshot())
				f.start(i+1, copied)
			}
			return f.guesses(guesses, nil)
		},
		"old copies after every guess": func(f *forked) int {
			old := f.worlds[0].store.Snapshot()
			for i := range f.worlds {
				copied := ledgertest.NewStore()
				copied.Restore(old)
				f.start(i, copied)
			}
			return f.guesses(guesses, func(i int) {
				copied := ledgertest.NewStore()
				copied.Restore(old)
				f.start(i, copied)
			})
		},
		"a minority away at a time": func(f *forked) int {
			group := f.endorsers.View().Groups[0]
			return f.guesses(guesses, func(i int) {
				f.endorsers.Cut(group[i].Key, true)
				f.endorsers.Cut(group[(i+1)%3].Key, false)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForked(t, enclaves)
			n := attack(f)
			if n > limit {
				t.Fatalf("%d guesses were judged, the limit is %d", n, limit)
			}
			if n == 0 && name == "one database" { // copies may split the votes
				t.Fatal("no guess was judged")
			}
			t.Logf("%d of %d guesses judged", n, enclaves*guesses)
		})
	}
}

// A join that races a PIN set is told so, before RESERVE and after it, and releases nothing;
// the host, who no longer has what the old head named, is not blamed.
func TestJoinRacesPINSet(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reserved bool
		want     wire.Code
	}{"before RESERVE": {false, wire.CodeChallenge}, "after RESERVE": {true, wire.CodeConflict}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first, gone, next := w.device("alice").enrol(pin), w.device("alice"), w.device("alice")
			if err := gone.join(pin); err != nil {
				t.Fatal(err)
			}
			commits := 0
			if test.reserved {
				w.onCommit = func(*wire.Commit) {
					if commits++; commits == 2 { // RESULT: it meets another envelope, which must be loaded
						w.onCommit = nil
						w.aside(func() {
							if err := first.revoke(t, gone); err != nil {
								t.Fatal(err)
							}
						})
					}
				}
			}
			blobs, wanted := 0, map[bool]int{false: 1, true: 2}[test.reserved]
			w.onLoad = func(n wire.Need, s *wire.State) {
				if len(n.Blobs) == 0 {
					return
				}
				if blobs++; blobs == wanted {
					w.onLoad = nil
					w.aside(func() { first.setPIN(t, "564738") })
					*s = w.store.Load(n)
				}
			}
			wantCode(t, next.join(pin), test.want)
			if w.reply.Refusal != "" {
				t.Errorf("the host is blamed: %s", w.reply.Refusal)
			}
			if w.onLoad != nil || len(w.reply.Response.Results) > 0 {
				t.Fatal("there was no race, or something is released")
			}
			if _, err := next.sync(); wire.CodeOf(err) != wire.CodeUnknownDevice {
				t.Fatalf("it joined: %v", err)
			}
		})
	}
}

// aside runs other requests while one is under way.
func (w *world) aside(run func()) {
	onLoad := w.onLoad
	w.onLoad = nil
	run()
	w.onLoad, w.effects = onLoad, nil
}
