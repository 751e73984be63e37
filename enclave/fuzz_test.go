package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/wire"
)

// A member may send any arguments to any command: each gets an answer.
func FuzzCommands(f *testing.F) {
	names := make([]wire.CommandName, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) < 16 {
		f.Fatal("no seeds")
	}
	for i := range names {
		f.Add(uint8(i), wire.Marshal(wire.None{}), true)
	}
	f.Add(uint8(slices.Index(names, wire.CommandCreate)), wire.Marshal(wire.Create{RPID: "rp.example", UserHandle: []byte{1}, UserName: "a", Algorithms: []int64{-7}}), true)
	f.Add(uint8(slices.Index(names, wire.CommandHistory)), wire.Marshal(wire.History{From: 1, To: 3}), false)
	w := newWorld(f)
	p := w.device("alice").enrol(pin)
	made := p.create()
	start := w.store.Snapshot()
	number, known := p.number, *p.known
	f.Fuzz(func(t *testing.T, name uint8, arguments []byte, changing bool) {
		w.t = t
		if len(arguments) > 64<<10 {
			return
		}
		w.store.Restore(start)
		w.restart()
		p.number, p.known = number, &known
		a := p.ask(wire.Command{Name: names[int(name)%len(names)], Arguments: arguments})
		a.uv = true
		if changing {
			a.body.Number = number + 1
		}
		if run := commands[a.body.Commands[0].Name]; run.handle != nil {
			a.handles = []wire.Handle{made.Handle}
		}
		_, _ = p.send(a)
	})
}

// A host may load any state: it is refused, or it is the one that stands.
func FuzzState(f *testing.F) {
	w := newWorld(f)
	p := w.device("alice").enrol(pin)
	made := p.create()
	state := w.store.Load(wire.Need{Account: p.account, State: true, Records: []wire.Handle{made.Handle}})
	f.Add(wire.Marshal(state))
	f.Add(wire.Marshal(wire.State{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		w.t = t
		var s wire.State
		if wire.Unmarshal(data, &s) != nil {
			return
		}
		w.onState = func(out *wire.State) { *out = s }
		err := p.assert(made.Handle)
		same := slices.Equal(s.Head, state.Head) && slices.Equal(s.Newest, state.Newest)
		if err == nil && !same {
			t.Fatal("signed on a state that does not stand")
		}
	})
}

// Whatever a sealed head or record opens to, decoding it does not panic.
func FuzzHead(f *testing.F) {
	w := newWorld(f)
	p := w.device("alice").enrol(pin)
	p.create()
	key, s := random(32), wire.Scope{Ledger: w.config.Ledger.ID, Account: p.account, Generation: 1, Epoch: 1}
	f.Add(wire.Marshal(head{Version: 1, Account: p.account, Generation: 1, Epoch: 1, Records: make(records, rowSize)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := openHead(wire.SealBox(wire.HeadKey(key), wire.LabelHead, s, wire.PadBox(data, headBucket)), key, s)
		if err != nil {
			return
		}
		h.Records.find(wire.Handle{})
		h.Records.manifest(1)
		h.dropEarlier()
		h.members(key)
	})
}
