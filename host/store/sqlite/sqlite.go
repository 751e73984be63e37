// Package sqlite keeps the host's store in one SQLite file, in Go alone.
//
// The file is the source of truth. One goroutine writes: it puts the commits that
// wait into one transaction and answers them when the disk has confirmed it (WAL,
// synchronous=FULL). Readers are a pool of connections that
// never wait for it. A lock on the folder keeps a second process out; the kernel
// drops it with the process, however that ends.
//
// Whoever can write the file can damage or roll back the service's data, which the
// enclave and the devices notice, and read nothing that host and disk may not see.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Files in the store's folder; SQLite puts its -wal and -shm beside the first.
const (
	databaseFile = "passclave.db"
	lockFile     = "passclave.lock"
)

// Store is a [store.Store] on SQLite.
type Store struct {
	folder  string
	lock    *os.File
	readers chan *conn // idle ones
	opened  int        // readers in all
	closed  chan struct{}
	writer  *writer
}

var _ store.Store = (*Store)(nil)

// writing holds for the connection that writes: an answer means that the disk has it.
// Checkpoints come seldom, after 16 MB of WAL: each writes a page once, however often it
// changed since the last.
var writing = []string{
	"journal_mode = WAL", "synchronous = FULL", "busy_timeout = 10000",
	"cache_size = -16000", "journal_size_limit = 67108864", "wal_autocheckpoint = 4096", "foreign_keys = OFF", "trusted_schema = OFF",
}

// reading holds for the others. Pages come from the kernel's cache without a call or
// a copy; a disk that cannot be read then ends the process, which loses nothing.
var reading = []string{
	"query_only = ON", "busy_timeout = 10000", "cache_size = -8000", "mmap_size = 17179869184", "trusted_schema = OFF",
}

// Open opens the store in a folder and makes both where they are not there.
// [store.ErrInUse]: another process has it; [*store.VersionError]: a newer release wrote it.
func Open(folder string) (*Store, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	number := max(4, 2*runtime.GOMAXPROCS(0))
	s := &Store{folder: folder, readers: make(chan *conn, number), closed: make(chan struct{})}
	if err := s.open(number); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(readers int) error {
	var err error
	if s.lock, err = takeLock(filepath.Join(s.folder, lockFile)); err != nil {
		return err
	}
	path := filepath.Join(s.folder, databaseFile)
	if err := create(path); err != nil {
		return err
	}
	c, err := open(path, "", writing...)
	if err != nil {
		return err
	}
	if err := migrate(c); err != nil {
		c.close()
		return err
	}
	s.writer = newWriter(c)
	for range readers {
		r, err := open(path, "", reading...)
		if err != nil {
			return err
		}
		s.opened++
		s.readers <- r
	}
	return nil
}

// takeLock locks a file for as long as it stays open.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", path, store.ErrInUse)
		}
		return nil, err
	}
	return f, nil
}

// create makes the database file for this user alone, durably. SQLite gives the
// files beside it the same mode.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Close finishes what was handed to the writer, waits for readers under way and
// unlocks the folder. It is called once; other calls end with [store.ErrClosed].
func (s *Store) Close() error {
	var errs []error
	close(s.closed)
	if s.writer != nil {
		s.writer.stop()
	}
	for range s.opened {
		errs = append(errs, (<-s.readers).close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.conn.close()) // the last: it empties the WAL
	}
	if s.lock != nil {
		// Closing alone would leave the lock to a child that was forked, and not yet executed.
		unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// read runs f with a reader.
func (s *Store) read(ctx context.Context, f func(*conn) error) error {
	var c *conn
	select {
	case <-s.closed:
		return errClosed
	default:
	}
	select {
	case c = <-s.readers:
	case <-s.closed:
		return errClosed
	case <-ctx.Done():
		return wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
	defer func() { s.readers <- c }()
	return refusal(f(c))
}

var errClosed = wire.NewError(wire.CodeUnavailable, store.ErrClosed)
