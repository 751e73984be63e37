package sqlite

import (
	"bytes"
	"context"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Stage implements [store.Store].
func (s *Store) Stage(ctx context.Context, c *wire.Commit) error {
	p, err := store.Parse(c)
	if err != nil {
		return err
	}
	body := wire.Marshal(c)
	return s.writer.do(ctx, len(body), func(w *writer) error {
		return w.conn.exec("INSERT INTO staged VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
			c.Append.Account[:], p.Place.Hash[:], int64(p.Place.Sequence), body)
	})
}

// Settle implements [store.Store].
func (s *Store) Settle(ctx context.Context, account wire.AccountID, entry wire.Digest) error {
	return s.writer.do(ctx, 0, func(w *writer) error {
		body, err := w.conn.bytes("SELECT body FROM staged WHERE account = ?1 AND hash = ?2", account[:], entry[:])
		if err != nil {
			return err
		}
		if body == nil {
			return w.settled(account[:], entry[:])
		}
		var c wire.Commit
		if err := wire.Unmarshal(body, &c); err != nil {
			return err
		}
		p, err := store.Parse(&c)
		if err != nil {
			return err
		}
		if err := (parsed{p}).apply(w); err != nil {
			return err
		}
		return w.conn.exec("DELETE FROM staged WHERE account = ?1 AND seq <= ?2", account[:], int64(p.Place.Sequence))
	})
}

// settled refuses an entry that does not stand.
func (w *writer) settled(account, entry []byte) error {
	at, err := w.standing(account)
	if err != nil {
		return err
	}
	if bytes.Equal(at.newest.Hash[:], entry) {
		return nil
	}
	stands, err := w.conn.bytes("SELECT hash FROM entries WHERE account = ?1 AND hash = ?2", account, entry)
	if err != nil {
		return err
	}
	if stands == nil {
		return wire.Errorf(wire.CodeNotFound, "nothing is staged under this hash")
	}
	return nil
}
