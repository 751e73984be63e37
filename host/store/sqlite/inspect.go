package sqlite

import (
	"context"
	"database/sql/driver"
	"os"
	"path/filepath"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Inspector is a [store.Inspector] on a database file. It takes no lock: it may
// look on while a host writes.
type Inspector struct{ conn *conn }

var _ store.Inspector = (*Inspector)(nil)

// Inspect opens a store's folder for reading alone. Each Inspector is for one goroutine.
func Inspect(folder string) (*Inspector, error) {
	path := filepath.Join(folder, databaseFile)
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	c, err := open(path, "mode=ro", "query_only = ON", "busy_timeout = 10000", "trusted_schema = OFF")
	if err != nil {
		return nil, refusal(err)
	}
	version, err := c.integer("PRAGMA user_version")
	if err == nil && version > schemaVersion {
		err = &store.VersionError{Found: int(version), Known: schemaVersion}
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return &Inspector{c}, nil
}

// Close implements [store.Inspector].
func (i *Inspector) Close() error { return i.conn.close() }

// Ledger implements [store.Inspector].
func (i *Inspector) Ledger(ctx context.Context) ([]byte, error) { return i.Note(ctx, noteLedger) }

// Note implements [store.Inspector].
func (i *Inspector) Note(_ context.Context, name string) ([]byte, error) {
	b, err := note(i.conn, name)
	return b, refusal(err)
}

// Integrity implements [store.Inspector].
func (i *Inspector) Integrity(context.Context) (found []string, err error) {
	err = i.conn.query(func(row []driver.Value) error {
		if s, _ := row[0].(string); s != "ok" {
			found = append(found, s)
		}
		return nil
	}, "PRAGMA quick_check(100)")
	return found, refusal(err)
}

// accountsQuery merges the tables' keys, each from its own index.
const accountsQuery = `
SELECT account FROM accounts WHERE account > ?1
UNION SELECT account FROM entries WHERE account > ?1
UNION SELECT account FROM records WHERE account > ?1
UNION SELECT account FROM wraps WHERE account > ?1
UNION SELECT account FROM blobs WHERE account > ?1
UNION SELECT account FROM feed_tokens WHERE account > ?1
ORDER BY account LIMIT ?2`

// Accounts implements [store.Inspector].
func (i *Inspector) Accounts(_ context.Context, after *wire.AccountID, limit int) (out []wire.AccountID, err error) {
	var from []byte // smaller than any key
	if after != nil {
		from = after[:]
	}
	err = i.conn.query(func(row []driver.Value) error {
		var a wire.AccountID
		copy(a[:], blob(row[0]))
		out = append(out, a)
		return nil
	}, accountsQuery, from, int64(limit))
	return out, refusal(err)
}

// keksQuery goes through the table once, in the order of its key.
const keksQuery = `
SELECT kek, count(DISTINCT account) FROM (
	SELECT account, max(kek) AS kek FROM wraps GROUP BY account, generation, epoch HAVING count(*) = 1
) GROUP BY kek`

// KEKs implements [store.Inspector].
func (i *Inspector) KEKs(context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := i.conn.query(func(row []driver.Value) error {
		version, _ := row[0].(string)
		out[version] = uint64(row[1].(int64))
		return nil
	}, keksQuery)
	if err == nil {
		err = i.conn.query(func(row []driver.Value) error { return store.CountStaged(out, blob(row[0])) }, "SELECT body FROM staged")
	}
	return out, refusal(err)
}

// Inspect implements [store.Inspector].
func (i *Inspector) Inspect(_ context.Context, account wire.AccountID, f func(store.View) error) error {
	return i.conn.within("BEGIN", func() error { return f(view{i.conn, account[:]}) })
}

type view struct {
	conn    *conn
	account []byte
}

func (v view) Row() (out *store.Row, err error) {
	err = v.conn.query(func(row []driver.Value) error {
		out = &store.Row{
			Newest: head(row[1], row[2]), Generation: uint64(row[3].(int64)), Epoch: uint64(row[4].(int64)),
			Entry: blob(row[5]), Head: blob(row[6]), Manifest: blob(row[7]),
		}
		copy(out.Stream[:], blob(row[0]))
		return nil
	}, "SELECT stream, seq, hash, generation, epoch, entry, head, manifest FROM accounts WHERE account = ?1", v.account)
	return out, refusal(err)
}

func (v view) Entries(after uint64, limit int) (out []store.Entry, err error) {
	err = v.conn.query(func(row []driver.Value) error {
		out = append(out, store.Entry{Head: head(row[0], row[1]), Body: blob(row[2])})
		return nil
	}, "SELECT seq, hash, entry FROM entries WHERE account = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3", v.account, sequence(after), int64(limit))
	return out, refusal(err)
}

func (v view) Records(after *wire.Handle, limit int) (out []store.Record, err error) {
	var from []byte
	if after != nil {
		from = after[:]
	}
	err = v.conn.query(func(row []driver.Value) error {
		r := store.Record{Changed: uint64(row[1].(int64)), Body: blob(row[2])}
		copy(r.Handle[:], blob(row[0]))
		out = append(out, r)
		return nil
	}, "SELECT handle, changed_seq, body FROM records WHERE account = ?1 AND handle > ?2 ORDER BY handle LIMIT ?3", v.account, from, int64(limit))
	return out, refusal(err)
}

func (v view) Blobs(after *wire.Digest, limit int) (out []store.Blob, err error) {
	var from []byte
	if after != nil {
		from = after[:]
	}
	err = v.conn.query(func(row []driver.Value) error {
		b := store.Blob{Body: blob(row[1])}
		copy(b.Hash[:], blob(row[0]))
		out = append(out, b)
		return nil
	}, "SELECT hash, body FROM blobs WHERE account = ?1 AND hash > ?2 ORDER BY hash LIMIT ?3", v.account, from, int64(limit))
	return out, refusal(err)
}

func (v view) Wraps() (out []wire.Wrap, err error) {
	err = v.conn.query(func(row []driver.Value) error {
		out = append(out, wrap(row))
		return nil
	}, "SELECT generation, epoch, kek, box FROM wraps WHERE account = ?1 ORDER BY generation, epoch, kek", v.account)
	return out, refusal(err)
}

func (v view) FeedTokens() (int, error) {
	n, err := v.conn.integer("SELECT count(*) FROM feed_tokens WHERE account = ?1", v.account)
	return int(n), refusal(err)
}
