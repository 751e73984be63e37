package postgres_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/development/postgres/postgrestest"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

func removeAll(t *testing.T, folder string) {
	if err := os.RemoveAll(folder); err != nil {
		t.Error(err)
	}
}

// A database that is killed while hosts write loses nothing that it acknowledged and
// leaves no half of a commit; hosts go on by themselves when it is back, and whoever
// sends a commit again that was in flight finds it done once.
func TestKilledDatabase(t *testing.T) {
	t.Parallel()
	folder, err := postgrestest.Folder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, folder) })
	server := postgrestest.Start(t, folder, nil)
	database := server.URL("")
	s := open(t, database)
	keys := ledgertest.NewKeys(t)

	const writers, kills = 8, 3
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var done, unsure atomic.Int64
	var stop atomic.Bool
	accounts := make([]*storetest.Account, writers)
	var all sync.WaitGroup
	for i := range accounts {
		a := storetest.NewAccount(keys, fmt.Sprint(i))
		accounts[i] = a
		all.Go(func() {
			for !stop.Load() {
				c := a.Change(1)
				for {
					_, err := s.Commit(ctx, c)
					if err == nil {
						break
					}
					if wire.CodeOf(err) != wire.CodeUnavailable || ctx.Err() != nil {
						t.Errorf("writer %d: %v, want %s", i, err, wire.CodeUnavailable)
						return
					}
					unsure.Add(1)
					time.Sleep(20 * time.Millisecond) // the database starts
				}
				done.Add(1)
			}
		})
	}
	for n := range int64(kills) {
		for want := done.Load() + 40 + 13*n; done.Load() < want && ctx.Err() == nil; {
			time.Sleep(time.Millisecond) // until so many more stand
		}
		server.Kill()
		server = postgrestest.Start(t, folder, nil)
	}
	stop.Store(true)
	all.Wait()
	if unsure.Load() == 0 {
		t.Error("no commit was in flight: nothing was tested")
	}
	for i, a := range accounts {
		state, err := s.Load(ctx, wire.Need{Account: a.ID, State: true})
		if err != nil {
			t.Fatal(err)
		}
		if e, err := ledger.ParseEntry(state.Newest); err != nil || ledger.HeadOf(e, state.Newest) != a.At {
			t.Errorf("writer %d: entry %d was acknowledged, %+v stands (%v)", i, a.At.Sequence, e, err)
		}
	}
	s.Close()
	storetest.Fsck(t, inspect(database), keys)
}
