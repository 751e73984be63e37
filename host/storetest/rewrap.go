package storetest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

func (f *fixture) rewrap(t *testing.T, want int, wraps ...store.Rewrap) {
	t.Helper()
	if done, err := f.Rewrap(f.ctx, wraps); err != nil || done != want {
		t.Fatalf("Rewrap: %d done, %v; want %d", done, err, want)
	}
}

func (f *fixture) counts(t *testing.T, want map[string]uint64) {
	t.Helper()
	if got, err := f.Wraps(f.ctx); err != nil || !maps.Equal(got, want) {
		t.Fatalf("Wraps: %v, %v; want %v", got, err, want)
	}
}

// all returns an account's wraps of all epochs.
func (f *fixture) all(t *testing.T, account wire.AccountID) (all []wire.Wrap) {
	t.Helper()
	if f.Inspect == nil {
		return f.everything(t).Wraps
	}
	i, err := f.Inspect()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.Inspect(f.ctx, account, func(v store.View) (err error) { all, err = v.Wraps(); return err }); err != nil {
		t.Fatal(err)
	}
	return all
}

// rewraps: a wrap takes the place of those that are named, of its own account and epoch,
// and of no other; it stands when the store comes back.
func rewraps(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	other := NewAccount(f.keys, "other")
	f.commit2(t, other.Change(1))
	before := f.everything(t)
	f.counts(t, map[string]uint64{"1": 2})
	again := f.account.Rewrap("2", "1")
	f.rewrap(t, 1, again)
	f.rewrap(t, 1, again)
	f.Store = f.Reopen()
	after := f.everything(t)
	if !reflect.DeepEqual(after.Wraps, []wire.Wrap{again.Wrap}) {
		t.Fatalf("wraps %+v", after.Wraps)
	}
	if after.Wraps = before.Wraps; !reflect.DeepEqual(after, before) {
		t.Fatal("more than the wraps changed")
	}
	f.counts(t, map[string]uint64{"1": 1, "2": 1})

	// One under a version that whoever rewraps does not know stays, as one does that takes its own place.
	newer := f.account.Change(0)
	newer.Wraps = []wire.Wrap{f.account.Wrap("9")}
	f.commit(t, newer)
	f.rewrap(t, 1, f.account.Rewrap("3", "2"))
	f.rewrap(t, 1, f.account.Rewrap("3", "3", "1"))
	if got := f.everything(t).Wraps; !reflect.DeepEqual(got, []wire.Wrap{f.account.Wrap("3"), newer.Wraps[0]}) {
		t.Fatalf("wraps %+v", got)
	}

	f.rewrap(t, 0, NewAccount(f.keys, "nobody").Rewrap("2", "1"))
	f.rewrap(t, 0)
	beyond := f.account.Rewrap("3")
	beyond.Wrap.Epoch = 1 << 63
	if _, err := f.Rewrap(f.ctx, []store.Rewrap{other.Rewrap("2", "1"), beyond}); wire.CodeOf(err) != wire.CodeArgument {
		t.Fatalf("%v, want %s", err, wire.CodeArgument)
	}
	f.counts(t, map[string]uint64{"1": 1, "3": 1, "9": 1})

	// What a staged commit would bring counts, until it stands or is forgotten.
	c := f.account.NewEpoch("1")
	if err := f.Stage(f.ctx, c); err != nil {
		t.Fatal(err)
	}
	f.counts(t, map[string]uint64{"1": 2, "3": 1, "9": 1})
}

// rewrapLate: of an epoch that is over, or did not begin, nothing is put or dropped.
func rewrapLate(t *testing.T, f *fixture) {
	f.commit(t, f.account.Change(1))
	late := f.account.Rewrap("2", "1")
	c := f.account.NewEpoch("1", "1") // comes between
	f.commit(t, c)
	f.rewrap(t, 0, late)
	early := f.account.Rewrap("2", "1")
	early.Wrap.Epoch++
	f.rewrap(t, 0, early)
	foreign := f.account.Rewrap("2", "1")
	foreign.Wrap.Generation++
	f.rewrap(t, 0, foreign)
	if got := f.all(t, f.account.ID); !reflect.DeepEqual(got, c.Wraps) {
		t.Fatalf("wraps %+v", got)
	}
}

// rewrapRace: whatever comes between, every account has a wrap of its epoch in force, and
// no other's.
func rewrapRace(t *testing.T, f *fixture) {
	const accounts, epochs = 4, 12
	var all []*Account
	for n := range accounts {
		a := NewAccount(f.keys, fmt.Sprint("racer ", n))
		all = append(all, a)
		c := a.Change(0)
		c.Wraps = []wire.Wrap{a.Wrap("1")}
		f.commit2(t, c)
	}
	ctx, stop := context.WithCancel(f.ctx)
	var rewrapping, writing sync.WaitGroup
	for range 2 {
		rewrapping.Go(func() {
			for ctx.Err() == nil {
				found, _, err := f.Wrapped(f.ctx, "2", nil, accounts)
				var wraps []store.Rewrap
				for _, a := range found {
					w := a.Wraps[0]
					w.KEK = "2"
					wraps = append(wraps, store.Rewrap{Account: a.Account, Wrap: w, Former: []string{"1"}})
				}
				if err == nil {
					_, err = f.Rewrap(f.ctx, wraps)
				}
				if err != nil {
					t.Errorf("rewrap: %v", err)
					return
				}
			}
		})
	}
	for _, a := range all {
		writing.Go(func() {
			for range epochs {
				if _, err := f.Commit(f.ctx, a.NewEpoch("1", "1")); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
			}
		})
	}
	writing.Wait()
	stop()
	rewrapping.Wait()
	for _, a := range all {
		s, err := f.Load(f.ctx, wire.Need{Account: a.ID, State: true})
		if err != nil || len(s.Wraps) != 1 || string(s.Wraps[0].Box) != string(a.Wrap("").Box) || s.Wraps[0].Epoch != a.Epoch {
			t.Errorf("wraps %+v, %v; epoch %d is in force", s.Wraps, err, a.Epoch)
		}
	}
}

// rewrapPages: pages of every size show each account once that has something left, go on
// where one ended, and end.
func rewrapPages(t *testing.T, f *fixture) {
	if found, next, err := f.Wrapped(f.ctx, "2", nil, 4); len(found) != 0 || next != nil || err != nil {
		t.Fatalf("of nothing: %+v, %v, %v", found, next, err)
	}
	var left []wire.AccountID
	for n := range 9 {
		a := NewAccount(f.keys, fmt.Sprint("page ", n))
		c := a.Change(0)
		f.commit2(t, c)
		switch n % 3 {
		case 0: // both versions
			c := a.Change(0)
			c.Wraps = []wire.Wrap{a.Wrap("2")}
			f.commit2(t, c)
			left = append(left, a.ID)
		case 1:
			f.rewrap(t, 1, a.Rewrap("2", "1"))
		case 2: // the older epoch's does not count
			f.commit2(t, a.NewEpoch("2"))
		}
	}
	none := NewAccount(f.keys, "none")
	c := none.Change(0)
	c.Wraps = nil
	f.commit2(t, c)
	slices.SortFunc(left, func(x, y wire.AccountID) int { return slices.Compare(x[:], y[:]) })
	for limit := 1; limit < 12; limit++ {
		var got []wire.AccountID
		var after *wire.AccountID
		for {
			found, next, err := f.Wrapped(f.ctx, "2", after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range found {
				if len(a.Wraps) != 2 || a.Wraps[0].KEK != "1" || a.Wraps[1].KEK != "2" || a.Wraps[0].Epoch != 1 || len(a.Wraps[0].Box) == 0 {
					t.Fatalf("limit %d: wraps %+v", limit, a.Wraps)
				}
				got = append(got, a.Account)
			}
			if after = next; next == nil {
				break
			}
		}
		if !slices.Equal(got, left) {
			t.Fatalf("limit %d: %d accounts, want each of %d once", limit, len(got), len(left))
		}
	}
	f.rewrap(t, 1, none.Rewrap("2")) // fsck would miss it
}
