package enclave

import (
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestDeletedPasskey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.create()
	remove := func(uv bool) error {
		a := p.ask(wire.NewCommand(wire.CommandDelete, wire.Delete{Handle: made.Handle, Replaces: p.meta[made.Handle]}))
		a.handles, a.uv = []wire.Handle{made.Handle}, uv
		_, err := p.change(a)
		return err
	}
	wantCode(t, remove(false), wire.CodeUVRequired)
	if err := remove(true); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.assert(made.Handle), wire.CodeNotFound)
	if len(w.store.Accounts[p.account].Records) != 1 {
		t.Fatal("a deleted record is gone at once")
	}
	w.wall += keepDeleted - 1
	p.create()
	if len(w.store.Accounts[p.account].Records) != 2 {
		t.Fatal("purged a second too early")
	}
	w.wall++
	p.create()
	if _, ok := w.store.Accounts[p.account].Records[made.Handle]; ok {
		t.Fatal("not purged after 30 days")
	}
}

func TestEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.create()
	rename := func(replaces wire.VersionID) error {
		a := p.ask(wire.NewCommand(wire.CommandRename, wire.Rename{Handle: made.Handle, Replaces: replaces, Label: "mail"}))
		a.handles = []wire.Handle{made.Handle}
		_, err := p.change(a)
		return err
	}
	if err := rename(made.Version); err != nil {
		t.Fatal(err)
	}
	wantCode(t, rename(made.Version), wire.CodeConflict) // two devices edit one version: the second is told
	a := p.createAsk()
	var c wire.Create
	_ = wire.Unmarshal(a.body.Commands[0].Arguments, &c)
	c.Exclude = [][]byte{made.CredentialID}
	a.body.Commands[0] = wire.NewCommand(wire.CommandCreate, c)
	_, err := p.change(a)
	wantCode(t, err, wire.CodeExcluded)
	a = p.assertAsk(made.Handle)
	a.body.Commands[0] = wire.NewCommand(wire.CommandAssert, wire.Assert{Handle: made.Handle, RPID: "evil.example"})
	_, err = p.send(a)
	wantCode(t, err, wire.CodeArgument)
	a = p.assertAsk(made.Handle)
	a.uv = false
	_, err = p.send(a)
	wantCode(t, err, wire.CodeUVRequired)
}
