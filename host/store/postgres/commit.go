package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// errOtherLedger is the cause of refusing an entry of another ledger.
var errOtherLedger = errors.New("the store holds another ledger")

// Append implements [store.Store].
func (s *Store) Append(ctx context.Context, a wire.Append) (wire.Appended, error) {
	return s.Commit(ctx, &wire.Commit{Append: a})
}

// Commit implements [store.Store].
func (s *Store) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	p, err := store.Parse(c)
	if err != nil {
		return wire.Appended{}, err
	}
	if id := s.ledger.Load(); id != nil && !bytes.Equal(*id, p.Entry.Ledger) {
		return wire.Appended{}, wire.NewError(wire.CodeEntry, errOtherLedger)
	}
	if err := s.write(ctx, func(ctx context.Context, c *pgx.Conn) error { return s.commit(ctx, c, p) }); err != nil {
		return wire.Appended{}, err
	}
	if s.ledger.Load() == nil {
		s.ledger.Store(&p.Entry.Ledger)
	}
	return wire.Appended{Newest: p.Place}, nil
}

// write is [Store.do] for what changes something; [Store.Writable] hears of its end.
func (s *Store) write(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	err := s.do(ctx, f)
	if err == nil {
		s.failed.Store(nil)
	} else if blamed(err) {
		s.failed.Store(&err)
	}
	return err
}

// commit sends the whole transaction at once, so that it takes one round trip. The
// first statement that fails takes the rest with it.
func (s *Store) commit(ctx context.Context, c *pgx.Conn, p *store.Parsed) error {
	var b pgx.Batch
	b.Queue(s.begin)
	if s.ledger.Load() == nil {
		b.Queue(fixLedger, noteLedger, p.Entry.Ledger)
	}
	putEntry(&b, p)
	putRest(&b, p)
	b.Queue("COMMIT")
	results := c.SendBatch(ctx, &b)
	defer results.Close()
	for n := range b.Len() {
		tag, err := results.Exec()
		if n == b.Len()-1 && err == nil && tag.String() != "COMMIT" {
			err = fmt.Errorf("the database answered COMMIT with %q", tag)
		}
		switch code, rolledBack := sqlState(err); {
		case err == nil:
		case rolledBack && (code == notNullViolation || code == uniqueViolation):
			results.Close()
			return lost(ctx, c, p, err)
		default:
			return err
		}
	}
	return nil
}

// A statement that must not go on sets a column that takes no NULL to NULL.
const (
	// fixLedger has the first entry fix the ledger; it fails if another stands.
	fixLedger = `INSERT INTO meta (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = CASE WHEN meta.value = excluded.value THEN meta.value END`

	firstEntry = "INSERT INTO entries (account, seq, hash, entry) VALUES ($1, 1, $2, $3)"

	// nextEntry fails unless the place expected is the newest of this very stream, and
	// if another entry took the place after it meanwhile.
	nextEntry = `INSERT INTO entries (account, seq, hash, entry) VALUES ($1,
		(SELECT $5::BIGINT FROM accounts a WHERE a.account = $1 AND a.seq = $2 AND a.hash = $3 AND a.stream = $4), $6, $7)`

	newAccount = `INSERT INTO accounts (account, stream, seq, hash, generation, epoch, entry, head, manifest)
		VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8)`

	changedAccount = `UPDATE accounts SET seq = $2, hash = $3, generation = $4, epoch = $5, entry = $6,
		head = coalesce($7, head), manifest = coalesce($8, manifest) WHERE account = $1`
)

// putEntry writes the entry, which decides, and the account's own row.
func putEntry(b *pgx.Batch, p *store.Parsed) {
	a, hash := &p.Append, p.Place.Hash[:]
	generation, epoch := int64(p.Entry.Generation), int64(p.Entry.Epoch)
	if p.Place.Sequence == 1 {
		b.Queue(firstEntry, a.Account[:], hash, a.Entry)
		b.Queue(newAccount, a.Account[:], a.Stream[:], hash, generation, epoch, a.Entry, notNull(p.Head), notNull(p.Manifest))
		return
	}
	after := p.Entry.After()
	b.Queue(nextEntry, a.Account[:], int64(after.Sequence), after.Hash[:], a.Stream[:], int64(p.Place.Sequence), hash, a.Entry)
	b.Queue(changedAccount, a.Account[:], int64(p.Place.Sequence), hash, generation, epoch, a.Entry, orNull(p.Head), orNull(p.Manifest))
}

// notNull is no NULL for what is empty.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// orNull is NULL, which leaves what stands, for what a commit does not bring.
func orNull(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// putRest writes what goes with the entry; what is dropped goes first, so that a
// commit may replace.
func putRest(b *pgx.Batch, p *store.Parsed) {
	account, seq := p.Append.Account[:], int64(p.Place.Sequence)
	do := func(sql string, args ...any) { b.Queue(sql, append([]any{account}, args...)...) }
	for _, h := range p.Deleted {
		do("DELETE FROM records WHERE account = $1 AND handle = $2", h[:])
	}
	for i, h := range p.Handles {
		do(`INSERT INTO records (account, handle, changed_seq, body) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account, handle) DO UPDATE SET changed_seq = excluded.changed_seq, body = excluded.body`, h[:], seq, p.Records[i])
	}
	for _, d := range p.DroppedBlobs {
		do("DELETE FROM blobs WHERE account = $1 AND hash = $2", d[:])
	}
	for _, body := range p.Blobs {
		d := wire.BlobHash(body)
		do("INSERT INTO blobs (account, hash, body) VALUES ($1, $2, $3) ON CONFLICT (account, hash) DO NOTHING", d[:], notNull(body))
	}
	for _, w := range p.DroppedWraps {
		do("DELETE FROM wraps WHERE account = $1 AND generation = $2 AND epoch = $3 AND kek = $4", int64(w.Generation), int64(w.Epoch), []byte(w.KEK))
	}
	for _, w := range p.Wraps {
		do(`INSERT INTO wraps (account, generation, epoch, kek, box) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (account, generation, epoch, kek) DO UPDATE SET box = excluded.box`, int64(w.Generation), int64(w.Epoch), []byte(w.KEK), notNull(w.Box))
	}
	if p.SetFeedTokens {
		do("DELETE FROM feed_tokens WHERE account = $1")
		for _, d := range p.FeedTokens {
			do("INSERT INTO feed_tokens (account, hash) VALUES ($1, $2) ON CONFLICT (account, hash) DO NOTHING", d[:])
		}
	}
}

// standingQuery is where an account stands, and what stands in one place of it.
const standingQuery = `
SELECT a.stream, a.seq, a.hash, (SELECT e.hash FROM entries e WHERE e.account = $1 AND e.seq = $2), (SELECT m.value FROM meta m WHERE m.name = $3)
FROM (SELECT 1) AS one LEFT JOIN accounts a ON a.account = $1`

// lost says what becomes of a commit that was rolled back because of what stands: the
// very entry, with all that came with it, or something else.
func lost(ctx context.Context, c *pgx.Conn, p *store.Parsed, why error) error {
	if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
		return err
	}
	var stream, hash, there, ledger []byte
	var seq *int64
	err := c.QueryRow(ctx, standingQuery, p.Append.Account[:], int64(p.Place.Sequence), noteLedger).Scan(&stream, &seq, &hash, &there, &ledger)
	if err != nil {
		return err
	}
	var newest wire.Head
	if seq != nil {
		newest = head(*seq, hash)
	}
	switch {
	case bytes.Equal(there, p.Place.Hash[:]):
		return nil
	case newest != p.Entry.After():
		return wire.Errorf(wire.CodeConflict, "entry %d stands, not %d", newest.Sequence, p.Entry.After().Sequence)
	case stream != nil && !bytes.Equal(stream, p.Append.Stream[:]):
		return wire.Errorf(wire.CodeEntry, "entry of another stream")
	case ledger != nil && !bytes.Equal(ledger, p.Entry.Ledger):
		return wire.NewError(wire.CodeEntry, errOtherLedger)
	}
	return fmt.Errorf("%w: %w", errAgain, why)
}

// head reads a place from its columns.
func head(sequence int64, hash []byte) wire.Head {
	h := wire.Head{Sequence: uint64(sequence)}
	copy(h.Hash[:], hash)
	return h
}
