package enclave

import (
	"crypto/hmac"

	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// account is a live account, opened and checked against the newest entry.
type account struct {
	stream wire.StreamID
	at     wire.Head
	entry  *ledger.Entry
	head   *head
	key    []byte // account key of the epoch in force
	note   *ledger.Note
}

// open opens what the host loaded. The newest entry is the one that the ledger
// names, by its hash: its signature was checked when the ledger took it (in a restore,
// headRead did). The head must be the one that this entry names.
func (c *Core) open(id wire.AccountID, at wire.Head, have *atHand) (*account, error) {
	if at == (wire.Head{}) {
		return nil, nil
	}
	entry, err := have.newest()
	if err != nil {
		return nil, err
	}
	s := &have.state
	if sealedHeadHash(s.Head) != entry.Head {
		return nil, wire.Errorf(wire.CodeHeadMismatch, "head is not the one that entry %d names", entry.Sequence)
	}
	a := &account{stream: entry.Stream, at: at, entry: entry}
	scope := wire.Scope{Ledger: c.config.Ledger.ID, Account: id, Generation: entry.Generation, Epoch: entry.Epoch}
	secret.Do(func() {
		if a.key, err = c.unwrap(scope, s.Wraps); err == nil {
			a.head, err = openHead(s.Head, a.key, scope)
		}
		if err == nil {
			a.note, err = ledger.OpenNote(wire.NotesKey(a.key), id, entry)
		}
	})
	return a, err
}

// unwrap opens the account key with the newest version of the KEK that has a row.
func (c *Core) unwrap(s wire.Scope, wraps []wire.Wrap) ([]byte, error) {
	for i := len(c.keks) - 1; i >= 0; i-- {
		if key, err := c.unwrapWith(c.keks[i], s, wraps); key != nil || err != nil {
			return key, err
		}
	}
	return nil, wire.Errorf(wire.CodeWrap, "no wrapped account key under a KEK version held here")
}

// unwrapWith opens the account key with one version of the KEK; nil: that one has no row.
func (c *Core) unwrapWith(k KEK, s wire.Scope, wraps []wire.Wrap) ([]byte, error) {
	for _, w := range wraps {
		if w.KEK != k.Version || w.Generation != s.Generation || w.Epoch != s.Epoch {
			continue
		}
		key, err := wire.OpenBox(wire.WrapKey(k.Key, s), wire.LabelWrap, s, w.Box, w.KEK)
		if err != nil || len(key) != wire.SecretSize {
			return nil, wire.Errorf(wire.CodeWrap, "wrapped account key does not open")
		}
		return key, nil
	}
	return nil, nil
}

// wrap seals an account key under the newest version of the KEK.
func (c *Core) wrap(s wire.Scope, accountKey []byte) wire.Wrap {
	kek := c.newestKEK()
	return wire.Wrap{
		Generation: s.Generation, Epoch: s.Epoch, KEK: kek.Version,
		Box: wire.SealBox(wire.WrapKey(kek.Key, s), wire.LabelWrap, s, accountKey, kek.Version),
	}
}

// locked reports whether a PIN attempt may not even begin.
func (c *Core) locked(n *ledger.Note) bool {
	return n.Consecutive >= c.config.PIN.ConsecutiveLimit || n.Lifetime >= c.config.PIN.LifetimeLimit
}

// attemptsLeft is how many attempts may still begin.
func (c *Core) attemptsLeft(n *ledger.Note) uint64 {
	if c.locked(n) {
		return 0
	}
	return min(c.config.PIN.ConsecutiveLimit-n.Consecutive, c.config.PIN.LifetimeLimit-n.Lifetime)
}

// authentic reports whether the membership in the head is authenticated by a vault secret.
func (h *head) authentic(vaultSecret []byte) bool {
	want := h.members(vaultSecret)
	return hmac.Equal(want[:], h.Members[:])
}
