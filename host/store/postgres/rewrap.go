package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// wrappedQuery has a row for each wrap of the epoch in force of the next accounts, and
// one without a version for an account that has none.
const wrappedQuery = `
SELECT a.account, a.generation, a.epoch, w.kek, w.box
FROM (SELECT account, generation, epoch FROM accounts WHERE account > $1 ORDER BY account LIMIT $2) AS a
LEFT JOIN wraps w ON w.account = a.account AND w.generation = a.generation AND w.epoch = a.epoch
ORDER BY a.account, w.kek`

// Wrapped implements [store.Store].
func (s *Store) Wrapped(ctx context.Context, kek string, after *wire.AccountID, limit int) (found []wire.Wrapped, next *wire.AccountID, err error) {
	from := []byte{} // smaller than any key
	if after != nil {
		from = after[:]
	}
	var p store.Page
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		p = store.Page{}
		rows, _ := c.Query(ctx, wrappedQuery, from, limit)
		var id, version, box []byte
		var generation, epoch int64
		_, err := pgx.ForEachRow(rows, []any{&id, &generation, &epoch, &version, &box}, func() error {
			var a wire.AccountID
			copy(a[:], id)
			p.Add(a, wire.Wrap{Generation: uint64(generation), Epoch: uint64(epoch), KEK: string(version), Box: box})
			return nil
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	found, next = p.Done(kek, limit)
	return found, next, nil
}

// The statements of a rewrap. The first keeps commits of the account away until the
// transaction ends, so that an epoch that is found in force stays so. The others do
// nothing where it is another.
const (
	lockAccount = "SELECT account FROM accounts WHERE account = $1 FOR UPDATE"

	putWrap = `INSERT INTO wraps (account, generation, epoch, kek, box)
		SELECT a.account, a.generation, a.epoch, $4::BYTEA, $5::BYTEA FROM accounts a WHERE a.account = $1 AND a.generation = $2 AND a.epoch = $3
		ON CONFLICT (account, generation, epoch, kek) DO UPDATE SET box = excluded.box`

	dropFormer = `DELETE FROM wraps WHERE account = $1 AND generation = $2 AND epoch = $3 AND kek = ANY($4::BYTEA[]) AND kek <> $5
		AND EXISTS (SELECT 1 FROM accounts a WHERE a.account = $1 AND a.generation = $2 AND a.epoch = $3)`
)

// Rewrap implements [store.Store].
func (s *Store) Rewrap(ctx context.Context, wraps []store.Rewrap) (done int, err error) {
	if err := store.CheckRewraps(wraps); err != nil {
		return 0, err
	}
	err = s.write(ctx, func(ctx context.Context, c *pgx.Conn) error {
		done, err = s.rewrap(ctx, c, wraps)
		return err
	})
	if err != nil {
		return 0, err
	}
	return done, nil
}

// rewrap sends the whole transaction at once. Whoever rewraps locks accounts in ascending
// order, so that two who do it at the same time do not wait for one another.
func (s *Store) rewrap(ctx context.Context, c *pgx.Conn, wraps []store.Rewrap) (done int, err error) {
	var b pgx.Batch
	b.Queue(s.begin)
	put := map[int]bool{} // statements that put a wrap
	for _, r := range slices.SortedFunc(slices.Values(wraps), func(x, y store.Rewrap) int { return bytes.Compare(x.Account[:], y.Account[:]) }) {
		former := make([][]byte, len(r.Former))
		for i, version := range r.Former {
			former[i] = []byte(version)
		}
		account, generation, epoch, kek := r.Account[:], int64(r.Wrap.Generation), int64(r.Wrap.Epoch), []byte(r.Wrap.KEK)
		b.Queue(lockAccount, account)
		put[b.Len()] = true
		b.Queue(putWrap, account, generation, epoch, kek, notNull(r.Wrap.Box))
		b.Queue(dropFormer, account, generation, epoch, former, kek)
	}
	b.Queue("COMMIT")
	results := c.SendBatch(ctx, &b)
	defer results.Close()
	for n := range b.Len() {
		tag, err := results.Exec()
		switch {
		case err != nil:
			return 0, err
		case n == b.Len()-1 && tag.String() != "COMMIT":
			return 0, fmt.Errorf("the database answered COMMIT with %q", tag)
		case put[n]:
			done += int(tag.RowsAffected())
		}
	}
	return done, nil
}

// Wraps implements [store.Store].
func (s *Store) Wraps(ctx context.Context) (counts map[string]uint64, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		counts = map[string]uint64{}
		rows, _ := c.Query(ctx, `SELECT w.kek, count(*) FROM wraps w
			JOIN accounts a ON a.account = w.account AND a.generation = w.generation AND a.epoch = w.epoch GROUP BY w.kek`)
		var kek, staged []byte
		var n int64
		if _, err := pgx.ForEachRow(rows, []any{&kek, &n}, func() error { counts[string(kek)] = uint64(n); return nil }); err != nil {
			return err
		}
		rows, _ = c.Query(ctx, "SELECT body FROM staged")
		_, err := pgx.ForEachRow(rows, []any{&staged}, func() error { return store.CountStaged(counts, staged) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}
