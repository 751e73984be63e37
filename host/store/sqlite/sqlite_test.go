package sqlite_test

import (
	"testing"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
)

func open(t testing.TB, folder string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func inspect(folder string) func() (store.Inspector, error) {
	return func() (store.Inspector, error) { return sqlite.Inspect(folder) }
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Backend {
		folder := t.TempDir()
		s := open(t, folder)
		t.Cleanup(func() { s.Close() })
		return &storetest.Backend{
			Store: s,
			Reopen: func() store.Store {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, folder)
				return s
			},
			Inspect: inspect(folder),
		}
	})
}
