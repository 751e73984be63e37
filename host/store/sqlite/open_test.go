package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

func TestSecondOpenIsRefused(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first := open(t, folder)
	if _, err := sqlite.Open(folder); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("%v, want %v", err, store.ErrInUse)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, folder).Close()
}

// A database of the version before is brought up to date.
func TestOlderSchema(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := open(t, folder)
	keys := ledgertest.NewKeys(t)
	a := storetest.NewAccount(keys, "a")
	if _, err := s.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	change(t, folder, "DROP TABLE staged; PRAGMA user_version = 1")
	s = open(t, folder)
	defer s.Close()
	c := a.Change(1)
	if err := s.Stage(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), a.ID, ledger.EntryHash(c.Append.Entry)); err != nil {
		t.Fatal(err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	open(t, folder).Close()
	change(t, folder, "PRAGMA user_version = 3")
	var newer *store.VersionError
	if _, err := sqlite.Open(folder); !errors.As(err, &newer) || *newer != (store.VersionError{Found: 3, Known: 2}) {
		t.Errorf("Open: %v", err)
	}
	if _, err := sqlite.Inspect(folder); !errors.As(err, &newer) {
		t.Errorf("Inspect: %v", err)
	}
}

// change alters the database behind the store's back.
func change(t testing.TB, folder, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(folder, "passclave.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreForThisUserAlone(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "made")
	s := open(t, folder)
	defer s.Close()
	if err := s.SetNote(t.Context(), "x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(folder)
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
}

// An inspector looks on while the host writes, and cannot write.
func TestInspectorBesideAHost(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.Commit(t.Context(), storetest.NewAccount(f.keys, "a").Change(2)); err != nil {
		t.Fatal(err)
	}
	sum := storetest.Fsck(t, inspect(f.folder), f.keys)
	if sum.Accounts != 1 || sum.Entries != 1 || sum.Records != 2 || sum.Blobs != 1 {
		t.Fatalf("%+v", sum)
	}
}

func TestInspectWithoutADatabase(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if _, err := sqlite.Inspect(folder); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v, want %v", err, os.ErrNotExist)
	}
	if files, _ := os.ReadDir(folder); len(files) != 0 {
		t.Fatal("it made a database")
	}
}

func TestSeed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const accounts = 50
	seed := func(yield func(*wire.Commit) bool) {
		for i := range accounts {
			if !yield(storetest.NewAccount(f.keys, string(rune(i))).Change(1)) {
				return
			}
		}
	}
	if err := f.Seed(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	if sum := storetest.Fsck(t, inspect(f.folder), f.keys); sum.Accounts != accounts || sum.Records != accounts {
		t.Fatalf("%+v", sum)
	}
	if err := f.Seed(t.Context(), seed); err != nil { // idempotent, as commits are
		t.Fatal(err)
	}
	a := storetest.NewAccount(f.keys, string(rune(7)))
	a.Change(1)
	if _, err := f.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	fork := storetest.NewAccountAt(a, "fork")
	if err := f.Seed(t.Context(), func(yield func(*wire.Commit) bool) { yield(fork.Change(1)) }); wire.CodeOf(err) != wire.CodeConflict {
		t.Fatalf("%v, want %s", err, wire.CodeConflict)
	}
}
