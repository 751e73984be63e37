package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"

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
	read, err := store.Parse(c) // outside the writer's goroutine
	if err != nil {
		return wire.Appended{}, err
	}
	p := parsed{read}
	if err := s.writer.do(ctx, p.Size, p.apply); err != nil {
		return wire.Appended{}, err
	}
	return wire.Appended{Newest: p.Place}, nil
}

// parsed is a commit that is to be applied.
type parsed struct{ *store.Parsed }

// standing is where an account's stream stands in the database.
type standing struct {
	stream []byte
	newest wire.Head
}

func (w *writer) standing(account []byte) (s standing, err error) {
	err = w.conn.query(func(row []driver.Value) error {
		s.stream, s.newest = blob(row[0]), head(row[1], row[2])
		return nil
	}, "SELECT stream, seq, hash FROM accounts WHERE account = ?1", account)
	return s, err
}

// head reads a place from its columns.
func head(sequence, hash driver.Value) wire.Head {
	h := wire.Head{Sequence: uint64(sequence.(int64))}
	copy(h.Hash[:], blob(hash))
	return h
}

// apply decides on the commit and carries it out.
func (p parsed) apply(w *writer) error {
	account := p.Append.Account[:]
	at, err := w.standing(account)
	if err != nil {
		return err
	}
	if p.Place.Sequence <= at.newest.Sequence {
		stands, err := w.conn.bytes("SELECT hash FROM entries WHERE account = ?1 AND seq = ?2", account, int64(p.Place.Sequence))
		if err != nil {
			return err
		}
		if bytes.Equal(stands, p.Place.Hash[:]) {
			return nil // this very entry, and all that came with it
		}
	}
	if at.newest != p.Entry.After() {
		return wire.Errorf(wire.CodeConflict, "entry %d stands, not %d", at.newest.Sequence, p.Entry.After().Sequence)
	}
	if at.newest.Sequence > 0 && !bytes.Equal(at.stream, p.Append.Stream[:]) {
		return wire.Errorf(wire.CodeEntry, "entry of another stream")
	}
	if err := w.ofLedger(p.Entry.Ledger); err != nil {
		return err
	}
	if err := p.putAccount(w.conn, at.newest.Sequence == 0); err != nil {
		return err
	}
	return p.putRest(w.conn)
}

// ofLedger refuses an entry of another ledger than the first entry's.
func (w *writer) ofLedger(id []byte) error {
	stands := w.ledger
	if stands == nil {
		var err error
		if stands, err = note(w.conn, noteLedger); err != nil {
			return err
		}
	}
	switch {
	case stands == nil:
		return w.conn.exec("INSERT INTO meta VALUES (?1, ?2)", noteLedger, id)
	case !bytes.Equal(stands, id):
		return wire.NewError(wire.CodeEntry, errOtherLedger)
	}
	return nil
}

// putAccount writes the entry and the account's own row.
func (p parsed) putAccount(c *conn, first bool) error {
	account, seq, hash := p.Append.Account[:], int64(p.Place.Sequence), p.Place.Hash[:]
	if err := c.exec("INSERT INTO entries VALUES (?1, ?2, ?3, ?4)", account, seq, hash, p.Append.Entry); err != nil {
		return err
	}
	generation, epoch := int64(p.Entry.Generation), int64(p.Entry.Epoch)
	if first {
		return c.exec("INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
			account, p.Append.Stream[:], seq, hash, generation, epoch, p.Append.Entry, p.Head, p.Manifest)
	}
	// One statement: each writes the row anew.
	return c.exec(`UPDATE accounts SET seq = ?2, hash = ?3, generation = ?4, epoch = ?5, entry = ?6,
		head = CASE WHEN length(?7) > 0 THEN ?7 ELSE head END, manifest = CASE WHEN length(?8) > 0 THEN ?8 ELSE manifest END WHERE account = ?1`,
		account, seq, hash, generation, epoch, p.Append.Entry, p.Head, p.Manifest)
}

// putRest writes what goes with the entry; what is dropped goes first, so that a
// commit may replace.
func (p parsed) putRest(c *conn) error {
	account, seq := p.Append.Account[:], int64(p.Place.Sequence)
	var err error // the first: nothing is done after it
	do := func(sql string, args ...driver.Value) {
		if err == nil {
			err = c.exec(sql, append([]driver.Value{account}, args...)...)
		}
	}
	for _, h := range p.Deleted {
		do("DELETE FROM records WHERE account = ?1 AND handle = ?2", h[:])
	}
	for i, h := range p.Handles {
		do(`INSERT INTO records VALUES (?1, ?2, ?3, ?4)
			ON CONFLICT (account, handle) DO UPDATE SET changed_seq = ?3, body = ?4`, h[:], seq, p.Records[i])
	}
	for _, d := range p.DroppedBlobs {
		do("DELETE FROM blobs WHERE account = ?1 AND hash = ?2", d[:])
	}
	for _, b := range p.Blobs {
		d := wire.BlobHash(b)
		do("INSERT INTO blobs VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING", d[:], b)
	}
	for _, w := range p.DroppedWraps {
		do("DELETE FROM wraps WHERE account = ?1 AND generation = ?2 AND epoch = ?3 AND kek = ?4", int64(w.Generation), int64(w.Epoch), w.KEK)
	}
	for _, w := range p.Wraps {
		do("INSERT OR REPLACE INTO wraps VALUES (?1, ?2, ?3, ?4, ?5)", int64(w.Generation), int64(w.Epoch), w.KEK, w.Box)
	}
	if p.SetFeedTokens {
		do("DELETE FROM feed_tokens WHERE account = ?1")
		for _, d := range p.FeedTokens {
			do("INSERT OR IGNORE INTO feed_tokens VALUES (?1, ?2)", d[:])
		}
	}
	return err
}
