package postgres

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/wire"
)

// loadQuery is all that a request may need, in one statement and so of one moment, also
// where the isolation is READ COMMITTED: newest entry and head, the wraps of the epoch
// in force, records, the entries that the device has not seen, blobs, the manifest.
const loadQuery = `
SELECT 0, a.generation, a.epoch, NULL::BYTEA, a.entry, a.head FROM accounts a WHERE a.account = $1 AND $2::BOOLEAN
UNION ALL
SELECT 1, w.generation, w.epoch, w.kek, w.box, NULL FROM wraps w
	JOIN accounts a ON a.account = w.account AND a.generation = w.generation AND a.epoch = w.epoch
	WHERE w.account = $1 AND $2::BOOLEAN
UNION ALL
SELECT 2, 0, 0, r.handle, r.body, NULL FROM records r WHERE r.account = $1 AND r.handle = ANY($3::BYTEA[])
UNION ALL
SELECT 3, e.seq, 0, NULL, e.entry, NULL FROM
	(SELECT seq, entry FROM entries WHERE account = $1 AND seq > $4 ORDER BY seq LIMIT $5) AS e
UNION ALL
SELECT 4, 0, 0, b.hash, b.body, NULL FROM blobs b WHERE b.account = $1 AND b.hash = ANY($6::BYTEA[])
UNION ALL
SELECT 5, 0, 0, NULL, a.manifest, NULL FROM accounts a WHERE a.account = $1 AND $7::BOOLEAN`

// What a row of loadQuery is.
const (
	rowAccount = iota
	rowWrap
	rowRecord
	rowEntry
	rowBlob
	rowManifest
)

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, n wire.Need) (out wire.State, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		out = wire.State{}
		return load(ctx, c, &n, &out)
	})
	if err != nil {
		return wire.State{}, err
	}
	return out, nil
}

// read is [Store.do] for what changes nothing, and so may be tried once more when the
// connection is lost: the database may have been restarted since its last use.
func (s *Store) read(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	lost := false
	return s.do(ctx, func(ctx context.Context, c *pgx.Conn) error {
		err := f(ctx, c)
		if err != nil && c.IsClosed() && !lost && ctx.Err() == nil {
			lost = true
			return errAgain
		}
		return err
	})
}

func load(ctx context.Context, c *pgx.Conn, n *wire.Need, out *wire.State) error {
	after := int64(math.MaxInt64)
	if n.After != nil {
		after = sequence(*n.After)
	}
	handles, hashes := make([][]byte, len(n.Records)), make([][]byte, len(n.Blobs))
	for i := range n.Records {
		handles[i] = n.Records[i][:]
	}
	for i := range n.Blobs {
		hashes[i] = n.Blobs[i][:]
	}
	rows, err := c.Query(ctx, loadQuery, n.Account[:], n.State, handles, after, wire.MaxEntries, hashes, n.Manifest)
	if err != nil {
		return err
	}
	var kind, a, b int64
	var key, body, more []byte
	type entry struct {
		seq  int64
		body []byte
	}
	var entries []entry
	found := map[string][]byte{} // records and blobs by their keys, which are of two lengths
	_, err = pgx.ForEachRow(rows, []any{&kind, &a, &b, &key, &body, &more}, func() error {
		switch kind {
		case rowAccount:
			out.Newest, out.Head = orNull(body), orNull(more)
		case rowWrap:
			out.Wraps = append(out.Wraps, wire.Wrap{Generation: uint64(a), Epoch: uint64(b), KEK: string(key), Box: body})
		case rowRecord, rowBlob:
			found[string(key)] = body
		case rowEntry:
			entries = append(entries, entry{a, body})
		case rowManifest:
			out.Manifest = orNull(body)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// No order is promised for the rows of a union.
	slices.SortFunc(out.Wraps, func(x, y wire.Wrap) int { return cmp.Compare(x.KEK, y.KEK) })
	slices.SortFunc(entries, func(x, y entry) int { return cmp.Compare(x.seq, y.seq) })
	for _, e := range entries {
		out.Entries = append(out.Entries, e.body)
	}
	for _, h := range handles {
		if body, ok := found[string(h)]; ok {
			out.Records = append(out.Records, body)
		}
	}
	for _, h := range hashes {
		out.Blobs = append(out.Blobs, found[string(h)])
	}
	return nil
}

// sequence brings a number from outside into the database's range, where nothing
// stands at the end.
func sequence(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// maxFeedBytes is when a page is full, beside its number of records.
const maxFeedBytes = 2 << 20

// feedQuery is a page of the feed, in one statement and so of one moment. before is
// what stands on the page before the records of a commit: they come if there is room
// for the first of them. Nothing comes without the token.
const feedQuery = `
WITH reader AS (
	SELECT a.seq, a.manifest FROM accounts a
	WHERE a.account = $1 AND EXISTS (SELECT 1 FROM feed_tokens t WHERE t.account = $1 AND t.hash = $2)
), commits AS (
	SELECT r.changed_seq, count(*) AS n, sum(length(r.body)) AS size FROM records r, reader
	WHERE r.account = $1 AND r.changed_seq > $3 GROUP BY r.changed_seq
), before AS (
	SELECT changed_seq, sum(n) OVER (ORDER BY changed_seq) - n AS n, sum(size) OVER (ORDER BY changed_seq) - size AS size FROM commits
), page AS (
	SELECT max(changed_seq) AS last FROM before WHERE n < $4 AND size < $5
)
SELECT reader.seq, NULL::BYTEA, reader.manifest, (SELECT last FROM page), (SELECT max(changed_seq) FROM commits) FROM reader
UNION ALL
SELECT r.changed_seq, r.handle, r.body, NULL, NULL FROM records r, reader
	WHERE r.account = $1 AND r.changed_seq > $3 AND r.changed_seq <= (SELECT last FROM page)`

// Feed implements [store.Store].
func (s *Store) Feed(ctx context.Context, account wire.AccountID, token wire.Digest, after uint64, limit int) (page wire.FeedPage, err error) {
	err = s.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		page = wire.FeedPage{}
		return feed(ctx, c, &page, account[:], token[:], sequence(after), limit)
	})
	if err != nil {
		return wire.FeedPage{}, err
	}
	return page, nil
}

func feed(ctx context.Context, c *pgx.Conn, page *wire.FeedPage, account, token []byte, after int64, limit int) error {
	rows, err := c.Query(ctx, feedQuery, account, token, after, limit, maxFeedBytes)
	if err != nil {
		return err
	}
	type record struct {
		changed      int64
		handle, body []byte
	}
	var records []record
	known := false
	var seq int64
	var handle, body []byte
	var last, newest *int64
	_, err = pgx.ForEachRow(rows, []any{&seq, &handle, &body, &last, &newest}, func() error {
		if handle != nil {
			records = append(records, record{seq, handle, body})
			return nil
		}
		known, page.Next, page.Manifest = true, uint64(seq), orNull(body)
		if last != nil && newest != nil && *last < *newest {
			page.Next, page.More = uint64(*last), true
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !known:
		return wire.Errorf(wire.CodeUnknownDevice, "no such feed token")
	}
	slices.SortFunc(records, func(x, y record) int {
		return cmp.Or(cmp.Compare(x.changed, y.changed), slices.Compare(x.handle, y.handle))
	})
	for _, r := range records {
		page.Records = append(page.Records, r.body)
	}
	return nil
}
