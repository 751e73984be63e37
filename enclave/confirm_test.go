package enclave

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// endorsedWorld is a world whose ledger has endorsers, real ones.
type endorsedWorld struct {
	*world
	endorsers *endorsedtest.World
}

func newGenesisWorld(t *testing.T) *endorsedWorld {
	t.Helper()
	w := newWorld(t)
	id := w.config.Ledger.ID
	private, signers := ledger.Succession(id, [][]byte{w.keks[0].Key})
	keys := &ledgertest.Keys{LedgerID: id, Private: private[0], Verifier: w.core.Verifier(), Signers: signers}
	e := &endorsedWorld{w, endorsedtest.New(t, keys, 3)}
	w.store = e.endorsers.Store
	e.again()
	return e
}

// again starts the enclave anew.
func (e *endorsedWorld) again() {
	config := *e.config
	config.Ledger = e.endorsers.Identity()
	e.config = &config
	e.restart()
	e.ledger = e.endorsers.Memory().Over(e.endorsers)
}

// nextGenesis loses all endorsers and founds new ones.
func (e *endorsedWorld) nextGenesis() {
	e.t.Helper()
	e.endorsers.NextGenesis(e.t, 3)
	e.again()
}

func (p *phone) offered() *wire.Head {
	newest := p.w.store.Accounts[p.account].Newest()
	return &newest
}

func (p *phone) confirmAsk(approve *wire.Head) *ask {
	a := p.ask(wire.NewCommand(wire.CommandConfirm, wire.Confirm{Approve: approve}))
	a.body.VaultSecret, a.body.Epoch = nil, 0
	if approve != nil {
		a.body.Login, a.uv = p.login(), true
	}
	return a
}

func (p *phone) confirm(approve *wire.Head) (*wire.ConfirmResult, error) {
	p.w.t.Helper()
	r, err := p.send(p.confirmAsk(approve))
	if err != nil {
		return nil, err
	}
	return result[wire.ConfirmResult](p.w.t, r, nil), nil
}

// approves has the device approve what is offered, and says how many have.
func (p *phone) approves(t *testing.T) (approved int, confirmed bool) {
	t.Helper()
	r, err := p.confirm(p.offered())
	if err != nil {
		t.Fatal(err)
	}
	return approvedIn(r), r.Confirmed
}

func approvedIn(r *wire.ConfirmResult) (n int) {
	for _, d := range r.Devices {
		if d.Approved {
			n++
		}
	}
	return n
}

// pair is an account with two trusted devices, in the first genesis.
func (e *endorsedWorld) pair(t *testing.T) (first, second *phone) {
	t.Helper()
	first, second = e.device("alice").enrol(pin), e.device("alice")
	if err := second.join(pin); err != nil {
		t.Fatal(err)
	}
	return first, second
}

// A discontinued account answers every command but confirm with one code, and shows nothing.
func TestDiscontinuedAnswersNothingElse(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	first, _ := e.pair(t)
	passkey := first.create()
	replay := first.createAsk()
	e.nextGenesis()
	stranger := e.device("alice")
	asks := map[wire.CommandName]*ask{
		wire.CommandTicket: stranger.ticketAsk(stranger.login()),
		wire.CommandAssert: first.assertAsk(passkey.Handle),
		wire.CommandCreate: replay,
	}
	for name := range commands {
		if name == wire.CommandConfirm || asks[name] != nil {
			continue
		}
		asks[name] = first.ask(wire.Command{Name: name, Arguments: wire.Marshal(wire.None{})})
	}
	if len(asks) != len(commands)-1 {
		t.Fatalf("%d of %d commands", len(asks), len(commands))
	}
	for name, a := range asks {
		a.body.Challenge = e.core.Challenge(e.now)
		p := first
		if name == wire.CommandTicket {
			p = stranger
			a = stranger.ticketAsk(stranger.login())
		}
		before := p.known
		p.known = &wire.Head{} // whoever knows nothing would be shown the most
		r, err := p.send(a)
		p.known = before
		if wire.CodeOf(err) != wire.CodeDiscontinued {
			t.Errorf("%s: %v", name, err)
		}
		if len(r.Entries) > 0 || r.Newest != (wire.Head{}) || len(r.Results) > 0 {
			t.Errorf("%s shows something", name)
		}
		if n := e.commits(); n > 0 {
			t.Errorf("%s wrote", name)
		}
	}
	// Confirm stands alone: nothing rides along.
	a := first.confirmAsk(nil)
	a.body.Commands = append(a.body.Commands, wire.NewCommand(wire.CommandHistory, wire.History{From: 1, To: 2}))
	_, err := first.send(a)
	wantCode(t, err, wire.CodeMalformed)
}

// A majority of the devices, both of two, bring the account back: with its counts, and
// with everything in it.
func TestConfirm(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	first, second := e.pair(t)
	passkey := first.create()
	wantLeft(t, e.device("alice").join(wrongPIN), wire.CodePINWrong, 2)
	before := *first.counts()
	e.nextGenesis()
	r, err := first.confirm(nil)
	if err != nil || r.Confirmed || r.Needed != 2 || len(r.Devices) != 2 || approvedIn(r) != 0 || r.Offered != *first.offered() {
		t.Fatalf("offer %+v, %v", r, err)
	}
	if n, done := first.approves(t); n != 1 || done || e.commits() != 0 {
		t.Fatalf("one of two: %d, %v", n, done)
	}
	e.again() // approvals outlive the enclave
	if n, done := first.approves(t); n != 1 || done || e.commits() != 0 {
		t.Fatalf("one of two, twice: %d, %v", n, done)
	}
	_, err = first.sync()
	wantCode(t, err, wire.CodeDiscontinued)
	at := first.offered().Sequence
	if n, done := second.approves(t); n != 2 || !done {
		t.Fatalf("two of two: %d, %v", n, done)
	}
	if c, ok := e.effects[len(e.effects)-2].(Commit); !ok || !c.Commit.Append.Restart || len(c.Commit.Head) != 0 {
		t.Fatalf("effects %T", e.effects[len(e.effects)-2])
	}
	after := first.counts()
	if after.Kind != ledger.KindConfirm || after.Consecutive != before.Consecutive || after.Lifetime != before.Lifetime || after.Device != second.id {
		t.Fatalf("note %+v, before %+v", after, before)
	}
	if second.known.Sequence != at+1 || *second.known != *second.offered() {
		t.Fatalf("the device was told %+v", second.known)
	}
	for _, p := range []*phone{first, second} {
		if _, err := p.sync(); err != nil {
			t.Fatal(err)
		}
		if err := p.assert(passkey.Handle); err != nil {
			t.Fatal(err)
		}
	}
	first.create()
	wantLeft(t, e.device("alice").join(wrongPIN), wire.CodePINWrong, 1)
	if r, err := first.confirm(nil); err != nil || !r.Confirmed {
		t.Fatalf("%+v, %v", r, err)
	}
}

// A single device confirms alone; of three two are enough; one without UV key does not count.
func TestConfirmMajority(t *testing.T) {
	t.Parallel()
	for devices, needed := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3} {
		e := newGenesisWorld(t)
		all := []*phone{e.device("alice").enrol(pin)}
		for len(all) < devices+1 {
			p := e.device("alice")
			if err := p.join(pin); err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		plain := all[devices] // loses its UV key
		if _, err := all[0].sync(); err != nil {
			t.Fatal(err)
		}
		untrusted := func(h *head) { h.device(plain.id).UV = nil }
		e.rewrite(t, all[0], untrusted)
		e.nextGenesis()
		_, err := plain.confirm(plain.offered())
		wantCode(t, err, wire.CodeUntrusted)
		for i, p := range all[:needed] {
			n, done := p.approves(t)
			if n != i+1 || done != (i+1 == needed) {
				t.Errorf("%d devices, %d approved: counted %d, done %v", devices, i+1, n, done)
			}
		}
	}
}

func TestConfirmNeeds(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	first, second := e.pair(t)
	gone := e.device("alice")
	if err := gone.join(pin); err != nil {
		t.Fatal(err)
	}
	if _, err := first.sync(); err != nil {
		t.Fatal(err)
	}
	if err := first.revoke(t, gone); err != nil {
		t.Fatal(err)
	}
	e.nextGenesis()
	stranger := e.device("alice")
	other := *first.offered()
	other.Hash[0]++
	older := wire.Head{Sequence: 1, Hash: ledger.EntryHash(e.store.Accounts[first.account].Entries[0])}
	for name, c := range map[string]struct {
		by   *phone
		ask  func(*phone) *ask
		code wire.Code
	}{
		"no UV":        {first, func(p *phone) *ask { a := p.confirmAsk(p.offered()); a.uv = false; return a }, wire.CodeUVRequired},
		"another's UV": {first, func(p *phone) *ask { a := p.confirmAsk(p.offered()); a.uvWith = second.uvKey; return a }, wire.CodeUVRequired},
		"no login":     {first, func(p *phone) *ask { a := p.confirmAsk(p.offered()); a.body.Login = nil; return a }, wire.CodeLoginRequired},
		"another's":    {first, func(p *phone) *ask { a := p.confirmAsk(p.offered()); a.body.Login = second.login(); return a }, wire.CodeLogin},
		"another person": {first, func(p *phone) *ask {
			a := p.confirmAsk(p.offered())
			a.body.Login = p.login(func(l *login) { l.claims["sub"] = "mallory" })
			return a
		}, wire.CodeLogin},
		"stale login": {first, func(p *phone) *ask {
			a := p.confirmAsk(p.offered())
			a.body.Login = p.login(func(l *login) { l.claims["auth_time"] = e.iat - freshLogin - 1 })
			return a
		}, wire.CodeLoginStale},
		"another head": {first, func(p *phone) *ask { return p.confirmAsk(&other) }, wire.CodeConflict},
		"older head":   {first, func(p *phone) *ask { return p.confirmAsk(&older) }, wire.CodeConflict},
		"revoked":      {gone, func(p *phone) *ask { return p.confirmAsk(p.offered()) }, wire.CodeUnknownDevice},
		"revoked asks": {gone, func(p *phone) *ask { return p.confirmAsk(nil) }, wire.CodeUnknownDevice},
		"stranger":     {stranger, func(p *phone) *ask { return p.confirmAsk(p.offered()) }, wire.CodeUnknownDevice},
		"wrong key":    {first, func(p *phone) *ask { a := p.confirmAsk(nil); a.signWith = second.key; return a }, wire.CodeSignature},
	} {
		if _, err := c.by.send(c.ask(c.by)); wire.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		if n := len(e.approvals[first.account]); n != 0 {
			t.Fatalf("%s left an approval", name)
		}
	}
}

// Approvals that the host brings count for one account, head, device and memory of the
// ledger.
func TestApprovalsReplayed(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	first, second := e.pair(t)
	id := first.account
	bob := e.device("bob").enrol(pin)
	older := e.store.Snapshot()
	first.create()
	newer := e.store.Snapshot()
	e.nextGenesis()

	// of another head: the service's, before somebody put the newer database back
	e.store.Restore(older)
	second.approves(t)
	e.store.Restore(newer)
	wantOne := func(when string) {
		t.Helper()
		if n, done := first.approves(t); n != 1 || done || e.commits() != 0 {
			t.Fatalf("%s: %d approvals, confirmed %v", when, n, done)
		}
	}
	wantOne("another head")

	// of another account
	bob.approves(t)
	e.approvals[id] = append(e.approvals[id], e.approvals[bob.account]...)
	wantOne("another account")

	// of another genesis
	e.approvals[id] = nil
	second.approves(t)
	e.nextGenesis()
	wantOne("another genesis")
	if n := len(e.approvals[id]); n != 2 {
		t.Fatalf("%d approvals", n)
	}

	// made by the host, and by a device, which knows the notes' key
	forged := wire.Marshal(approval{Head: *first.offered(), View: e.endorsers.Genesis, Device: second.id})
	scope := wire.Scope{Ledger: e.config.Ledger.ID, Account: id, Generation: 1, Epoch: first.epoch}
	e.approvals[id] = [][]byte{nil, random(80), forged, wire.SealBox(first.notes, wire.LabelApproval, scope, forged), wire.SealBox(first.vault, wire.LabelApproval, scope, forged)}
	wantOne("forged")

	// of one device, again and again
	for range 3 {
		wantOne("again")
	}
	many := make([][]byte, wire.MaxApprovals)
	e.onKeep = func(k *Kept) { k.Approvals = append(many, k.Approvals...) }
	_, err := first.confirm(nil)
	wantCode(t, err, wire.CodeTooLarge)
	e.onKeep = nil

	// The real one is enough still.
	if n, done := second.approves(t); n != 2 || !done {
		t.Fatalf("%d approvals, confirmed %v", n, done)
	}
	// What they approved then is nothing now: the same old head, after another loss.
	e.store.Restore(newer)
	e.nextGenesis()
	wantOne("after the next loss")
}

// A host that loses approvals gains nothing and costs an approval.
func TestApprovalsLost(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	first, second := e.pair(t)
	e.nextGenesis()
	first.approves(t)
	e.approvals = nil
	e.onKeep = func(k *Kept) { k.Approvals = nil }
	if n, done := second.approves(t); n != 1 || done {
		t.Fatalf("%d, %v", n, done)
	}
	e.onKeep = func(k *Kept) { k.Approvals, k.Err = nil, wire.Errorf(wire.CodeUnavailable, "no disk") }
	_, err := first.confirm(first.offered())
	wantCode(t, err, wire.CodeUnavailable)
	e.onKeep = nil
	if n, done := first.approves(t); n != 2 || !done {
		t.Fatalf("%d, %v", n, done)
	}
}

// The entry that confirms was stored, and no endorser heard of it: any device finishes
// it. In a later genesis it confirms nothing.
func TestConfirmationFinished(t *testing.T) {
	t.Parallel()
	for _, later := range []bool{false, true} {
		e := newGenesisWorld(t)
		first, second := e.pair(t)
		e.nextGenesis()
		first.approves(t)
		cut := func(cut bool) {
			for _, m := range e.endorsers.View().Groups[0] {
				e.endorsers.Cut(m.Key, cut)
			}
		}
		e.onCommit = func(*wire.Commit) { cut(true) }
		_, err := second.confirm(second.offered())
		wantCode(t, err, wire.CodeUnavailable)
		e.onCommit = nil
		cut(false)
		if later {
			e.nextGenesis()
		}
		_, err = first.sync()
		wantCode(t, err, wire.CodeDiscontinued)
		at := *first.offered()
		r, err := first.confirm(nil)
		if err != nil || r.Confirmed == later {
			t.Fatalf("later %v: %+v, %v", later, r, err)
		}
		if later {
			continue
		}
		if *first.offered() != at || *first.known != at {
			t.Fatal("confirmed twice")
		}
		if _, err := first.sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// Once confirmed, the older copy is as dead as in every genesis.
func TestRollbackAfterConfirmation(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	first := e.device("alice").enrol(pin)
	older := e.store.Snapshot()
	e.nextGenesis()
	if _, done := first.approves(t); !done {
		t.Fatal("not confirmed")
	}
	e.store.Restore(older)
	e.again()
	for name, a := range map[string]*ask{"confirm": first.confirmAsk(nil), "approve": first.confirmAsk(first.offered()), "create": first.createAsk()} {
		a.body.Challenge = e.core.Challenge(e.now)
		if _, err := first.send(a); wire.CodeOf(err) != wire.CodeRollback {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// In a later genesis the first entry of a new account was stored, and no endorser heard of
// it: its one device brings it to life.
func TestConfirmFirstEntry(t *testing.T) {
	t.Parallel()
	e := newGenesisWorld(t)
	e.nextGenesis()
	p := e.device("alice")
	a := p.enrolAsk(pin)
	members := e.endorsers.View().Groups[0]
	e.onCommit = func(*wire.Commit) {
		for _, m := range members {
			e.endorsers.Cut(m.Key, true)
		}
	}
	_, err := p.send(a)
	wantCode(t, err, wire.CodeUnavailable)
	e.onCommit = nil
	for _, m := range members {
		e.endorsers.Cut(m.Key, false)
	}
	_, err = p.sync()
	wantCode(t, err, wire.CodeDiscontinued)
	if n, done := p.approves(t); n != 1 || !done {
		t.Fatalf("%d, %v", n, done)
	}
	if _, err := p.sync(); err != nil {
		t.Fatal(err)
	}
	p.create()
}
