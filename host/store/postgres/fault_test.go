package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/postgres"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// fault has the database itself fail commits with an SQLSTATE, times of them.
func (f *fixture) fault(t *testing.T, code string, times int, atCommit bool) {
	t.Helper()
	when := "TRIGGER fault BEFORE UPDATE ON accounts"
	if atCommit {
		when = "CONSTRAINT TRIGGER fault AFTER UPDATE ON accounts DEFERRABLE INITIALLY DEFERRED"
	}
	postgrestest.Exec(t, f.database, fmt.Sprintf(`
		DROP TRIGGER IF EXISTS fault ON accounts;
		DROP SEQUENCE IF EXISTS faults;
		CREATE SEQUENCE faults;
		CREATE OR REPLACE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('faults') <= %d THEN RAISE EXCEPTION 'a fault that the test made' USING ERRCODE = '%s'; END IF;
			RETURN NEW;
		END $$;
		CREATE %s FOR EACH ROW EXECUTE FUNCTION fault()`, times, code, when))
}

func (f *fixture) mended(t *testing.T) (faults int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if err := c.QueryRow(t.Context(), "SELECT last_value FROM faults").Scan(&faults); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), "DROP TRIGGER fault ON accounts"); err != nil {
		t.Fatal(err)
	}
	return faults
}

func (f *fixture) everything(t *testing.T, a *storetest.Account) wire.State {
	t.Helper()
	s, err := f.Load(t.Context(), wire.Need{Account: a.ID, State: true, After: new(uint64), Records: a.Handles(), Manifest: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever the database refuses, where it refuses it, has its code, changes nothing, and
// is over when the cause is.
func TestFaults(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := storetest.NewAccount(f.keys, "a")
	if _, err := f.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state string
		times int
		want  wire.Code
		is    error
		tries int
	}{
		{"40001", 3, "", nil, 4}, // serialization failure
		{"40P01", 3, "", nil, 4}, // deadlock
		{"40001", 1000, wire.CodeUnavailable, nil, postgres.Attempts},
		{"53100", 1, wire.CodeStorageFull, nil, 1},
		{"25006", 1, wire.CodeUnavailable, store.ErrReadOnly, 1},
		{"53300", 1, wire.CodeUnavailable, store.ErrConnections, 1},
		{"57P01", 1, wire.CodeUnavailable, store.ErrRestarting, 1},
		{"57P03", 1, wire.CodeUnavailable, store.ErrRestarting, 1},
		{"XX001", 1, wire.CodeUnavailable, store.ErrBroken, 1},
		{"XX002", 1, wire.CodeUnavailable, store.ErrBroken, 1},
		{"57014", 1, wire.CodeUnavailable, nil, 1}, // statement timeout
		{"23514", 1, wire.CodeUnavailable, nil, 1}, // a constraint
		{"40003", 1, wire.CodeUnavailable, nil, 1}, // CockroachDB: it may have been done
	} {
		for _, atCommit := range []bool{false, true} {
			f.fault(t, c.state, c.times, atCommit)
			before := f.everything(t, a)
			fork := a.Fork(fmt.Sprint(c.state, atCommit))
			commit := fork.Change(1)
			_, err := f.Commit(t.Context(), commit)
			if wire.CodeOf(err) != c.want || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s, at COMMIT %v: %v; want %q, %v", c.state, atCommit, err, c.want, c.is)
			}
			if c.want != "" && !reflect.DeepEqual(before, f.everything(t, a)) {
				t.Errorf("%s, at COMMIT %v: something changed", c.state, atCommit)
			}
			if n := f.mended(t); n != c.tries {
				t.Errorf("%s, at COMMIT %v: the database met it %d times, want %d tries", c.state, atCommit, n, c.tries)
			}
			if err := f.Writable(t.Context()); err != nil { // it tries, and there is no fault any more
				t.Errorf("%s, at COMMIT %v: not writable afterwards: %v", c.state, atCommit, err)
			}
			if _, err := f.Commit(t.Context(), commit); err != nil {
				t.Fatalf("%s, at COMMIT %v: afterwards: %v", c.state, atCommit, err)
			}
			*a = *fork
		}
	}
}

// Of two hosts one wins each place, and a commit that both send stands once.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*postgres.Store){"read committed": func(*postgres.Store) {}, "serializable": (*postgres.Store).Serializable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			hosts := []*postgres.Store{f.Store, open(t, f.database)}
			defer hosts[1].Close()
			set(hosts[0])
			set(hosts[1])
			a := storetest.NewAccount(f.keys, "a")
			for round := range 25 {
				forks := make([]*storetest.Account, 4)
				errs := make([]error, len(forks))
				var all sync.WaitGroup
				for i := range forks {
					forks[i] = a.Fork(fmt.Sprint(round, i/2)) // each commit is sent twice
					c := forks[i].Change(1)
					all.Go(func() { _, errs[i] = hosts[(i+i/2)%2].Commit(t.Context(), c) })
				}
				all.Wait()
				if errs[0] != nil {
					errs[0], errs[2], forks[0], forks[2] = errs[2], errs[0], forks[2], forks[0]
					errs[1], errs[3] = errs[3], errs[1]
				}
				if errs[0] != nil || errs[1] != nil || wire.CodeOf(errs[2]) != wire.CodeConflict || wire.CodeOf(errs[3]) != wire.CodeConflict {
					t.Fatalf("round %d: %v; want one of two commits done, twice", round, errs)
				}
				a = forks[0]
			}
		})
	}
}

// Two commits that are both past the check of what stands: the second to insert its entry loses.
func TestBothInFlight(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := storetest.NewAccount(f.keys, "a")
	if _, err := f.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	holder, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "SELECT FROM accounts FOR UPDATE"); err != nil { // reads and inserts go on
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for _, seed := range []string{"x", "y"} {
		commit := a.Fork(seed).Change(1)
		go func() { _, err := f.Commit(context.Background(), commit); ended <- err }()
	}
	for waiting := 0; waiting < 2; {
		if err := holder.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity, pg_stat_clear_snapshot()
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, other := <-ended, <-ended
	if one != nil {
		one, other = other, one
	}
	if one != nil || wire.CodeOf(other) != wire.CodeConflict {
		t.Fatalf("%v, %v; want one done, and %s", one, other, wire.CodeConflict)
	}
}

// Two hosts that begin with two ledgers: one fixes it, the other has written nothing.
func TestTwoLedgers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	other := newFixture(t).keys
	second := open(t, f.database)
	defer second.Close()
	var errs [2]error
	var all sync.WaitGroup
	own, foreign := storetest.NewAccount(f.keys, "a"), storetest.NewAccount(other, "b")
	one, two := own.Change(1), foreign.Change(1)
	all.Go(func() { _, errs[0] = f.Commit(t.Context(), one) })
	all.Go(func() { _, errs[1] = second.Commit(t.Context(), two) })
	all.Wait()
	if errs[1] == nil { // the foreign one was first
		f.keys, own, foreign = other, foreign, own
		errs[0], errs[1] = errs[1], errs[0]
	}
	if errs[0] != nil || wire.CodeOf(errs[1]) != wire.CodeEntry {
		t.Fatalf("%v; want one done, and %s", errs, wire.CodeEntry)
	}
	if s := f.everything(t, foreign); !reflect.DeepEqual(s, wire.State{}) {
		t.Fatalf("of the refused commit stands %+v", s)
	}
	if _, err := second.Commit(t.Context(), own.Change(1)); err != nil {
		t.Fatalf("the host that lost goes on: %v", err)
	}
}

// A lock that another session holds ends in a timeout that says so, not in a conflict.
func TestStatementTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := storetest.NewAccount(f.keys, "a")
	if _, err := f.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	holder, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), "INSERT INTO entries VALUES ($1, 2, $2, '')", a.ID[:], make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	hasty := open(t, f.database+"&statement_timeout=100ms")
	defer hasty.Close()
	commit := a.Change(1)
	if _, err := hasty.Commit(t.Context(), commit); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Fatalf("%v, want %s", err, wire.CodeUnavailable)
	}
	patient := make(chan error, 1)
	go func() { _, err := f.Commit(context.Background(), commit); patient <- err }()
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-patient; err != nil {
		t.Fatalf("when the other gave up: %v", err)
	}
}

// A primary that became a replica: writes are refused by name, reads go on, and when it
// takes writes again so does the host, with no restart.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := storetest.NewAccount(f.keys, "a")
	if _, err := f.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	set := func(value string) {
		postgrestest.Exec(t, f.database+"&default_transaction_read_only=off", `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = `+value+`', current_database()); END $$;
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND '`+value+`' = 'on'`)
	}
	set("on")
	if _, err := f.Load(t.Context(), wire.Need{Account: a.ID, State: true}); err != nil {
		t.Errorf("reads, over connections that were cut: %v", err)
	}
	commit := a.Change(1)
	if _, err := f.Commit(t.Context(), commit); wire.CodeOf(err) != wire.CodeUnavailable || !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Commit: %v, want %v", err, store.ErrReadOnly)
	}
	if err := f.Writable(t.Context()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Writable: %v, want %v", err, store.ErrReadOnly)
	}
	fresh := open(t, f.database)
	defer fresh.Close()
	if err := fresh.Writable(t.Context()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Writable of a host that has written nothing: %v, want %v", err, store.ErrReadOnly)
	}
	set("off")
	if _, err := f.Commit(t.Context(), commit); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := f.Writable(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A database with no connection left says so, and is asked again.
func TestOutOfConnections(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	postgrestest.Exec(t, f.database, `DO $$ BEGIN
		EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT 1', 'few_' || current_database());
		EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA public TO %I', 'few_' || current_database());
	END $$`)
	c, err := pgx.ParseConfig(f.database)
	if err != nil {
		t.Fatal(err)
	}
	as := "&user=few_" + c.Database
	first := open(t, f.database+as)
	if _, err := postgres.Open(t.Context(), f.database+as); wire.CodeOf(err) != wire.CodeUnavailable || !errors.Is(err, store.ErrConnections) {
		t.Fatalf("%v, want %v", err, store.ErrConnections)
	}
	first.Close()
}
