package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// wrappedQuery has a row for each wrap of the epoch in force of the next accounts, and
// one without a version for an account that has none.
const wrappedQuery = `
SELECT a.account, a.generation, a.epoch, coalesce(w.kek, ''), w.box
FROM (SELECT account, generation, epoch FROM accounts WHERE account > ?1 ORDER BY account LIMIT ?2) a
LEFT JOIN wraps w ON w.account = a.account AND w.generation = a.generation AND w.epoch = a.epoch
ORDER BY a.account, w.kek`

// Wrapped implements [store.Store].
func (s *Store) Wrapped(ctx context.Context, kek string, after *wire.AccountID, limit int) (found []wire.Wrapped, next *wire.AccountID, err error) {
	var from []byte // smaller than any key
	if after != nil {
		from = after[:]
	}
	var p store.Page
	err = s.read(ctx, func(c *conn) error {
		return c.query(func(row []driver.Value) error {
			var a wire.AccountID
			copy(a[:], blob(row[0]))
			p.Add(a, wrap(row[1:5]))
			return nil
		}, wrappedQuery, from, int64(limit))
	})
	if err != nil {
		return nil, nil, err
	}
	found, next = p.Done(kek, limit)
	return found, next, nil
}

// Rewrap implements [store.Store].
func (s *Store) Rewrap(ctx context.Context, wraps []store.Rewrap) (done int, err error) {
	if err := store.CheckRewraps(wraps); err != nil {
		return 0, err
	}
	size := 0
	for _, r := range wraps {
		size += len(r.Wrap.Box)
	}
	err = s.writer.do(ctx, size, func(w *writer) error {
		done = 0 // it may run twice
		for _, r := range wraps {
			stands, err := w.rewrap(&r)
			if err != nil {
				return err
			}
			if stands {
				done++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return done, nil
}

// rewrap puts one wrap, if its epoch is the one in force.
func (w *writer) rewrap(r *store.Rewrap) (stands bool, err error) {
	account, generation, epoch := r.Account[:], int64(r.Wrap.Generation), int64(r.Wrap.Epoch)
	n, err := w.conn.integer("SELECT count(*) FROM accounts WHERE account = ?1 AND generation = ?2 AND epoch = ?3", account, generation, epoch)
	if err != nil || n == 0 {
		return false, err
	}
	for _, former := range r.Former {
		if err := w.conn.exec("DELETE FROM wraps WHERE account = ?1 AND generation = ?2 AND epoch = ?3 AND kek = ?4", account, generation, epoch, former); err != nil {
			return false, err
		}
	}
	return true, w.conn.exec("INSERT OR REPLACE INTO wraps VALUES (?1, ?2, ?3, ?4, ?5)", account, generation, epoch, r.Wrap.KEK, r.Wrap.Box)
}

// Wraps implements [store.Store].
func (s *Store) Wraps(ctx context.Context) (map[string]uint64, error) {
	counts := map[string]uint64{}
	err := s.read(ctx, func(c *conn) error {
		return c.within("BEGIN", func() error {
			err := c.query(func(row []driver.Value) error {
				counts[row[0].(string)] = uint64(row[1].(int64))
				return nil
			}, `SELECT w.kek, count(*) FROM wraps w JOIN accounts a ON a.account = w.account AND a.generation = w.generation AND a.epoch = w.epoch GROUP BY w.kek`)
			if err != nil {
				return err
			}
			return c.query(func(row []driver.Value) error { return store.CountStaged(counts, blob(row[0])) }, "SELECT body FROM staged")
		})
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}
