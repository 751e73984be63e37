package storetest

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// faults runs writes that fail in every way, as an enclave would meet them: after
// an error it reads what stands, and goes on from there.
func faults(t *testing.T, f *fixture) {
	kinds := []Fault{NoFault, Failed, Twice, FailedButDone, Full, Late, NoFault, Late, FailedButDone, NoFault}
	faulty := &Faulty{Store: f.Store}
	stood := uint64(0) // newest sequence that was acknowledged
	for n := range 40 {
		fault := kinds[n%len(kinds)]
		faulty.Next = func(*wire.Commit) Fault { return fault }
		before := *f.account
		_, err := faulty.Commit(f.ctx, f.account.Change(1))
		if err == nil {
			stood = f.account.At.Sequence
		}
		s, loadErr := f.Load(f.ctx, wire.Need{Account: f.account.ID, State: true, After: new(uint64)})
		if loadErr != nil {
			t.Fatal(loadErr)
		}
		if uint64(len(s.Entries)) < stood {
			t.Fatalf("step %d: %d entries stand, %d were acknowledged", n, len(s.Entries), stood)
		}
		if uint64(len(s.Entries)) == before.At.Sequence {
			*f.account = before // it was not written
		}
		if fault != NoFault {
			continue
		}
		for _, err := range faulty.Deliver(f.ctx) {
			if wire.CodeOf(err) != wire.CodeConflict {
				t.Fatalf("step %d: a late write that lost: %v, want %s", n, err, wire.CodeConflict)
			}
		}
	}
}

// model compares the backend with [Memory] over random histories of a few accounts.
func model(t *testing.T, f *fixture) {
	round := 0
	rapid.Check(t, func(r *rapid.T) {
		round++
		memory := NewMemory()
		var accounts []*Account
		var sent []*wire.Commit
		for i := range 3 {
			accounts = append(accounts, NewAccount(f.keys, string(rune('a'+i))+string(rune(round))))
		}
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			a := accounts[rapid.IntRange(0, len(accounts)-1).Draw(r, "account")]
			var c *wire.Commit
			switch kind := rapid.IntRange(0, 7).Draw(r, "kind"); {
			case kind == 6:
				rewrapBoth(r, f, memory, a)
				continue
			case kind == 7 && a.At.Sequence > 0:
				c = a.NewEpoch(version(r), version(r))
			case kind == 0 && len(sent) > 0:
				c = sent[rapid.IntRange(0, len(sent)-1).Draw(r, "again")]
			case kind == 1 && a.At.Sequence > 0:
				c = a.Fork("fork").Change(1)
				c.Append.Expected.Hash[0] ^= 1
			case kind == 2 && len(a.Handles()) > 0:
				c = a.Delete()
			case kind == 3 && a.At.Sequence > 0:
				c = a.Reserve()
			default:
				c = a.Change(rapid.IntRange(0, 3).Draw(r, "records"))
			}
			sent = append(sent, c)
			got, gotErr := f.Commit(f.ctx, c)
			want, wantErr := memory.Commit(f.ctx, c)
			if got != want || wire.CodeOf(gotErr) != wire.CodeOf(wantErr) {
				r.Fatalf("Commit: %+v, %v; the model %+v, %v", got, gotErr, want, wantErr)
			}
		}
		for _, a := range accounts {
			compare(r, f, memory, a)
		}
	})
}

func version(r *rapid.T) string { return string('1' + rune(rapid.IntRange(0, 2).Draw(r, "version"))) }

// rewrapBoth rewraps in both stores, at times for an epoch that is not the one in force.
func rewrapBoth(r *rapid.T, f *fixture, memory *Memory, a *Account) {
	w := a.Rewrap(version(r), version(r), version(r))
	w.Wrap.Epoch += rapid.Uint64Range(0, 1).Draw(r, "ahead")
	got, gotErr := f.Rewrap(f.ctx, []store.Rewrap{w})
	want, wantErr := memory.Rewrap(f.ctx, []store.Rewrap{w})
	if got != want || wire.CodeOf(gotErr) != wire.CodeOf(wantErr) {
		r.Fatalf("Rewrap: %d, %v; the model %d, %v", got, gotErr, want, wantErr)
	}
}

func compare(r *rapid.T, f *fixture, memory *Memory, a *Account) {
	after := uint64(rapid.IntRange(0, 10).Draw(r, "after"))
	n := wire.Need{Account: a.ID, State: true, After: &after, Records: a.Handles(), Manifest: rapid.Bool().Draw(r, "manifest")}
	if a.blob != nil {
		n.Blobs = []wire.Digest{*a.blob, {1}}
	}
	got, gotErr := f.Load(f.ctx, n)
	want, wantErr := memory.Load(f.ctx, n)
	if !reflect.DeepEqual(got, want) || wire.CodeOf(gotErr) != wire.CodeOf(wantErr) {
		r.Fatalf("Load: %+v, %v; the model %+v, %v", got, gotErr, want, wantErr)
	}
	kek, before := version(r), previous(a.ID)
	found, next, gotErr := f.Wrapped(f.ctx, kek, &before, 1)
	wantFound, wantNext, wantErr := memory.Wrapped(f.ctx, kek, &before, 1)
	if a.At.Sequence > 0 && (!same(found, wantFound) || !reflect.DeepEqual(next, wantNext) || gotErr != nil || wantErr != nil) {
		r.Fatalf("Wrapped: %+v, %v, %v; the model %+v, %v, %v", found, next, gotErr, wantFound, wantNext, wantErr)
	}
	token, limit := wire.FeedTokenHash(a.Token()), rapid.IntRange(1, 5).Draw(r, "limit")
	page, gotErr := f.Feed(f.ctx, a.ID, token, after, limit)
	wantPage, wantErr := memory.Feed(f.ctx, a.ID, token, after, limit)
	if !reflect.DeepEqual(page, wantPage) || wire.CodeOf(gotErr) != wire.CodeOf(wantErr) {
		r.Fatalf("Feed: %+v, %v; the model %+v, %v", page, gotErr, wantPage, wantErr)
	}
}

// same compares what may be empty.
func same(a, b []wire.Wrapped) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }

// previous is the ID before an ID: what comes after it begins with that one.
func previous(id wire.AccountID) wire.AccountID {
	for i := len(id) - 1; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}
