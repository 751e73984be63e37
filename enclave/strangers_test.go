package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// Whoever has not logged in learns nothing of an account, not even that it exists.
func TestStrangersLearnNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin).create()
	for _, known := range []*wire.Head{nil, {}, {Sequence: 1}, {Sequence: 1, Hash: wire.Digest{1}}} {
		var size int
		for _, subject := range []string{"alice", "nobody"} {
			p := w.device(subject)
			p.known = known
			r, err := p.send(p.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})))
			wantCode(t, err, wire.CodeUnknownDevice)
			if r.Newest != (wire.Head{}) || r.Entries != nil || w.reply.Least != 0 {
				t.Fatalf("%s: %+v", subject, r)
			}
			if n := len(wire.Marshal(r)); size != 0 && n != size {
				t.Fatalf("answers of %d and %d bytes", size, n)
			} else {
				size = n
			}
		}
	}
	if n := w.ledger.(*local.Ledger).Streams(); n != 1 {
		t.Fatalf("%d streams are remembered for one account", n)
	}
}

// Wrong, locked and unenrolled joins answer with as many bytes, whatever the joiner
// says to know.
func TestJoinRefusalsHaveOneSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.device("alice").enrol(pin)
	size := map[int]bool{}
	try := func(subject string) {
		p := w.device(subject)
		a := p.joinAsk(wrongPIN)
		p.known = alice.known
		raw, _ := p.envelope(a)
		opened, r := w.run(raw)
		size[len(must(opened.SealResponse(wire.Marshal(r))))] = true
		if w.reply.Least != leastPINTime {
			t.Fatalf("%s: answered after %s", subject, w.reply.Least)
		}
	}
	for range 4 {
		try("alice")
	}
	try("nobody")
	if len(size) != 1 {
		t.Fatalf("sizes %v", size)
	}
}

// Whatever a host puts beside the state, an answer fits its envelope.
func TestAnswersFit(t *testing.T) {
	t.Parallel()
	for name, junk := range map[string]func(*wire.State){
		"one large entry":    func(s *wire.State) { s.Entries = [][]byte{make([]byte, 2<<20)} },
		"many entries":       func(s *wire.State) { s.Entries = slices.Repeat(s.Entries, 1+wire.MaxEntries) },
		"large behind small": func(s *wire.State) { s.Entries = append(slices.Clone(s.Entries), make([]byte, 2<<20)) },
	} {
		w := newWorld(t)
		p := w.device("alice").enrol(pin)
		old := *p.known
		p.create()
		p.known = &old
		w.onState = junk
		a := p.createAsk()
		a.body.Number = p.number + 1
		raw, _ := p.envelope(a)
		opened, r := w.run(raw)
		if _, err := opened.SealResponse(wire.Marshal(r)); err != nil || r.Error != nil {
			t.Errorf("%s: %v, %v", name, err, r.Error)
		}
	}
}
