package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// A batch holds at most so many jobs; with none waiting it holds one.
const (
	maxBatch      = 512
	maxBatchBytes = 32 << 20
	queued        = 1024
)

// writer is the one goroutine that writes.
type writer struct {
	conn *conn
	jobs chan *job

	stopping chan struct{}
	finished sync.WaitGroup

	// ledger is the ledger ID, once it stands durably; the goroutine's own.
	ledger []byte
	// last holds why the last transaction failed, nil if it did not. A broken disk
	// stays broken.
	last atomic.Pointer[error]
}

// job is one change. run is called inside a transaction with others', perhaps again after
// it was rolled back: it keeps nothing that a rollback would undo, and refuses, with a
// *wire.Error, before it writes.
type job struct {
	ctx  context.Context
	size int
	run  func(*writer) error
	done chan error // buffered
}

func newWriter(c *conn) *writer {
	w := &writer{conn: c, jobs: make(chan *job, queued), stopping: make(chan struct{})}
	w.finished.Go(w.loop)
	return w
}

// stop ends the goroutine after the jobs that it already took up.
func (w *writer) stop() {
	close(w.stopping)
	w.finished.Wait()
}

// do has run become durable and returns then. If ctx ends first, it may become so later.
func (w *writer) do(ctx context.Context, size int, run func(*writer) error) error {
	j := &job{ctx: ctx, size: size, run: run, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-w.stopping:
		return errClosed
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
	select {
	case err := <-j.done:
		return err
	case <-w.stopping:
		w.finished.Wait()
		select {
		case err := <-j.done:
			return err
		default:
			return errClosed
		}
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}

func (w *writer) loop() {
	var batch []*job
	for {
		batch = batch[:0]
		select {
		case j := <-w.jobs:
			batch = append(batch, j)
		case <-w.stopping:
			return
		}
		for size := batch[0].size; len(batch) < maxBatch && size < maxBatchBytes; {
			select {
			case j := <-w.jobs:
				batch, size = append(batch, j), size+j.size
				continue
			default:
			}
			break
		}
		w.batch(batch)
	}
}

// batch puts jobs into one transaction and answers each when it is durable.
func (w *writer) batch(jobs []*job) {
	if err := w.failed(); errors.Is(err, store.ErrBroken) {
		for _, j := range jobs {
			j.done <- err
		}
		return
	}
	outcomes := make([]error, len(jobs))
	err := w.conn.within("BEGIN IMMEDIATE", func() error {
		for i, j := range jobs {
			if outcomes[i] = j.ctx.Err(); outcomes[i] != nil {
				continue // nobody waits any more, and nothing was done
			}
			var err error
			if outcomes[i], err = w.one(j); err != nil {
				return err
			}
		}
		return nil
	})
	err = refusal(err)
	if err != nil && len(jobs) > 1 && !errors.Is(err, store.ErrBroken) {
		// One job too many for the disk must not fail those that would fit.
		for i := range jobs {
			w.batch(jobs[i : i+1])
		}
		return
	}
	w.last.Store(&err)
	if err == nil && w.ledger == nil {
		w.ledger, _ = note(w.conn, noteLedger) // or at the next batch
	}
	for i, j := range jobs {
		if err != nil {
			outcomes[i] = err
		}
		j.done <- outcomes[i]
	}
}

// one runs a job. outcome is the refusal of the job alone; err ends the transaction. A
// refusal by a job that had written already ends it too: a savepoint for every job would
// let the others go on, and costs each of them a copy of the pages that it changes.
func (w *writer) one(j *job) (outcome, err error) {
	before := w.conn.writes
	err = j.run(w)
	var refused *wire.Error
	if errors.As(err, &refused) && w.conn.writes == before {
		return refused, nil
	}
	return nil, err
}

// failed returns why the last transaction failed.
func (w *writer) failed() error {
	if p := w.last.Load(); p != nil {
		return *p
	}
	return nil
}

// SetNote implements [store.Store].
func (s *Store) SetNote(ctx context.Context, name string, value []byte) error {
	if name == noteLedger {
		return wire.Errorf(wire.CodeArgument, "the ledger ID comes from the entries alone")
	}
	return s.writer.do(ctx, len(value), func(w *writer) error {
		return w.conn.exec("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2", name, value)
	})
}

// Note implements [store.Store].
func (s *Store) Note(ctx context.Context, name string) (value []byte, err error) {
	err = s.read(ctx, func(c *conn) error { value, err = note(c, name); return err })
	return value, err
}

func note(c *conn, name string) ([]byte, error) {
	return c.bytes("SELECT value FROM meta WHERE name = ?1", name)
}

// Ledger implements [store.Store].
func (s *Store) Ledger(ctx context.Context) ([]byte, error) { return s.Note(ctx, noteLedger) }

// Writable implements [store.Store]. After a failed write it tries another one.
func (s *Store) Writable(ctx context.Context) error {
	err := s.writer.failed()
	if err == nil || errors.Is(err, store.ErrBroken) {
		return err
	}
	if err := s.SetNote(ctx, "writable", []byte{1}); err != nil {
		return fmt.Errorf("the store does not take writes: %w", err)
	}
	return nil
}
