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
