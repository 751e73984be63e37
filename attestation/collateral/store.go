package collateral

import (
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Store keeps what was fetched. It is not trusted: what it gives is verified like an
// answer of a source. Names are file names: lower-case letters, digits, dots, dashes.
// Implementations must be safe for concurrent use.
type Store interface {
	Get(name string) ([]byte, bool)
	Put(name string, data []byte) error
	Remove(name string) error
}

// Memory returns a store that forgets with the process. It holds at most 64 things;
// any goes when it is full.
func Memory() Store { return &memory{held: map[string][]byte{}} }

const maxMemory = 64

type memory struct {
	mu   sync.Mutex
	held map[string][]byte
}

func (m *memory) Get(name string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.held[name]
	return data, ok
}

func (m *memory) Put(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.held {
		if len(m.held) < maxMemory {
			break
		}
		delete(m.held, other)
	}
	m.held[name] = data
	return nil
}

func (m *memory) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, name)
	return nil
}

// Folder returns a store of one file for each thing, mode 0600, in a folder that it
// makes for this user alone where there is none. A file is replaced as a whole, so that
// processes may share the folder.
func Folder(path string) Store { return folder(path) }

type folder string

// Get passes over what is no regular file, or larger than any answer.
func (f folder) Get(name string) ([]byte, bool) {
	path := filepath.Join(string(f), name)
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil, false // before opening, which would wait for a pipe's writer
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 2*maxAnswer+1))
	return data, err == nil && len(data) <= 2*maxAnswer
}

func (f folder) Put(name string, data []byte) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(string(f), "."+name+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // after the rename there is nothing left to remove
	if _, err := file.Write(data); err != nil {
		file.Close()
		return err
	}
	if err := file.Sync(); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(string(f), name))
}

func (f folder) Remove(name string) error { return os.Remove(filepath.Join(string(f), name)) }
