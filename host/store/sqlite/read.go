package sqlite

import (
	"context"
	"database/sql/driver"
	"math"

	"github.com/passclave/passclave/wire"
)

// stateQuery is all that an ordinary request needs, in one statement and so of one
// moment: newest entry and head, the wraps of the epoch in force, one record, the
// entries that the device has not seen.
const stateQuery = `
SELECT 0, generation, epoch, '', head, entry FROM accounts WHERE account = ?1
UNION ALL
SELECT 1, generation, epoch, kek, box, NULL FROM wraps WHERE account = ?1
UNION ALL
SELECT 2, 0, 0, '', body, NULL FROM records WHERE account = ?1 AND handle = ?2
UNION ALL
SELECT * FROM (SELECT 3, 0, 0, '', entry, NULL FROM entries
	WHERE account = ?1 AND seq > ?3 AND (SELECT seq FROM accounts WHERE account = ?1) > ?3 ORDER BY seq LIMIT ?4)`

// What a row of stateQuery is.
const (
	rowAccount = iota
	rowWrap
	rowRecord
	rowEntry
)

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, n wire.Need) (out wire.State, err error) {
	err = s.read(ctx, func(c *conn) error {
		if n.State && len(n.Records) <= 1 && len(n.Blobs) == 0 && !n.Manifest {
			return loadState(c, &n, &out)
		}
		return c.within("BEGIN", func() error { return load(c, &n, &out) })
	})
	if err != nil {
		return wire.State{}, err
	}
	return out, nil
}

func loadState(c *conn, n *wire.Need, out *wire.State) error {
	after, handle := int64(math.MaxInt64), []byte{}
	if n.After != nil {
		after = sequence(*n.After)
	}
	if len(n.Records) > 0 {
		handle = n.Records[0][:]
	}
	var generation, epoch driver.Value // in force
	return c.query(func(row []driver.Value) error {
		body := blob(row[4])
		switch row[0].(int64) {
		case rowAccount:
			out.Newest, out.Head = blob(row[5]), body
			generation, epoch = row[1], row[2]
		case rowWrap:
			if row[1] == generation && row[2] == epoch {
				out.Wraps = append(out.Wraps, wrap(row[1:5]))
			}
		case rowRecord:
			out.Records = append(out.Records, body)
		case rowEntry:
			out.Entries = append(out.Entries, body)
		}
		return nil
	}, stateQuery, n.Account[:], handle, after, int64(wire.MaxEntries))
}

// wrap reads generation, epoch, KEK version and box.
func wrap(row []driver.Value) wire.Wrap {
	return wire.Wrap{Generation: uint64(row[0].(int64)), Epoch: uint64(row[1].(int64)), KEK: row[2].(string), Box: blob(row[3])}
}

// sequence brings a number from outside into the database's range, where nothing
// stands at the end.
func sequence(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// load reads what is asked for, piece by piece, inside a transaction.
func load(c *conn, n *wire.Need, out *wire.State) error {
	records := n.Records
	switch {
	case n.State:
		if err := loadState(c, n, out); err != nil {
			return err
		}
		if len(records) > 0 {
			records = records[1:]
		}
	case n.After != nil:
		err := c.query(func(row []driver.Value) error {
			out.Entries = append(out.Entries, blob(row[0]))
			return nil
		}, "SELECT entry FROM entries WHERE account = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
			n.Account[:], sequence(*n.After), int64(wire.MaxEntries))
		if err != nil {
			return err
		}
	}
	for _, h := range records {
		b, err := c.bytes("SELECT body FROM records WHERE account = ?1 AND handle = ?2", n.Account[:], h[:])
		if err != nil {
			return err
		}
		if b != nil {
			out.Records = append(out.Records, b)
		}
	}
	for _, d := range n.Blobs {
		b, err := c.bytes("SELECT body FROM blobs WHERE account = ?1 AND hash = ?2", n.Account[:], d[:])
		if err != nil {
			return err
		}
		out.Blobs = append(out.Blobs, b)
	}
	if n.Manifest {
		var err error
		out.Manifest, err = c.bytes("SELECT manifest FROM accounts WHERE account = ?1", n.Account[:])
		return err
	}
	return nil
}
