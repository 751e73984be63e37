package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// noteLedger is the note that holds the ledger ID.
const noteLedger = "ledger"

// SetNote implements [store.Store].
func (s *Store) SetNote(ctx context.Context, name string, value []byte) error {
	if name == noteLedger {
		return wire.Errorf(wire.CodeArgument, "the ledger ID comes from the entries alone")
	}
	return s.write(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, notNull(value))
		return err
	})
}

// Note implements [store.Store].
func (s *Store) Note(ctx context.Context, name string) (value []byte, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error { value, err = note(ctx, c, name); return err })
	return value, err
}

func note(ctx context.Context, c *pgx.Conn, name string) (value []byte, err error) {
	err = c.QueryRow(ctx, "SELECT value FROM meta WHERE name = $1", name).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return value, err
}

// Ledger implements [store.Store].
func (s *Store) Ledger(ctx context.Context) ([]byte, error) { return s.Note(ctx, noteLedger) }

// Writable implements [store.Store]. After a failed write it tries another one;
// otherwise it asks whether the database takes any.
func (s *Store) Writable(ctx context.Context) error {
	if s.failed.Load() != nil {
		if err := s.SetNote(ctx, "writable", []byte{1}); err != nil {
			return fmt.Errorf("the store does not take writes: %w", err)
		}
		return nil
	}
	return s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		var readOnly string
		if err := c.QueryRow(ctx, "SHOW transaction_read_only").Scan(&readOnly); err != nil {
			return err
		}
		if readOnly == "on" {
			return wire.NewError(wire.CodeUnavailable, store.ErrReadOnly)
		}
		return nil
	})
}
