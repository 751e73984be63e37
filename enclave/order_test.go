package enclave

import (
	"testing"

	"github.com/passclave/passclave/wire"
)

// Commands that stand alone are refused in company, before and behind another.
func TestCommandsThatStandAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	tested := map[wire.CommandName]bool{}
	for name, ask := range map[wire.CommandName]func() (*phone, *ask){
		wire.CommandTicket: func() (*phone, *ask) { return p, p.ticketAsk(p.login()) },
		wire.CommandEnrol:  func() (*phone, *ask) { n := w.device("bob"); return n, n.enrolAsk(pin) },
		wire.CommandJoin:   func() (*phone, *ask) { n := w.device("alice"); return n, n.joinAsk(pin) },
		wire.CommandPINSet: func() (*phone, *ask) { return p, p.pinSetAsk(t, pin, p.login()) },
		wire.CommandRevoke: func() (*phone, *ask) {
			return p, p.ask(wire.NewCommand(wire.CommandRevoke, wire.Revoke{Device: p.id}))
		},
		wire.CommandReseal:  func() (*phone, *ask) { return p, p.ask(wire.NewCommand(wire.CommandReseal, wire.ResealPage{})) },
		wire.CommandSync:    func() (*phone, *ask) { return p, p.ask(wire.NewCommand(wire.CommandSync, wire.Sync{})) },
		wire.CommandConfirm: func() (*phone, *ask) { return p, p.ask(wire.NewCommand(wire.CommandConfirm, wire.Confirm{})) },
		wire.CommandHistory: func() (*phone, *ask) {
			return p, p.ask(wire.NewCommand(wire.CommandHistory, wire.History{From: 1, To: 1}))
		},
	} {
		tested[name] = true
		t.Run(string(name), func(t *testing.T) {
			for _, behind := range []bool{false, true} {
				from, a := ask()
				if commands[name].changes {
					a.body.Number = from.number + 1
				}
				other := wire.NewCommand(wire.CommandDevices, wire.Devices{})
				if a.body.Commands = append(a.body.Commands, other); behind {
					a.body.Commands[0], a.body.Commands[1] = other, a.body.Commands[0]
				}
				_, err := from.send(a)
				if behind && from != p {
					wantCode(t, err, wire.CodeUnknownDevice) // what stands first says who asks
					continue
				}
				wantCode(t, err, wire.CodeMalformed)
			}
		})
	}
	for name, run := range commands {
		if run.alone != tested[name] {
			t.Errorf("%s: alone is %v", name, run.alone)
		}
	}
	a := p.ask(wire.NewCommand(wire.CommandDevices, wire.Devices{}), wire.NewCommand(wire.CommandDevices, wire.Devices{}))
	if _, err := p.send(a); err != nil {
		t.Fatalf("two others: %v", err)
	}
}

// The host loads what the header names: the commands must name the same.
func TestHandleOnlyInCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	made := p.create()
	a := p.assertAsk(made.Handle)
	a.handles = nil
	_, err := p.send(a)
	wantCode(t, err, wire.CodeMalformed)
	a.handles = []wire.Handle{{1}}
	_, err = p.send(a)
	wantCode(t, err, wire.CodeMalformed)
}

// A device ID is its key's: nobody gets into an account under another's name.
func TestDeviceIDIsItsKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.device("alice").enrol(pin)
	for name, test := range map[string]func(p *phone) *ask{
		"ticket": func(p *phone) *ask { return p.ticketAsk(p.login()) },
		"enrol":  func(p *phone) *ask { return p.enrolAsk(pin) },
		"join":   func(p *phone) *ask { return p.joinAsk(pin) },
	} {
		t.Run(name, func(t *testing.T) {
			subject := map[bool]string{true: "bob", false: "alice"}[name == "enrol"]
			for _, id := range []wire.DeviceID{{1}, first.id} {
				p := w.device(subject)
				a := test(p)
				a.body.Device = id
				_, err := p.send(a)
				wantCode(t, err, wire.CodeSignature)
				if n := w.commits(); n != 0 {
					t.Fatalf("%d commits", n)
				}
			}
		})
	}
}
