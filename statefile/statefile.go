// Package statefile keeps the few small files of host, key broker and development servers, and
// the Ed25519 keys of operators. A file
// is replaced as a whole or not at all, also across a crash. It owns no locking: a
// state folder belongs to one process.
package statefile

import (
	"os"
	"path/filepath"
)

// Write replaces the file path by data with mode 0600: a temporary file beside it,
// synced, renamed over it, and the folder synced.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing left to remove
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
