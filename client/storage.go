package client

import (
	"context"
	"slices"
	"sync"
)

// Item names one thing that a [Storage] keeps.
type Item string

const (
	// ItemProfile holds keys and secrets: whoever reads it is this device, and
	// whoever replaces it by an older one takes its memory away.
	ItemProfile Item = "profile"
	// ItemRecords holds sealed records. It can be lost: the next sync fetches it again.
	ItemRecords Item = "records"
)

// Storage keeps a device's state. It holds one profile and one process at a time:
// two processes on one profile would use one number twice.
type Storage interface {
	// Load returns what was last saved, or [ErrNoProfile] where nothing was.
	Load(ctx context.Context, item Item) ([]byte, error)
	// Save replaces an item. It is durable when Save returns, and after a crash
	// Load gives either the old value or the new.
	Save(ctx context.Context, item Item, value []byte) error
}

// MemoryStorage is a [Storage] that ends with the process. The zero value is empty.
type MemoryStorage struct {
	mu    sync.Mutex
	items map[Item][]byte
}

// Load implements [Storage].
func (m *MemoryStorage) Load(_ context.Context, item Item) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.items[item]
	if !ok {
		return nil, ErrNoProfile
	}
	return slices.Clone(v), nil
}

// Save implements [Storage].
func (m *MemoryStorage) Save(_ context.Context, item Item, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.items == nil {
		m.items = map[Item][]byte{}
	}
	m.items[item] = slices.Clone(value)
	return nil
}
