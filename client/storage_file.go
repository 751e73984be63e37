//go:build unix

package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FileStorage is a [Storage] in a folder of its own: one file an item, 0600 in a
// folder of 0700, replaced by rename after the new file was synced to disk. The
// profile's file holds private keys in the clear: the file system's permissions and
// the disk's encryption are all that guards it.
type FileStorage struct {
	dir  string
	lock *os.File
}

const scrap = ".new-"

// OpenFileStorage makes the folder if need be and locks it. [ErrProfileInUse]:
// another process has it.
func OpenFileStorage(dir string) (*FileStorage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrProfileInUse)
		}
		return nil, err
	}
	scraps, _ := filepath.Glob(filepath.Join(dir, "*"+scrap+"*")) // of a Save that was killed: they hold keys
	for _, s := range scraps {
		if err := os.Remove(s); err != nil {
			lock.Close()
			return nil, err
		}
	}
	return &FileStorage{dir: dir, lock: lock}, nil
}

// Close gives the folder free.
func (f *FileStorage) Close() error {
	// Closing alone would leave the lock to a child that was forked, and not yet executed.
	unix.Flock(int(f.lock.Fd()), unix.LOCK_UN)
	return f.lock.Close()
}

// Load implements [Storage].
func (f *FileStorage) Load(_ context.Context, item Item) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(f.dir, string(item)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoProfile
	}
	return b, err
}

// Save implements [Storage].
func (f *FileStorage) Save(_ context.Context, item Item, value []byte) error {
	name := filepath.Join(f.dir, string(item))
	t, err := os.CreateTemp(f.dir, string(item)+scrap+"*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name()) // fails once renamed
	_, err = t.Write(value)
	if err == nil {
		err = t.Sync()
	}
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(t.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
