package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// newestEntry is what a device that is up to date has seen.
func (p *phone) newestEntry() []byte {
	entries := p.w.store.Accounts[p.account].Entries
	return entries[len(entries)-1]
}

func (p *phone) restoreAsk(approve *wire.Head, newest []byte) *ask {
	a := p.ask(wire.NewCommand(wire.CommandConfirm, wire.Confirm{Approve: approve, Restore: true, Newest: newest, Lost: p.w.shown}))
	if approve != nil {
		a.body.Login, a.uv = p.login(), true
	}
	return a
}

func (p *phone) restore(approve *wire.Head, newest []byte) (*wire.ConfirmResult, error) {
	p.w.t.Helper()
	r, err := p.send(p.restoreAsk(approve, newest))
	if err != nil {
		return nil, err
	}
	return result[wire.ConfirmResult](p.w.t, r, nil), nil
}

// backup is an account with two devices, whose host has gone back to an older copy.
type backup struct {
	*world
	first, second *phone
	kept, gone    *wire.CreateResult // passkeys of before and after the copy was made
	at, lost      wire.Head
	newest        []byte       // the entry of lost
	counts        *ledger.Note // of lost
	newer         map[wire.AccountID]*ledgertest.Account
}

// goBack makes an account and its copy, has after happen, and brings the copy back.
func goBack(t *testing.T, w *world, after func(*backup)) *backup {
	t.Helper()
	b := &backup{world: w, first: w.device("alice").enrol(pin), second: w.device("alice")}
	if err := b.second.join(pin); err != nil {
		t.Fatal(err)
	}
	b.kept = b.first.create()
	if _, err := b.second.sync(); err != nil {
		t.Fatal(err)
	}
	older := w.store.Snapshot()
	b.at = *b.first.offered()
	after(b)
	b.lost, b.newest, b.counts = *b.first.offered(), b.first.newestEntry(), b.first.counts()
	b.newer, w.shown = w.store.Snapshot(), &b.lost
	w.store.Restore(older)
	w.restart()
	return b
}

// usual is what happens after the copy was made: a wrong PIN, and a passkey.
func usual(t *testing.T) func(*backup) {
	return func(b *backup) {
		wantLeft(t, b.device("alice").join(wrongPIN), wire.CodePINWrong, 2)
		b.gone = b.first.create()
	}
}

// restored has both devices approve.
func (b *backup) restored(t *testing.T) {
	t.Helper()
	if r, err := b.first.restore(&b.at, b.newest); err != nil || r.Confirmed {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := b.second.restore(&b.at, nil); err != nil || !r.Confirmed {
		t.Fatalf("%+v, %v", r, err)
	}
}

// The older copy is served only after both of two devices approved it, and goes on with
// the counts of what was lost, under the next number.
func TestRestore(t *testing.T) {
	t.Parallel()
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := goBack(t, open(t), usual(t))
			if _, err := b.first.sync(); remembers[name] {
				wantCode(t, err, wire.CodeRollback)
			}
			_, err := b.first.confirm(nil)
			if remembers[name] {
				wantCode(t, err, wire.CodeRollback) // confirm alone is no way back
			}
			r, err := b.first.restore(nil, b.newest)
			if err != nil || r.Confirmed || !r.Known || r.Offered != b.at || r.Lost == nil || *r.Lost != b.lost || r.Needed != 2 || approvedIn(r) != 0 {
				t.Fatalf("offer %+v, %v", r, err)
			}
			r, err = b.first.restore(&b.at, b.newest)
			if err != nil || r.Confirmed || approvedIn(r) != 1 || b.commits() != 0 {
				t.Fatalf("one of two: %+v, %v", r, err)
			}
			b.restart()
			if r, err = b.first.restore(&b.at, b.newest); err != nil || r.Confirmed || approvedIn(r) != 1 {
				t.Fatalf("one of two, twice: %+v, %v", r, err)
			}
			if remembers[name] {
				_, err = b.second.sync()
				wantCode(t, err, wire.CodeRollback)
			}
			// The second device has not seen the lost entry: the first one's approval brought it.
			if r, err = b.second.restore(&b.at, nil); err != nil || !r.Confirmed || approvedIn(r) != 2 {
				t.Fatalf("two of two: %+v, %v", r, err)
			}
			e := must(ledger.ParseEntry(b.first.newestEntry()))
			if e.Sequence != b.lost.Sequence+1 || e.Previous != b.lost.Hash || e.Restored == nil || *e.Restored != b.at || r.Offered != *b.first.offered() {
				t.Fatalf("entry %+v", e)
			}
			after := b.first.counts()
			if after.Kind != ledger.KindRestore || after.Device != b.second.id || after.Consecutive != b.counts.Consecutive || after.Lifetime != b.counts.Lifetime || b.counts.Consecutive != 1 {
				t.Fatalf("note %+v, lost %+v", after, b.counts)
			}
			b.restart()
			for _, p := range []*phone{b.first, b.second} {
				// A device's number is that of the copy, also of the one that approved last.
				if s, err := p.sync(); err != nil || s.Last == nil || s.Last.Number == 0 {
					t.Fatalf("%+v, %v", s, err)
				}
				if err := p.assert(b.kept.Handle); err != nil {
					t.Fatal(err)
				}
				_, err := p.send(p.assertAsk(b.gone.Handle))
				wantCode(t, err, wire.CodeNotFound)
			}
			b.first.create()
			wantLeft(t, b.device("alice").join(wrongPIN), wire.CodePINWrong, 1)
			if r, err := b.second.restore(nil, nil); err != nil || !r.Confirmed {
				t.Fatalf("nothing to restore: %+v, %v", r, err)
			}
		})
	}
}

// Once restored, the database of before the loss is as dead as any other.
func TestRestoredOnce(t *testing.T) {
	t.Parallel()
	for name, open := range backends {
		if !remembers[name] {
			continue
		}
		b := goBack(t, open(t), usual(t))
		b.restored(t)
		b.store.Restore(b.newer)
		b.restart()
		_, err := b.first.sync()
		wantCode(t, err, wire.CodeRollback)
	}
}

func TestRestoreNeeds(t *testing.T) {
	t.Parallel()
	w := newEndorsedWorld(t)
	bob := w.device("bob").enrol(pin)
	var gone *phone
	b := goBack(t, w, func(b *backup) {
		usual(t)(b)
		gone = w.device("alice")
		if err := gone.join(pin); err != nil { // after the copy was made
			t.Fatal(err)
		}
		b.first.known = nil
		b.first.create()
	})
	approve := func(p *phone) *ask { return p.restoreAsk(&b.at, b.newest) }
	entries := b.newer[b.first.account].Entries
	forged := must(ledger.ParseEntry(b.newest)).Sign(ledger.Key(w.config.Ledger.ID, random(32)))
	for name, c := range map[string]struct {
		by   *phone
		ask  func(*phone) *ask
		code wire.Code
	}{
		"no UV":           {b.first, func(p *phone) *ask { a := approve(p); a.uv = false; return a }, wire.CodeUVRequired},
		"another's UV":    {b.first, func(p *phone) *ask { a := approve(p); a.uvWith = b.second.uvKey; return a }, wire.CodeUVRequired},
		"no login":        {b.first, func(p *phone) *ask { a := approve(p); a.body.Login = nil; return a }, wire.CodeLoginRequired},
		"no vault secret": {b.first, func(p *phone) *ask { a := approve(p); a.body.VaultSecret, a.body.Epoch = nil, 0; return a }, wire.CodeVaultSecret},
		"wrong secret":    {b.first, func(p *phone) *ask { a := approve(p); a.body.VaultSecret = random(32); return a }, wire.CodeVaultSecret},
		"stale login": {b.first, func(p *phone) *ask {
			a := approve(p)
			a.body.Login = p.login(func(l *login) { l.claims["auth_time"] = w.iat - freshLogin - 1 })
			return a
		}, wire.CodeLoginStale},
		"another head": {b.first, func(p *phone) *ask { return p.restoreAsk(&b.lost, b.newest) }, wire.CodeConflict},
		"forged entry": {b.first, func(p *phone) *ask { return p.restoreAsk(&b.at, forged) }, wire.CodeEntry},
		"another's":    {b.first, func(p *phone) *ask { return p.restoreAsk(&b.at, bob.newestEntry()) }, wire.CodeEntry},
		"joined later": {gone, approve, wire.CodeUnknownDevice},
		"stranger":     {w.device("alice"), approve, wire.CodeUnknownDevice},
		"of bob":       {bob, approve, wire.CodeEntry},
	} {
		if _, err := c.by.send(c.ask(c.by)); wire.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		if n := len(w.approvals[b.first.account]); n != 0 {
			t.Fatalf("%s left an approval", name)
		}
	}
	// Without the very newest entry nobody knows the counts: approvals are enough, and nothing happens.
	for _, p := range []*phone{b.first, b.second, b.first} {
		r, err := p.restore(&b.at, entries[len(entries)-2])
		if err != nil || r.Confirmed || r.Known || w.commits() != 0 {
			t.Fatalf("by an older entry: %+v, %v", r, err)
		}
	}
	// To ask is not enough, though both have approved.
	if r, err := b.first.restore(nil, b.newest); err != nil || r.Confirmed || !r.Known || approvedIn(r) != 2 || w.commits() != 0 {
		t.Fatalf("asked: %+v, %v", r, err)
	}
	if r, err := b.first.restore(&b.at, b.newest); err != nil || !r.Confirmed {
		t.Fatalf("%+v, %v", r, err)
	}
}

// A device that was away when the epoch began cannot get its vault secret before the account
// goes on. It approves all the same; one that has the secret finishes.
func TestRestoreByOneThatWasAway(t *testing.T) {
	t.Parallel()
	for _, last := range []bool{false, true} {
		w := newEndorsedWorld(t)
		first, away, gone := w.device("alice").enrol(pin), w.device("alice"), w.device("alice")
		for _, p := range []*phone{away, gone} {
			if err := p.join(pin); err != nil {
				t.Fatal(err)
			}
		}
		first.revoke(t, gone)
		older, at := w.store.Snapshot(), *first.offered()
		first.create()
		newest := first.newestEntry()
		w.shown = first.offered()
		w.store.Restore(older)
		w.restart()
		order := []*phone{away, first}
		if last {
			order = []*phone{first, away, first}
		}
		for i, p := range order {
			r, err := p.restore(&at, newest)
			if err != nil || r.Confirmed != (i == len(order)-1) || w.commits() > 0 != r.Confirmed {
				t.Fatalf("%d: %+v, %v", i, r, err)
			}
		}
		if _, err := away.sync(); err != nil || away.epoch != first.epoch {
			t.Fatal(err)
		}
	}
}

// What is from before a revocation or a PIN set never comes back, whoever approves it.
func TestRestoreNeverIntoAnEarlierEpoch(t *testing.T) {
	t.Parallel()
	for name, open := range backends {
		for what, begin := range map[string]func(*backup){
			"revoke":  func(b *backup) { must(0, b.first.revoke(t, b.second)) },
			"pin-set": func(b *backup) { b.first.setPIN(t, "564738") },
		} {
			b := goBack(t, open(t), func(b *backup) { begin(b); b.first.create() })
			old := b.second // knows the older epoch's secrets
			if r, err := old.restore(&b.at, nil); err == nil && r.Confirmed && remembers[name] {
				t.Fatalf("%s, %s: %+v", name, what, r)
			}
			for _, approve := range []*wire.Head{nil, &b.at} {
				a := b.first.restoreAsk(approve, b.newest)
				a.body.VaultSecret, a.body.Epoch = old.vault, old.epoch
				_, err := b.first.send(a)
				wantCode(t, err, wire.CodeEarlierEpoch)
				if b.commits() != 0 {
					t.Fatalf("%s, %s wrote", name, what)
				}
			}
		}
	}
}

// Approvals count for one loss: not for the next one, back to the same entry.
func TestRestoreApprovalsReplayed(t *testing.T) {
	t.Parallel()
	w := newEndorsedWorld(t)
	b := goBack(t, w, usual(t))
	older := w.store.Snapshot()
	if _, err := b.second.restore(&b.at, nil); err != nil {
		t.Fatal(err)
	}
	w.store.Restore(b.newer) // the lost database was found
	w.restart()
	b.first.create()
	newest, lost := b.first.newestEntry(), *b.first.offered()
	w.store.Restore(older) // and lost again
	w.restart()
	// Nor for more than what the person was shown.
	_, err := b.first.restore(&b.at, newest)
	wantCode(t, err, wire.CodeConflict)
	w.shown = nil
	_, err = b.first.restore(&b.at, newest)
	wantCode(t, err, wire.CodeConflict)
	w.shown = &lost
	r, err := b.first.restore(&b.at, newest)
	if err != nil || r.Confirmed || approvedIn(r) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	// Nor does an approval to confirm restore, or the other way around.
	for _, box := range w.approvals[b.first.account] {
		a := must(must(w.core.begin(&State{in: Received{Envelope: &wire.Envelope{Header: wire.Header{Account: b.first.account}}}, body: &wire.Body{Commands: []wire.Command{{Name: wire.CommandTicket}}}, at: ledger.SignedHead{Head: b.at}, have: atHand{state: w.store.Load(wire.Need{Account: b.first.account, State: true})}})).openApproval(box))
		if a.Lost == (wire.Head{}) {
			t.Error("an approval of a restore names no loss")
		}
	}
	if r, err := b.second.restore(&b.at, nil); err != nil || !r.Confirmed {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Who has the KEK and the database can make up a membership, but not restore to it.
func TestRestoreOfForgedMembers(t *testing.T) {
	t.Parallel()
	w := newEndorsedWorld(t)
	b := goBack(t, w, func(b *backup) { b.first.create(); b.first.create() })
	w.forge(t, b.first, func(h *head) {
		h.Devices = slices.DeleteFunc(h.Devices, func(d device) bool { return d.ID == b.second.id })
	})
	_, err := b.first.restore(b.first.offered(), b.newest)
	wantCode(t, err, wire.CodeVaultSecret)
	if w.commits() != 0 {
		t.Fatal("written")
	}
}

// The ledger does not vouch for the entry that the host offers to go back to, so its
// signature is checked: a made-up one, over a genuine head and note, would stand in the
// chain of devices for ever.
func TestRestoreOfForgedEntry(t *testing.T) {
	t.Parallel()
	for name, open := range backends {
		b := goBack(t, open(t), usual(t))
		older := b.store.Snapshot()
		b.store.Restore(b.newer) // the local ledger remembers within a run
		if _, err := b.first.sync(); err != nil {
			t.Fatal(err)
		}
		b.store.Restore(older)
		entries := b.store.Accounts[b.first.account].Entries
		last := &entries[len(entries)-1]
		e := must(ledger.ParseEntry(*last))
		e.Request[0]++
		*last = wire.Marshal(e)
		_, err := b.first.restore(b.first.offered(), b.newest)
		if wire.CodeOf(err) != wire.CodeEntry || len(b.approvals[b.first.account]) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// On the local ledger nobody vouches that the lost entry came behind the offered one: the
// higher counts are taken.
func TestRestoreLocalCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owner := w.device("alice").enrol(pin)
	base := w.store.Snapshot()
	owner.create()
	owner.create()
	branch := owner.newestEntry() // of a branch without a wrong PIN
	w.store.Restore(base)
	w.restart()
	wantLeft(t, w.device("alice").join(wrongPIN), wire.CodePINWrong, 2)
	before := owner.counts()
	w.restart()
	if before.Lifetime != 1 {
		t.Fatalf("%+v", before)
	}
	if r, err := owner.restore(owner.offered(), branch); err != nil || r.Confirmed {
		// An entry that lies no further than what stands is none that was lost.
		if err != nil || !r.Confirmed || w.commits() != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	w.store.Restore(base)
	w.restart()
	wantLeft(t, w.device("alice").join(wrongPIN), wire.CodePINWrong, 2)
	w.store.Accounts[owner.account].Entries = w.store.Accounts[owner.account].Entries[:2] // RESERVE alone
	w.restart()
	if r, err := owner.restore(owner.offered(), branch); err != nil || !r.Confirmed || w.commits() == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if n := owner.counts(); n.Kind != ledger.KindRestore || n.Consecutive != 1 || n.Lifetime != 1 {
		t.Fatalf("%+v", n)
	}
}

// A member that knows an entry which was taken back is shown the restore; nobody else is.
func TestRestoreIsShown(t *testing.T) {
	t.Parallel()
	w := newEndorsedWorld(t)
	var between wire.Head
	var gone *phone
	b := goBack(t, w, func(b *backup) {
		gone = w.device("alice")
		if err := gone.join(pin); err != nil {
			t.Fatal(err)
		}
		if _, err := b.first.sync(); err != nil {
			t.Fatal(err)
		}
		between = *b.first.offered()
		b.first.create()
	})
	b.restored(t)
	for name, known := range map[string]wire.Head{"of before": b.at, "in between": between, "the lost one": b.lost} {
		b.first.known = &known
		r, err := b.first.send(b.first.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})))
		if err != nil || len(r.Entries) != 1 || string(r.Entries[0]) != string(b.first.newestEntry()) {
			t.Errorf("%s: %d entries, %v", name, len(r.Entries), err)
		}
	}
	known := between
	gone.known = &known
	r, err := gone.send(gone.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})))
	if wire.CodeOf(err) != wire.CodeUnknownDevice || len(r.Entries) != 0 || r.Newest != (wire.Head{}) {
		t.Errorf("to one that is no member: %+v", r)
	}
}
