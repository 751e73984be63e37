package sqlite

import (
	"os"

	"golang.org/x/sys/unix"
)

func syncFileSystem(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
