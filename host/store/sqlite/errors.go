package sqlite

import (
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// refusal gives an error of the database its code. Refusals stay what they are.
func refusal(err error) error {
	var refused *wire.Error
	switch {
	case err == nil || errors.As(err, &refused):
		return err
	case full(err):
		return wire.NewError(wire.CodeStorageFull, err)
	case broken(err):
		return wire.NewError(wire.CodeUnavailable, fmt.Errorf("%w: %w", store.ErrBroken, err))
	}
	return wire.NewError(wire.CodeUnavailable, err)
}

// coded is *sqlite.Error.
type coded interface {
	error
	Code() int
}

// code returns SQLite's extended result code, 0 if err is not SQLite's.
func code(err error) int {
	var e coded
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// full reports whether there was no space. The shared memory of the WAL is a file
// that grows too.
func full(err error) bool {
	c := code(err)
	return c&0xff == sqlite3.SQLITE_FULL || c == sqlite3.SQLITE_IOERR_SHMSIZE
}

// broken reports whether the disk did not confirm what was written: the kernel may
// have dropped those pages, so a later success would prove nothing.
func broken(err error) bool {
	switch c := code(err); c {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return true
	default:
		return c&0xff == sqlite3.SQLITE_CORRUPT || c&0xff == sqlite3.SQLITE_NOTADB
	}
}
