package enclave

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// opened is an account as it stands in the store.
func (w *world) opened(p *phone) *account {
	w.t.Helper()
	state := w.store.Load(wire.Need{Account: p.account, State: true})
	e := must(ledger.ParseEntry(state.Newest))
	return must(w.core.open(p.account, ledger.HeadOf(e, state.Newest), &atHand{state: state}))
}

// forge is an attacker with the KEK: he opens the head, changes it, and seals,
// wraps and signs as the enclave would.
func (w *world) forge(t *testing.T, p *phone, change func(*head)) {
	t.Helper()
	a := w.opened(p)
	change(a.head)
	box, digest := a.head.seal(a.key, w.config.Ledger.ID)
	made := w.core.append(a, a.at, nil, digest, wire.Digest{}, *a.note)
	made.commit.Head = box
	made.commit.Wraps = []wire.Wrap{w.core.wrap(a.head.scope(w.config.Ledger.ID), a.key)}
	if _, err := w.store.Commit(t.Context(), &made.commit); err != nil {
		t.Fatal(err)
	}
	w.restart()
}

// rewrite brings an account into a state that would take long to reach: unlike
// forge with the vault secret, so that the membership is authentic.
func (w *world) rewrite(t *testing.T, p *phone, change func(*head)) {
	t.Helper()
	w.forge(t, p, func(h *head) {
		change(h)
		p.epoch = h.Epoch
		h.Members = h.members(p.vault)
	})
}

// addDevices gives the account members until there are so many.
func addDevices(h *head, n int) {
	for len(h.Devices) < n {
		d := h.Devices[0]
		d.ID, d.Encryption = wire.DeviceID(random(16)), wire.Digest(random(32))
		h.Devices = append(h.Devices, d)
	}
}

// addRecords lists records that nobody stored until there are so many.
func addRecords(h *head, n int) {
	for h.Records.len() < n {
		h.Records.put(row{Handle: wire.Handle(random(16)), Version: wire.VersionID(random(16)), Epoch: h.Epoch})
	}
}

// commitsAt has the host do something else just before an entry of this request is
// written: the nth, from 1.
func (w *world) commitsAt(n int, do func()) {
	count := 0
	w.onCommit = func(*wire.Commit) {
		if count++; count == n {
			w.onCommit = nil
			do()
		}
	}
}
