package enclave

import (
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestMainJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	laptop := w.device("alice").enrol("928374")
	made := laptop.create()
	if err := laptop.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
	if n := w.commits(); n != 0 {
		t.Fatalf("an assertion made %d commits", n)
	}
	tablet := w.device("alice")
	if err := tablet.join("928374"); err != nil {
		t.Fatal(err)
	}
	if err := tablet.assert(made.Handle); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if err := laptop.assert(made.Handle); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	// Revoke: the others go on in the new epoch, and the record moves to it.
	a := laptop.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: tablet.id}))
	a.uv = true
	r, err := laptop.change(a)
	m := result[wire.Membership](t, r, err)
	if m.Epoch != 2 || m.Unsealed != 1 {
		t.Fatalf("membership %+v", m)
	}
	laptop.member(m)
	if err := laptop.assert(made.Handle); err != nil {
		t.Fatalf("before reseal: %v", err)
	}
	wantCode(t, tablet.assert(made.Handle), wire.CodeUnknownDevice)
	a = laptop.ask(wire.NewCommand(wire.CommandReseal, wire.ResealPage{}))
	a.handles = []wire.Handle{made.Handle}
	r, err = laptop.change(a)
	if s := result[wire.ResealResult](t, r, err); len(s.Done) != 1 || len(s.Left) != 0 {
		t.Fatalf("reseal %+v", s)
	}
	if err := laptop.assert(made.Handle); err != nil {
		t.Fatalf("after reseal: %v", err)
	}
}
