package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func TestMaxRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	w.rewrite(t, p, func(h *head) { addRecords(h, wire.MaxRecords-1) })
	p.create()
	_, err := p.change(p.createAsk())
	wantCode(t, err, wire.CodeLimit)
}

func TestPageSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	page := func(n int) error {
		a := p.ask(wire.NewCommand(wire.CommandReseal, wire.ResealPage{}))
		for i := range n {
			a.handles = append(a.handles, wire.Handle{byte(i)})
		}
		_, err := p.change(a)
		return err
	}
	wantCode(t, page(wire.PageSize+1), wire.CodeLimit)
	if err := page(wire.PageSize); err != nil {
		t.Fatal(err)
	}
}

// An excluded credential is one that exists, of this site, and is not deleted.
func TestExcluded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.create()
	create := func(rp string) error {
		a := p.ask(wire.NewCommand(wire.CommandCreate, wire.Create{
			RPID: rp, UserHandle: []byte{1}, UserName: "a", Algorithms: []int64{-7}, Exclude: [][]byte{{1}, made.CredentialID},
		}))
		a.uv = true
		_, err := p.change(a)
		return err
	}
	wantCode(t, create("rp.example"), wire.CodeExcluded)
	if err := create("other.example"); err != nil {
		t.Fatal(err)
	}
	a := p.ask(wire.NewCommand(wire.CommandDelete, wire.Delete{Handle: made.Handle, Replaces: made.Version}))
	a.handles, a.uv = []wire.Handle{made.Handle}, true
	if _, err := p.change(a); err != nil {
		t.Fatal(err)
	}
	if err := create("rp.example"); err != nil {
		t.Fatalf("excluded by a deleted passkey: %v", err)
	}
}

// Keys and envelopes stand outside the head, which names their hashes: a host that
// gives others would have the vault secret sealed to itself.
func TestForgedBlobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, next, gone, spy := w.device("alice").enrol(pin), w.device("alice"), w.device("alice"), w.device("spy")
	for _, p := range []*phone{next, gone} {
		if err := p.join(pin); err != nil {
			t.Fatal(err)
		}
	}
	key := spy.encryption.PublicKey().Bytes()
	for name, lie := range map[string]func([][]byte) [][]byte{
		"another key":    func(b [][]byte) [][]byte { return append([][]byte{key}, b[1:]...) },
		"in other order": func(b [][]byte) [][]byte { slices.Reverse(b); return b },
		"one less":       func(b [][]byte) [][]byte { return b[:1] },
		"missing":        func(b [][]byte) [][]byte { return append([][]byte{nil}, b[1:]...) },
		"none":           func([][]byte) [][]byte { return nil },
		"one more":       func(b [][]byte) [][]byte { return append(b, key) },
	} {
		t.Run(name, func(t *testing.T) {
			w.onLoad = func(n wire.Need, s *wire.State) {
				if len(n.Blobs) > 1 {
					s.Blobs = lie(s.Blobs)
				}
			}
			defer func() { w.onLoad = nil }()
			wantCode(t, first.revoke(t, gone), wire.CodeRecordMismatch)
			if w.reply.Refusal != wire.CodeRecordMismatch || w.commits() != 0 {
				t.Fatalf("the host is told %q after %d commits", w.reply.Refusal, w.commits())
			}
		})
	}
	if err := first.revoke(t, gone); err != nil {
		t.Fatal(err)
	}
}

// What the host gives beside the head is bounded before it goes into an answer.
func TestHostsAnswersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	history := func() error {
		_, err := p.send(p.ask(wire.NewCommand(wire.CommandHistory, wire.History{From: 1, To: 1})))
		return err
	}
	w.onLoad = func(n wire.Need, s *wire.State) {
		if n.Manifest {
			s.Manifest = make([]byte, maxManifest+1)
		}
		if n.After != nil && !n.State {
			s.Entries = [][]byte{make([]byte, maxEntry+1)}
		}
	}
	_, err := p.sync()
	wantCode(t, err, wire.CodeRecordMismatch)
	wantCode(t, history(), wire.CodeEntry)
	if w.reply.Refusal != wire.CodeEntry {
		t.Fatalf("the host is told %q", w.reply.Refusal)
	}
	w.onLoad = func(n wire.Need, s *wire.State) {
		if n.After != nil && !n.State {
			s.Entries = slices.Repeat(s.Entries, 2)
		}
	}
	r, err := p.send(p.ask(wire.NewCommand(wire.CommandHistory, wire.History{From: 1, To: 1})))
	if got := result[wire.HistoryResult](t, r, err); len(got.Entries) != 1 {
		t.Fatalf("%d entries for one", len(got.Entries))
	}
	for _, args := range []wire.History{{From: 0, To: 1}, {From: 2, To: 1}, {From: 1, To: 1 + wire.MaxEntries}} {
		_, err := p.send(p.ask(wire.NewCommand(wire.CommandHistory, args)))
		wantCode(t, err, wire.CodeArgument)
	}
}

// The fullest account has answers that fit their envelope: else a change would stand
// whose answer is lost.
func TestFullestAnswersFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.lax()
	p.meta[made.Handle] = made.Version
	a := p.ask(wire.NewCommand(wire.CommandBlob, wire.WriteBlob{Handle: made.Handle, Replaces: made.Version, Blob: make([]byte, wire.MaxBlob)}))
	a.handles = []wire.Handle{made.Handle}
	if _, err := p.change(a); err != nil {
		t.Fatal(err)
	}
	previous := wire.SealPrevious(p.vault, wire.Scope{}, wire.Previous{VaultSecret: random(32), NotesKey: random(32)})
	w.rewrite(t, p, func(h *head) {
		addDevices(h, wire.MaxDevices)
		addRecords(h, wire.MaxRecords)
		h.Previous = slices.Repeat([][]byte{previous}, lastEpoch-1)
	})
	// The most that the enclave takes from the host.
	known := *p.known
	w.onLoad = func(n wire.Need, s *wire.State) {
		if n.Manifest {
			s.Manifest = make([]byte, maxManifest)
		}
		if n.After != nil {
			first := s.Entries[0]
			s.Entries = slices.Repeat([][]byte{make([]byte, maxEntry)}, wire.MaxEntries)
			if n.State {
				s.Entries[0] = first
			}
		}
	}
	full := func(name wire.CommandName, arguments any, n int) *ask {
		a := p.ask(slices.Repeat([]wire.Command{wire.NewCommand(name, arguments)}, n)...)
		if commands[name].handle != nil {
			a.handles = []wire.Handle{made.Handle}
		}
		return a
	}
	for name, a := range map[string]*ask{
		"sync":       full(wire.CommandSync, wire.Sync{}, 1),
		"history":    full(wire.CommandHistory, wire.History{From: 1, To: wire.MaxEntries}, 1),
		"devices":    full(wire.CommandDevices, wire.Devices{}, wire.MaxCommands),
		"assertions": full(wire.CommandAssert, wire.Assert{Handle: made.Handle, RPID: "rp.example", ReadBlob: true}, wire.MaxCommands),
	} {
		p.known = &known
		raw, _ := p.envelope(a)
		opened, r := w.run(raw)
		if r.Error != nil || len(r.Entries) != wire.MaxEntries {
			t.Errorf("%s: %v, %d entries", name, r.Error, len(r.Entries))
			continue
		}
		if _, err := opened.SealResponse(wire.Marshal(r)); err != nil {
			t.Errorf("%s: %d bytes: %v", name, len(wire.Marshal(r)), err)
		}
	}
	// And the head still opens: as many array elements as there can be.
	if n := len(w.opened(p).head.Previous); n != lastEpoch-1 {
		t.Fatalf("%d earlier epochs", n)
	}
}

// A request ends, whatever it asks the host for.
func TestLacksEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var s State
	for range maxLacks {
		var effects []Effect
		if s, effects = w.core.fill(s, &lack{need: &wire.Need{}}); s.phase != phaseMore {
			t.Fatalf("%#v", effects)
		}
	}
	_, effects := w.core.fill(s, &lack{need: &wire.Need{}})
	reply, ok := effects[0].(Reply)
	if !ok || reply.Response.Error.Code != wire.CodeUnavailable {
		t.Fatalf("%#v", effects[0])
	}
}

// Real entries are smaller than what an answer takes of them.
func TestEntriesAreSmall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	p.create()
	for _, e := range w.store.Accounts[p.account].Entries {
		if len(e) > maxEntry || must(ledger.ParseEntry(e)) == nil {
			t.Fatalf("an entry of %d bytes", len(e))
		}
	}
}
