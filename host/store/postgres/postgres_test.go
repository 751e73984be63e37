package postgres_test

import (
	"context"
	"os"
	"testing"

	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func open(t testing.TB, database string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), database)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func inspect(database string) func() (store.Inspector, error) {
	return func() (store.Inspector, error) { return postgres.Inspect(context.Background(), database) }
}

type fixture struct {
	*postgres.Store
	database string
	keys     *ledgertest.Keys
}

// newFixture gives a store in a database of its own, that fsck judges afterwards.
func newFixture(t testing.TB) *fixture {
	f := &fixture{database: postgrestest.Database(t), keys: ledgertest.NewKeys(t)}
	f.Store = open(t, f.database)
	t.Cleanup(func() {
		f.Close()
		storetest.Fsck(t, inspect(f.database), f.keys)
	})
	return f
}

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance(t, func(*postgres.Store) {})
}

// As TestConformance, at the isolation that CockroachDB has always had.
func TestConformanceSerializable(t *testing.T) {
	t.Parallel()
	conformance(t, (*postgres.Store).Serializable)
}

func conformance(t *testing.T, set func(*postgres.Store)) {
	storetest.Run(t, func(t *testing.T) *storetest.Backend {
		database := postgrestest.Database(t)
		s := open(t, database)
		set(s)
		t.Cleanup(func() { s.Close() })
		return &storetest.Backend{
			Store: s,
			Reopen: func() store.Store {
				s.Close()
				s = open(t, database)
				set(s)
				return s
			},
			Inspect: inspect(database),
		}
	})
}
