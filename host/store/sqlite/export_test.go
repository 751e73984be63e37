package sqlite

import (
	"context"
	"fmt"

	"modernc.org/sqlite"

	"github.com/passclave/passclave/wire"
)

// SetMaxPages makes the database full at n pages; 0 gives the space back.
func (s *Store) SetMaxPages(n int64) error {
	return s.writer.do(context.Background(), 0, func(w *writer) error {
		if n == 0 {
			n = 1 << 30
		}
		return w.conn.script(fmt.Sprintf("PRAGMA max_page_count = %d", n))
	})
}

// Pages returns how many pages the database has.
func (s *Store) Pages() (n int64, err error) {
	err = s.read(context.Background(), func(c *conn) error {
		n, err = c.integer("PRAGMA page_count")
		return err
	})
	return n, err
}

// Hold keeps the writer busy until release is called: what comes meanwhile makes one batch.
func (s *Store) Hold() (release func()) {
	held, end := make(chan struct{}), make(chan struct{})
	go s.writer.do(context.Background(), 0, func(*writer) error {
		close(held)
		<-end
		return nil
	})
	<-held
	return func() { close(end) }
}

// Waiting returns how many jobs wait for the writer.
func (s *Store) Waiting() int { return len(s.writer.jobs) }

// Fail has the writer meet an error of SQLite with a result code.
func (s *Store) Fail(code int) error {
	return s.writer.do(context.Background(), 0, func(*writer) error { return fault(code) })
}

// RefuseLate hands the writer a job that writes a note and then refuses.
func (s *Store) RefuseLate(ctx context.Context, note string) error {
	return s.writer.do(ctx, 0, func(w *writer) error {
		if err := w.conn.exec("INSERT INTO meta VALUES (?1, ?2)", note, []byte{1}); err != nil {
			return err
		}
		return wire.Errorf(wire.CodeConflict, "refused after writing")
	})
}

type fault int

func (f fault) Error() string { return "a fault that the test made" }
func (f fault) Code() int     { return int(f) }

var _ coded = (*sqlite.Error)(nil)
