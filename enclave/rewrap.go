package enclave

import (
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/wire"
)

// Rewrap seals account keys under the newest version of the KEK: for each account what any
// of its wraps opens to, with the newest first. One of which none opens gets a wrap
// without a box.
//
// Nothing of it is checked against the ledger, and nothing needs to be: what comes in is
// a genuine wrap or does not open, and what goes out is a wrap of the same key for the
// same account, generation and epoch. It serves a host that keeps an old copy as well as
// the copy does: the copy opens under the newest version, too, and the ledger refuses it
// as before.
func (c *Core) Rewrap(accounts []wire.Wrapped) wire.Rewrapped {
	out := wire.Rewrapped{KEK: c.newestKEK().Version, Wraps: make([]wire.Wrap, len(accounts))}
	secret.Do(func() {
		for i := range accounts {
			out.Wraps[i] = c.rewrap(&accounts[i])
		}
	})
	return out
}

func (c *Core) rewrap(a *wire.Wrapped) wire.Wrap {
	if len(a.Wraps) == 0 {
		return wire.Wrap{KEK: c.newestKEK().Version}
	}
	s := wire.Scope{Ledger: c.config.Ledger.ID, Account: a.Account, Generation: a.Wraps[0].Generation, Epoch: a.Wraps[0].Epoch}
	for i := len(c.keks) - 1; i >= 0; i-- {
		if key, err := c.unwrapWith(c.keks[i], s, a.Wraps); key != nil && err == nil {
			return c.wrap(s, key)
		}
	}
	return wire.Wrap{Generation: s.Generation, Epoch: s.Epoch, KEK: c.newestKEK().Version}
}
