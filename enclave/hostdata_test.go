package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/wire"
)

// What the host loads is checked against the newest entry.
func TestHostsDataRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		attack func(w *world, p, bob *phone, old *world0, s *wire.State)
		want   wire.Code
	}{
		"older state":     {func(_ *world, _, _ *phone, old *world0, s *wire.State) { *s = old.state }, wire.CodeRollback},
		"no such account": {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { *s = wire.State{} }, wire.CodeRollback},
		"another account's state": {func(w *world, _, bob *phone, _ *world0, s *wire.State) {
			*s = w.store.Load(wire.Need{Account: bob.account, State: true})
		}, wire.CodeRollback},
		"entry of garbage":         {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Newest = []byte{1} }, wire.CodeEntry},
		"older head, newest entry": {func(_ *world, _, _ *phone, old *world0, s *wire.State) { s.Head = old.state.Head }, wire.CodeHeadMismatch},
		"no head":                  {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Head = nil }, wire.CodeHeadMismatch},
		"no wraps":                 {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Wraps = nil }, wire.CodeWrap},
		"wrap flipped":             {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Wraps[0].Box = flipped(s.Wraps[0].Box) }, wire.CodeWrap},
		"another account's wrap": {func(w *world, _, bob *phone, _ *world0, s *wire.State) {
			s.Wraps = w.store.Load(wire.Need{Account: bob.account, State: true}).Wraps
		}, wire.CodeWrap},
		"wrap of an unknown KEK": {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Wraps[0].KEK = "v9" }, wire.CodeWrap},
		"no record":              {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Records = nil }, wire.CodeRecordMismatch},
		"older record":           {func(_ *world, _, _ *phone, old *world0, s *wire.State) { s.Records = old.state.Records }, wire.CodeRecordMismatch},
		"record of garbage":      {func(_ *world, _, _ *phone, _ *world0, s *wire.State) { s.Records = [][]byte{{1, 2, 3}} }, wire.CodeRecordMismatch},
		"record with swapped secret": {func(w *world, p, _ *phone, old *world0, s *wire.State) {
			r, other := must(wire.ParseRecord(s.Records[0])), must(wire.ParseRecord(old.other))
			r.Secret = other.Secret
			s.Records[0] = wire.Marshal(r)
		}, wire.CodeRecordMismatch},
		"record under another's handle": {func(w *world, p, _ *phone, old *world0, s *wire.State) {
			r, other := must(wire.ParseRecord(s.Records[0])), must(wire.ParseRecord(old.other))
			other.Handle, other.Version = r.Handle, r.Version
			s.Records[0] = wire.Marshal(other)
		}, wire.CodeRecordMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p, bob := w.device("alice").enrol(pin), w.device("bob").enrol(pin)
			made, second := p.create(), p.create()
			old := &world0{state: w.store.Load(wire.Need{Account: p.account, State: true, Records: []wire.Handle{made.Handle}})}
			old.other = w.store.Accounts[p.account].Records[second.Handle]
			a := p.ask(wire.NewCommand(wire.CommandRename, wire.Rename{Handle: made.Handle, Replaces: made.Version, Label: "new"}))
			a.handles = []wire.Handle{made.Handle}
			if _, err := p.change(a); err != nil {
				t.Fatal(err)
			}
			if err := p.assert(made.Handle); err != nil {
				t.Fatal(err)
			}
			w.onState = func(s *wire.State) { test.attack(w, p, bob, old, s) }
			wantCode(t, p.assert(made.Handle), test.want)
			if w.reply.Refusal != test.want {
				t.Fatalf("the host is told %q", w.reply.Refusal)
			}
		})
	}
}

// world0 is what a host kept of earlier.
type world0 struct {
	state wire.State
	other []byte // another record of the same account
}

func flipped(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// A state that is behind by one commit is asked for again, not refused.
func TestStaleStateIsLoadedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	old := w.store.Load(wire.Need{Account: p.account, State: true})
	made := p.create()
	first := true
	w.onState = func(s *wire.State) {
		if first {
			*s, first = old, false
		}
	}
	if err := p.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
}

// The fourth row of the threat table: KEK and database do not make a member.
func TestForgedMemberIsNotServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	made := first.create()
	spy := w.device("alice")
	w.forge(t, first, func(h *head) {
		added := h.Devices[0]
		added.ID, added.Key, added.UV = spy.id, point(spy.key), point(spy.uvKey)
		h.Devices = append(h.Devices, added)
	})
	wantCode(t, first.assert(made.Handle), wire.CodeVaultSecret)
	spy.vault, spy.epoch = random(32), 1
	wantCode(t, spy.assert(made.Handle), wire.CodeVaultSecret)
}

// A revoked device holds the vault secret of the epoch that records still stand
// under. With the host it can make metadata, and the enclave must not seal that anew.
func TestForgedMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	gone := w.device("alice")
	if err := gone.join(pin); err != nil {
		t.Fatal(err)
	}
	made := first.create()
	a := first.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: gone.id}))
	a.uv = true
	r, err := first.change(a)
	first.member(result[wire.Membership](t, r, err))

	record := must(wire.ParseRecord(w.store.Accounts[first.account].Records[made.Handle]))
	m := must(record.OpenMetadata(w.config.Ledger.ID, first.account, gone.vault))
	m.UserName = "mallory"
	record.Metadata = wire.SealBox(wire.MetadataKey(gone.vault), wire.LabelMetadata, record.Scope(w.config.Ledger.ID, first.account),
		wire.PadBox(wire.Marshal(m), wire.MetadataBucket), record.Handle, record.Version)
	w.store.Accounts[first.account].Records[made.Handle] = wire.Marshal(record)

	a = first.ask(wire.NewCommand(wire.CommandReseal, wire.ResealPage{}))
	a.handles = []wire.Handle{made.Handle}
	_, err = first.change(a)
	wantCode(t, err, wire.CodeRecordMismatch)
	wantCode(t, first.assert(made.Handle), wire.CodeRecordMismatch)
}
