package local_test

import (
	"context"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

func TestConformance(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, keys *ledgertest.Keys) ledgertest.Backend {
		store := ledgertest.NewStore()
		open := func() ledger.Ledger {
			return local.New(func() *ledger.Verifier { return keys.Verifier }).Over(store)
		}
		return ledgertest.Backend{Ledger: open(), Store: store, Restart: open}
	})
}

// What this backend cannot see, and says so on every answer: a host that restarts
// the enclave from an old copy.
func TestRestartFromOldCopyIsNotSeen(t *testing.T) {
	t.Parallel()
	keys, store := ledgertest.NewKeys(t), ledgertest.NewStore()
	open := func() *local.Ledger {
		return local.New(func() *ledger.Verifier { return keys.Verifier }).Over(store)
	}
	l, account := open(), wire.AccountID{1}
	var at wire.Head
	old := store.Snapshot()
	for range 2 {
		old = store.Snapshot()
		head := func() wire.Head {
			hint, _ := store.Newest(context.Background(), account)
			h, err := l.ReadHead(context.Background(), account, wire.Stream(keys.LedgerID, account), [32]byte{}, hint)
			if err != nil {
				t.Fatal(err)
			}
			return h.Head
		}()
		var c *wire.Commit
		c, at = keys.Entry(account, head)
		if _, err := l.CompareAndAppend(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	store.Restore(old)
	l = open()
	hint, _ := store.Newest(context.Background(), account)
	h, err := l.ReadHead(context.Background(), account, wire.Stream(keys.LedgerID, account), [32]byte{}, hint)
	if err != nil {
		t.Fatal(err)
	}
	if h.Head == at || h.Freshness != wire.FreshnessLocal {
		t.Fatalf("head %v, freshness %q: the word for what this ledger cannot see is %q", h.Head, h.Freshness, wire.FreshnessLocal)
	}
}

// A store that says it appended something else gets no receipt.
func TestStoreAppendsAnotherEntry(t *testing.T) {
	t.Parallel()
	keys := ledgertest.NewKeys(t)
	l := local.New(func() *ledger.Verifier { return keys.Verifier }).Over(liar{ledgertest.NewStore()})
	account := wire.AccountID{1}
	if _, err := l.ReadHead(context.Background(), account, wire.Stream(keys.LedgerID, account), [32]byte{}, nil); err != nil {
		t.Fatal(err)
	}
	c, _ := keys.Entry(account, wire.Head{})
	if _, err := l.CompareAndAppend(context.Background(), c); wire.CodeOf(err) != wire.CodeReceipt {
		t.Fatalf("got %v, want %s", err, wire.CodeReceipt)
	}
}

type liar struct{ *ledgertest.Store }

func (l liar) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	done, err := l.Store.Commit(ctx, c)
	done.Newest.Sequence++
	return done, err
}

// counted counts what a ledger asks its store, and refuses appends with an error.
type counted struct {
	*ledgertest.Store
	asked   int
	refusal error
}

func (c *counted) Newest(ctx context.Context, account wire.AccountID) ([]byte, error) {
	c.asked++
	return c.Store.Newest(ctx, account)
}

func (c *counted) Commit(ctx context.Context, commit *wire.Commit) (wire.Appended, error) {
	if c.refusal != nil {
		return wire.Appended{}, c.refusal
	}
	return c.Store.Commit(ctx, commit)
}

// A refusal, and what was never sent, leaves nothing in doubt: the store is not asked
// again, and an entry that it kept all the same is not taken.
func TestRefusedIsNotInDoubt(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		refusal error
		want    wire.Code
		asked   int
	}{
		"conflict":       {t.Context(), wire.Errorf(wire.CodeConflict, ""), wire.CodeConflict, 0},
		"storage full":   {t.Context(), wire.Errorf(wire.CodeStorageFull, ""), wire.CodeStorageFull, 0},
		"rate limited":   {t.Context(), wire.Errorf(wire.CodeRateLimited, ""), wire.CodeRateLimited, 0},
		"not sent":       {over, nil, wire.CodeUnavailable, 0},
		"unclear answer": {t.Context(), wire.Errorf(wire.CodeUnavailable, ""), wire.CodeUnavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, store, account := ledgertest.NewKeys(t), &counted{Store: ledgertest.NewStore()}, wire.AccountID{1}
			l := local.New(func() *ledger.Verifier { return keys.Verifier }).Over(store)
			stream := wire.Stream(keys.LedgerID, account)
			first, at := keys.Entry(account, wire.Head{})
			if _, err := l.CompareAndAppend(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			store.refusal = c.refusal
			lost, head := keys.Entry(account, at)
			if _, err := l.CompareAndAppend(c.ctx, lost); wire.CodeOf(err) != c.want {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if _, err := store.Store.Commit(t.Context(), lost); err != nil {
				t.Fatal(err)
			}
			got, err := l.ReadHead(t.Context(), account, stream, [32]byte{}, nil)
			if err != nil || store.asked != c.asked {
				t.Fatalf("%v, the store was asked %d times", err, store.asked)
			}
			want := at
			if c.asked > 0 {
				want = head
			}
			if got.Head != want {
				t.Fatalf("newest is %v, want %v", got.Head, want)
			}
		})
	}
}

// Sixteen appends are in doubt at most, the newest ones.
func TestOldestDoubtIsForgotten(t *testing.T) {
	t.Parallel()
	for _, late := range []int{0, 1, 16} { // which of 17 failed appends stands in the end
		keys, store, account := ledgertest.NewKeys(t), ledgertest.NewStore(), wire.AccountID{1}
		l := local.New(func() *ledger.Verifier { return keys.Verifier }).Over(store)
		store.Before = func(*wire.Commit) ledgertest.Fault { return ledgertest.Failed }
		var sent []*wire.Commit
		var heads []wire.Head
		for range 17 {
			c, head := keys.Entry(account, wire.Head{})
			if _, err := l.CompareAndAppend(t.Context(), c); wire.CodeOf(err) != wire.CodeUnavailable {
				t.Fatal(err)
			}
			sent, heads = append(sent, c), append(heads, head)
		}
		store.Before = nil
		if _, err := store.Commit(t.Context(), sent[late]); err != nil {
			t.Fatal(err)
		}
		got, err := l.ReadHead(t.Context(), account, wire.Stream(keys.LedgerID, account), [32]byte{}, nil)
		switch {
		case late == 0 && wire.CodeOf(err) != wire.CodeRollback:
			t.Errorf("append %d stands: got %v, want %s", late, err, wire.CodeRollback)
		case late > 0 && (err != nil || got.Head != heads[late]):
			t.Errorf("append %d stands: got %v, %v", late, got.Head, err)
		}
	}
}
