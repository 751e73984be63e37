package client

import (
	"context"
	"errors"
	"testing"
)

var errDisk = errors.New("disk full")

type failingStorage struct {
	*MemoryStorage
	fail bool
}

func (s *failingStorage) Save(ctx context.Context, i Item, v []byte) error {
	if s.fail {
		return errDisk
	}
	return s.MemoryStorage.Save(ctx, i, v)
}

func TestNewAndOpen(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	if _, err := Open(t.Context(), f.options(&MemoryStorage{}, "alice")); !errors.Is(err, ErrNoProfile) {
		t.Errorf("opening nothing: %v", err)
	}
	d := f.device()
	if _, err := New(t.Context(), "http://service.test", nil, d.options); !errors.Is(err, ErrProfileExists) {
		t.Errorf("a second profile in one storage: %v", err)
	}
}
