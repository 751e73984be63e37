package sqlite_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

type fixture struct {
	*sqlite.Store
	folder string
	keys   *ledgertest.Keys
}

// newFixture gives a store that the test closes, and that fsck judges afterwards.
func newFixture(t testing.TB) *fixture {
	f := &fixture{folder: t.TempDir(), keys: ledgertest.NewKeys(t)}
	f.Store = open(t, f.folder)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		storetest.Fsck(t, inspect(f.folder), f.keys)
	})
	return f
}

// queue hands commits to the writer, in order, while it is held, and returns what
// becomes of them.
func (f *fixture) queue(ctx context.Context, commits ...*wire.Commit) []chan error {
	var out []chan error
	for _, c := range commits {
		out = append(out, f.queueJob(func() error { _, err := f.Commit(ctx, c); return err }))
	}
	return out
}

// queueJob is queue for one job of any kind.
func (f *fixture) queueJob(job func() error) chan error {
	done := make(chan error, 1)
	waiting := f.Waiting()
	go func() { done <- job() }()
	for f.Waiting() == waiting {
		runtime.Gosched()
	}
	return done
}

// Commits of one batch stand or fall alone: one refused takes nothing with it.
func TestBatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := storetest.NewAccount(f.keys, "a"), storetest.NewAccount(f.keys, "b")
	first := a.Change(1)
	loser := a.Fork("x").Change(3) // of the same batch's second commit
	second := a.Change(1)
	release := f.Hold()
	done := f.queue(t.Context(), first, second, loser, b.Change(2))
	release()
	for i, want := range []wire.Code{"", "", wire.CodeConflict, ""} {
		if err := <-done[i]; wire.CodeOf(err) != want {
			t.Errorf("commit %d: %v, want %q", i, err, want)
		}
	}
	s, err := f.Load(t.Context(), wire.Need{Account: a.ID, State: true, After: new(uint64)})
	if err != nil || len(s.Entries) != 2 {
		t.Fatalf("%d entries, %v", len(s.Entries), err)
	}
}

// A job that refuses after it wrote leaves nothing, and takes nothing of its batch with it.
func TestLateRefusal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a, b := storetest.NewAccount(f.keys, "a"), storetest.NewAccount(f.keys, "b")
	release := f.Hold()
	before := f.queue(t.Context(), a.Change(1))
	late := f.queueJob(func() error { return f.RefuseLate(t.Context(), "late") })
	after := f.queue(t.Context(), b.Change(1))
	release()
	if err := <-late; wire.CodeOf(err) != wire.CodeConflict {
		t.Errorf("%v, want %s", err, wire.CodeConflict)
	}
	if err := errors.Join(<-before[0], <-after[0]); err != nil {
		t.Errorf("the others of its batch: %v", err)
	}
	if note, err := f.Note(t.Context(), "late"); note != nil || err != nil {
		t.Errorf("what it wrote stands: %x, %v", note, err)
	}
}

// What its caller gave up before the writer came to it is not done.
func TestCancelledIsNotWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := storetest.NewAccount(f.keys, "a")
	ctx, cancel := context.WithCancel(t.Context())
	release := f.Hold()
	done := f.queue(ctx, a.Change(1))
	cancel()
	if err := <-done[0]; wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
	}
	release()
	if err := f.SetNote(t.Context(), "after", nil); err != nil { // the writer is past it now
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), wire.Need{Account: a.ID, State: true})
	if err != nil || s.Newest != nil {
		t.Fatalf("%+v, %v", s, err)
	}
}

// A full disk refuses what does not fit, loses nothing, and is over when space is back.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := storetest.NewAccount(f.keys, "a")
	for range 5 {
		if _, err := f.Commit(t.Context(), a.Change(2)); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := f.Pages()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetMaxPages(pages + 4); err != nil {
		t.Fatal(err)
	}
	before := *a
	big := a.Change(100)
	if _, err := f.Commit(t.Context(), big); wire.CodeOf(err) != wire.CodeStorageFull {
		t.Fatalf("%v, want %s", err, wire.CodeStorageFull)
	}
	s, err := f.Load(t.Context(), wire.Need{Account: a.ID, State: true, After: new(uint64)})
	if err != nil || uint64(len(s.Entries)) != before.At.Sequence {
		t.Fatalf("%d entries, %v; want %d", len(s.Entries), err, before.At.Sequence)
	}

	// In a batch, what fits is done beside what does not.
	small := storetest.NewAccount(f.keys, "b")
	release := f.Hold()
	done := f.queue(t.Context(), big, small.Change(0))
	release()
	if err := <-done[0]; wire.CodeOf(err) != wire.CodeStorageFull {
		t.Errorf("the big one: %v, want %s", err, wire.CodeStorageFull)
	}
	if err := <-done[1]; err != nil {
		t.Errorf("the small one: %v", err)
	}

	if _, err := f.Commit(t.Context(), big); wire.CodeOf(err) != wire.CodeStorageFull {
		t.Fatalf("%v, want %s", err, wire.CodeStorageFull)
	}
	if err := f.SetMaxPages(0); err != nil {
		t.Fatal(err)
	}
	if err := f.Writable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Commit(t.Context(), big); err != nil {
		t.Fatal(err)
	}
}

func TestWritableTellsOfAFullDisk(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.Fail(sqlite3.SQLITE_FULL); wire.CodeOf(err) != wire.CodeStorageFull {
		t.Fatalf("%v, want %s", err, wire.CodeStorageFull)
	}
	if err := f.Fail(sqlite3.SQLITE_IOERR_SHMSIZE); wire.CodeOf(err) != wire.CodeStorageFull {
		t.Fatalf("%v, want %s", err, wire.CodeStorageFull)
	}
	if err := f.Writable(t.Context()); err != nil { // it tried, and there was space
		t.Fatal(err)
	}
}

// After a failed fsync nothing that is written can be relied on until a restart.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	for _, code := range []int{sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_CORRUPT} {
		f := newFixture(t)
		a := storetest.NewAccount(f.keys, "a")
		if _, err := f.Commit(t.Context(), a.Change(1)); err != nil {
			t.Fatal(err)
		}
		if err := f.Fail(code); wire.CodeOf(err) != wire.CodeUnavailable || !errors.Is(err, store.ErrBroken) {
			t.Fatalf("%v, want %v", err, store.ErrBroken)
		}
		if _, err := f.Commit(t.Context(), a.Fork("x").Change(1)); !errors.Is(err, store.ErrBroken) {
			t.Errorf("Commit: %v, want %v", err, store.ErrBroken)
		}
		if err := f.Writable(t.Context()); !errors.Is(err, store.ErrBroken) {
			t.Errorf("Writable: %v, want %v", err, store.ErrBroken)
		}
		if _, err := f.Load(t.Context(), wire.Need{Account: a.ID, State: true}); err != nil {
			t.Errorf("reads go on, but: %v", err)
		}
	}
}

// Another fault of the disk ends its transaction and nothing else.
func TestFaultIsOver(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := f.Fail(sqlite3.SQLITE_IOERR_READ); wire.CodeOf(err) != wire.CodeUnavailable || errors.Is(err, store.ErrBroken) {
		t.Fatalf("%v", err)
	}
	if _, err := f.Commit(t.Context(), storetest.NewAccount(f.keys, "a").Change(1)); err != nil {
		t.Fatal(err)
	}
}
