package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

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
	return s.write(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "INSERT INTO staged (account, hash, seq, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
			c.Append.Account[:], p.Place.Hash[:], int64(p.Place.Sequence), body)
		return err
	})
}

// Settle implements [store.Store]. What lost is forgotten in a transaction of its own: it
// is void whether it is there or not.
func (s *Store) Settle(ctx context.Context, account wire.AccountID, entry wire.Digest) error {
	var body []byte
	var stands bool
	err := s.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		err := c.QueryRow(ctx, "SELECT body FROM staged WHERE account = $1 AND hash = $2", account[:], entry[:]).Scan(&body)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return c.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM entries WHERE account = $1 AND hash = $2)", account[:], entry[:]).Scan(&stands)
	})
	switch {
	case err != nil || stands:
		return err
	case body == nil:
		return wire.Errorf(wire.CodeNotFound, "nothing is staged under this hash")
	}
	var c wire.Commit
	if err := wire.Unmarshal(body, &c); err != nil {
		return err
	}
	done, err := s.Commit(ctx, &c)
	if err != nil {
		return err
	}
	return s.write(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DELETE FROM staged WHERE account = $1 AND seq <= $2", account[:], int64(done.Newest.Sequence))
		return err
	})
}
