package postgres_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// No error shows the password, whatever is wrong with the URL or behind it.
func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := l.Addr().String()
	l.Close()
	const password = "hunter2hunter2"
	for _, u := range []string{
		"postgres://user:" + password + "@" + refusing + "/x",
		"postgres://user@" + refusing + "/x?password=" + password,
		"postgres://user:" + password + "@127.0.0.1:port/x",
		"postgres://user:" + password + "@%zz/x",
		"postgres://user:" + password + "@[::1/x",
		"postgres://user:%" + password + "@127.0.0.1/x",
		"postgres://user:" + password + "@127.0.0.1/x?sslmode=perhaps",
		"postgres://user:" + password + "@127.0.0.1/x?pool_max_conns=many",
		"postgres://user:" + password + "@127.0.0.1/x?sslrootcert=/nowhere/" + password,
		"postgres:/user:" + password + "@127.0.0.1/x",
	} {
		_, err := postgres.Open(t.Context(), u)
		_, inspectErr := postgres.Inspect(t.Context(), u)
		for _, err := range []error{err, inspectErr} {
			if err == nil || strings.Contains(err.Error(), password) {
				t.Errorf("%s: %v", u, err)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), password) {
					t.Errorf("%s: %v", u, err)
				}
			}
		}
	}
}

func TestIsURL(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"postgres://h/x": true, "postgresql://h/x": true, "./state": false, "/postgres://": false, "postgres": false, "": false} {
		if postgres.IsURL(name) != want {
			t.Errorf("IsURL(%q) is not %v", name, want)
		}
	}
}

// Hosts that start together on an empty database all find their schema.
func TestHostsStartTogether(t *testing.T) {
	t.Parallel()
	database := postgrestest.Database(t)
	keys := ledgertest.NewKeys(t)
	errs := make([]error, 6)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			s, err := postgres.Open(context.Background(), database)
			if err == nil {
				defer s.Close()
				_, err = s.Commit(context.Background(), storetest.NewAccount(keys, string(rune('a'+i))).Change(1))
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if sum := storetest.Fsck(t, inspect(database), keys); sum.Accounts != uint64(len(errs)) {
		t.Fatalf("%+v", sum)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	database := postgrestest.Database(t)
	open(t, database).Close()
	postgrestest.Exec(t, database, "INSERT INTO passclave_schema VALUES (3)")
	var newer *store.VersionError
	if _, err := postgres.Open(t.Context(), database); !errors.As(err, &newer) || *newer != (store.VersionError{Found: 3, Known: 2}) {
		t.Errorf("Open: %v", err)
	}
	if _, err := postgres.Inspect(t.Context(), database); !errors.As(err, &newer) {
		t.Errorf("Inspect: %v", err)
	}
}

// A database that would lose in a crash what it acknowledged is refused.
func TestNotDurable(t *testing.T) {
	t.Parallel()
	database := postgrestest.Database(t)
	var refused *postgres.NotDurableError
	if _, err := postgres.Open(t.Context(), database+"&synchronous_commit=off"); !errors.As(err, &refused) || refused.Setting != "synchronous_commit" {
		t.Errorf("synchronous_commit off: %v", err)
	}
	folder, err := postgrestest.Folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, folder) })
	s := postgrestest.Start(t, folder, map[string]string{"fsync": "off"})
	if _, err := postgres.Open(t.Context(), s.URL("")); !errors.As(err, &refused) || refused.Setting != "fsync" {
		t.Errorf("fsync off: %v", err)
	}
}

// An inspector needs a store, makes none, and cannot write.
func TestInspect(t *testing.T) {
	t.Parallel()
	database := postgrestest.Database(t)
	if _, err := postgres.Inspect(t.Context(), database); wire.CodeOf(err) != wire.CodeNotFound {
		t.Fatalf("an empty database: %v, want %s", err, wire.CodeNotFound)
	}
	open(t, database).Close() // the schema is not there yet, or this would fail
	i, err := postgres.Inspect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if id, err := i.Ledger(t.Context()); id != nil || err != nil {
		t.Fatalf("%x, %v", id, err)
	}
}
