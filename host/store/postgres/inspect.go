package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Inspector is a [store.Inspector] on a database. It may look on while hosts write, and
// needs no right but to read.
type Inspector struct{ conn *pgx.Conn }

var _ store.Inspector = (*Inspector)(nil)

// Inspect opens a database for reading alone. Each Inspector is for one goroutine.
// Errors are those of [Open], which a replica or a database with fsync off is none for.
func Inspect(ctx context.Context, database string) (*Inspector, error) {
	pool, err := configuration(database)
	if err != nil {
		return nil, err
	}
	c := pool.ConnConfig
	c.RuntimeParams["application_name"] = "passclave-fsck"
	c.RuntimeParams["default_transaction_read_only"] = "on"
	c.RuntimeParams["statement_timeout"] = "0" // a check of a whole index takes its time
	c.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, refusal(err)
	}
	n, err := version(ctx, conn)
	if err == nil && n == 0 {
		err = wire.Errorf(wire.CodeNotFound, "the database is not a store's")
	}
	if err != nil {
		conn.Close(ctx)
		return nil, refusal(err)
	}
	return &Inspector{conn}, nil
}

// Close implements [store.Inspector].
func (i *Inspector) Close() error { return i.conn.Close(context.Background()) }

// Ledger implements [store.Inspector].
func (i *Inspector) Ledger(ctx context.Context) ([]byte, error) { return i.Note(ctx, noteLedger) }

// Note implements [store.Inspector].
func (i *Inspector) Note(ctx context.Context, name string) ([]byte, error) {
	b, err := note(ctx, i.conn, name)
	return b, refusal(err)
}

// Integrity implements [store.Inspector]. It asks for indexes that are not valid, and for
// pages whose checksum was found wrong. Where the database has the extension amcheck,
// every index is held against its table too; reading every row is the rest of fsck.
func (i *Inspector) Integrity(ctx context.Context) (found []string, err error) {
	var text string
	add := func() error { found = append(found, text); return nil }
	ask := func(statement string) {
		if err != nil {
			return
		}
		rows, _ := i.conn.Query(ctx, statement) // an error of Query is that of its rows, too
		_, err = pgx.ForEachRow(rows, []any{&text}, add)
	}
	ask(`SELECT 'index ' || c.relname || ' is not valid' FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
		JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
		WHERE n.nspname = current_schema() AND NOT (x.indisvalid AND x.indisready) ORDER BY 1`)
	ask(`SELECT checksum_failures::TEXT || ' pages had a wrong checksum, the last at ' || checksum_last_failure::TEXT
		FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0`)
	if err != nil {
		return nil, refusal(err)
	}
	var amcheck bool
	if err := i.conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'amcheck')").Scan(&amcheck); err != nil || !amcheck {
		return found, refusal(err)
	}
	rows, _ := i.conn.Query(ctx, `SELECT c.oid::BIGINT, c.relname::TEXT FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
		JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
		WHERE n.nspname = current_schema() AND t.relkind = 'r' AND x.indisvalid ORDER BY 2`)
	var oid int64
	indexes := map[int64]string{}
	if _, err := pgx.ForEachRow(rows, []any{&oid, &text}, func() error { indexes[oid] = text; return nil }); err != nil {
		return nil, refusal(err)
	}
	for oid, name := range indexes {
		_, err := i.conn.Exec(ctx, "SELECT bt_index_check($1::BIGINT::OID::REGCLASS, true)", oid)
		if code, _ := sqlState(err); code == indexCorrupted || code == dataCorrupted {
			found = append(found, fmt.Sprintf("index %s: %v", name, err))
		} else if err != nil {
			return nil, refusal(err)
		}
	}
	slices.Sort(found)
	return found, nil
}

// accountsQuery merges the tables' keys, of each as many as are asked for, from its own index.
const accountsQuery = `
SELECT account FROM (
	(SELECT account FROM accounts WHERE account > $1 ORDER BY account LIMIT $2)
	UNION (SELECT DISTINCT account FROM entries WHERE account > $1 ORDER BY account LIMIT $2)
	UNION (SELECT DISTINCT account FROM records WHERE account > $1 ORDER BY account LIMIT $2)
	UNION (SELECT DISTINCT account FROM wraps WHERE account > $1 ORDER BY account LIMIT $2)
	UNION (SELECT DISTINCT account FROM blobs WHERE account > $1 ORDER BY account LIMIT $2)
	UNION (SELECT DISTINCT account FROM feed_tokens WHERE account > $1 ORDER BY account LIMIT $2)
) AS every ORDER BY account LIMIT $2`

// Accounts implements [store.Inspector].
func (i *Inspector) Accounts(ctx context.Context, after *wire.AccountID, limit int) (out []wire.AccountID, err error) {
	from := []byte{} // smaller than any key
	if after != nil {
		from = after[:]
	}
	rows, _ := i.conn.Query(ctx, accountsQuery, from, limit)
	var id []byte
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		var a wire.AccountID
		copy(a[:], id)
		out = append(out, a)
		return nil
	})
	return out, refusal(err)
}

const keksQuery = `
SELECT kek, count(DISTINCT account) FROM (
	SELECT account, (array_agg(kek))[1] AS kek FROM wraps GROUP BY account, generation, epoch HAVING count(*) = 1
) AS alone GROUP BY kek`

// KEKs implements [store.Inspector].
func (i *Inspector) KEKs(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	rows, _ := i.conn.Query(ctx, keksQuery)
	var version, staged []byte
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&version, &n}, func() error {
		out[string(version)] = uint64(n)
		return nil
	})
	if err == nil {
		rows, _ = i.conn.Query(ctx, "SELECT body FROM staged")
		_, err = pgx.ForEachRow(rows, []any{&staged}, func() error { return store.CountStaged(out, staged) })
	}
	return out, refusal(err)
}

// Inspect implements [store.Inspector].
func (i *Inspector) Inspect(ctx context.Context, account wire.AccountID, f func(store.View) error) error {
	return refusal(pgx.BeginTxFunc(ctx, i.conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(t pgx.Tx) error {
		return f(view{ctx, t, account[:]})
	}))
}

// view is for the time of one call of Inspect, whose context it keeps.
type view struct {
	ctx     context.Context
	tx      pgx.Tx
	account []byte
}

// each calls f after each row of a query about the account was read into columns.
func (v view) each(columns []any, f func(), query string, args ...any) error {
	rows, _ := v.tx.Query(v.ctx, query, append([]any{v.account}, args...)...)
	_, err := pgx.ForEachRow(rows, columns, func() error { f(); return nil })
	return refusal(err)
}

func (v view) Row() (out *store.Row, err error) {
	var stream, hash []byte
	var seq, generation, epoch int64
	var r store.Row
	err = v.each([]any{&stream, &seq, &hash, &generation, &epoch, &r.Entry, &r.Head, &r.Manifest}, func() {
		copy(r.Stream[:], stream)
		r.Newest, r.Generation, r.Epoch = head(seq, hash), uint64(generation), uint64(epoch)
		out = &r
	}, "SELECT stream, seq, hash, generation, epoch, entry, head, manifest FROM accounts WHERE account = $1")
	return out, err
}

func (v view) Entries(after uint64, limit int) (out []store.Entry, err error) {
	var seq int64
	var hash, body []byte
	err = v.each([]any{&seq, &hash, &body}, func() {
		out = append(out, store.Entry{Head: head(seq, hash), Body: body})
	}, "SELECT seq, hash, entry FROM entries WHERE account = $1 AND seq > $2 ORDER BY seq LIMIT $3", sequence(after), limit)
	return out, err
}

func (v view) Records(after *wire.Handle, limit int) (out []store.Record, err error) {
	from := []byte{}
	if after != nil {
		from = after[:]
	}
	var changed int64
	var handle, body []byte
	err = v.each([]any{&handle, &changed, &body}, func() {
		r := store.Record{Changed: uint64(changed), Body: body}
		copy(r.Handle[:], handle)
		out = append(out, r)
	}, "SELECT handle, changed_seq, body FROM records WHERE account = $1 AND handle > $2 ORDER BY handle LIMIT $3", from, limit)
	return out, err
}

func (v view) Blobs(after *wire.Digest, limit int) (out []store.Blob, err error) {
	from := []byte{}
	if after != nil {
		from = after[:]
	}
	var hash, body []byte
	err = v.each([]any{&hash, &body}, func() {
		b := store.Blob{Body: body}
		copy(b.Hash[:], hash)
		out = append(out, b)
	}, "SELECT hash, body FROM blobs WHERE account = $1 AND hash > $2 ORDER BY hash LIMIT $3", from, limit)
	return out, err
}

func (v view) Wraps() (out []wire.Wrap, err error) {
	var generation, epoch int64
	var kek, box []byte
	err = v.each([]any{&generation, &epoch, &kek, &box}, func() {
		out = append(out, wire.Wrap{Generation: uint64(generation), Epoch: uint64(epoch), KEK: string(kek), Box: box})
	}, "SELECT generation, epoch, kek, box FROM wraps WHERE account = $1 ORDER BY generation, epoch, kek")
	return out, err
}

func (v view) FeedTokens() (n int, err error) {
	err = v.each([]any{&n}, func() {}, "SELECT count(*) FROM feed_tokens WHERE account = $1")
	return n, err
}
