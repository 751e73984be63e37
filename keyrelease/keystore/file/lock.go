package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrInUse is returned by [Lock] and [Restore] for a folder that a broker serves.
var ErrInUse = errors.New("the key folder is in use by a running key broker")

const lockName = "broker.lock"

// Lock takes a folder, made (0700) if it is not there, for as long as one broker serves
// it: [ErrInUse] where another does. Reading keys, [Backup] and the changes of a [Store]
// need no such lock: `rotate` works beside a broker that runs. It ends with the
// process, or by unlock.
func Lock(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, err
	}
	return func() error {
		// Closing alone would leave the lock to a child that was forked, and not yet executed.
		unix.Flock(int(f.Fd()), unix.LOCK_UN)
		return f.Close()
	}, nil
}
