package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/passclave/passclave/wire"
)

// maxFeedBytes is when a page is full, beside its number of records.
const maxFeedBytes = 2 << 20

// Feed implements [store.Store].
func (s *Store) Feed(ctx context.Context, account wire.AccountID, token wire.Digest, after uint64, limit int) (wire.FeedPage, error) {
	var page wire.FeedPage
	err := s.read(ctx, func(c *conn) error {
		return c.within("BEGIN", func() error { return feed(c, &page, account[:], token[:], sequence(after), limit) })
	})
	if err != nil {
		return wire.FeedPage{}, err
	}
	return page, nil
}

// errPageFull ends the reading of a page.
var errPageFull = errors.New("page full")

func feed(c *conn, page *wire.FeedPage, account, token []byte, after int64, limit int) error {
	known, err := c.integer("SELECT count(*) FROM feed_tokens WHERE account = ?1 AND hash = ?2", account, token)
	if err != nil {
		return err
	}
	if known == 0 {
		return wire.Errorf(wire.CodeUnknownDevice, "no such feed token")
	}
	err = c.query(func(row []driver.Value) error {
		page.Next, page.Manifest = uint64(row[0].(int64)), blob(row[1])
		return nil
	}, "SELECT seq, manifest FROM accounts WHERE account = ?1", account)
	if err != nil {
		return err
	}
	var last int64 // sequence of the last record on the page
	size := 0
	err = c.query(func(row []driver.Value) error {
		changed, body := row[0].(int64), blob(row[1])
		if changed != last && (len(page.Records) >= limit || size >= maxFeedBytes) {
			return errPageFull // only between two commits: the next page begins after a sequence
		}
		page.Records = append(page.Records, body)
		last, size = changed, size+len(body)
		return nil
	}, "SELECT changed_seq, body FROM records WHERE account = ?1 AND changed_seq > ?2 ORDER BY changed_seq, handle", account, after)
	if errors.Is(err, errPageFull) {
		page.Next, page.More, err = uint64(last), true, nil
	}
	return err
}
