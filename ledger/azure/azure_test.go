package azure_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure"
	"github.com/passclave/passclave/ledger/azure/azuretest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// world is a ledger at the emulator, with the keys and stores of enclaves over it.
type world struct {
	t       *testing.T
	server  *azuretest.Server
	keys    *ledgertest.Keys
	store   *ledgertest.Store
	key     []byte // of collection IDs
	pinned  []byte
	account wire.AccountID
	stream  wire.StreamID
	now     func() time.Time
}

func newWorld(t *testing.T, keys *ledgertest.Keys) *world {
	t.Helper()
	s := azuretest.NewServer()
	t.Cleanup(s.Close)
	s.Set(func(s *azuretest.Server) { s.Loading, s.Page = 0, 6 })
	w := &world{t: t, server: s, keys: keys, store: ledgertest.NewStore(), key: make([]byte, 32), pinned: s.Service(), now: time.Now}
	rand.Read(w.key)
	rand.Read(w.account[:])
	w.stream = wire.Stream(keys.LedgerID, w.account)
	return w
}

func (w *world) config() azure.Config {
	return azure.Config{
		LedgerID: w.keys.LedgerID, URL: w.server.URL, Service: w.pinned, CollectionKey: w.key,
		Token: func(context.Context) (string, error) { return azuretest.Token, nil },
		Clock: w.now, Signers: func() []ledger.Signer { return w.keys.Signers },
	}
}

// enclave starts an enclave that knows nothing yet.
func (w *world) enclave() *azure.Ledger { return w.with(w.config()) }

func (w *world) with(c azure.Config) *azure.Ledger {
	w.t.Helper()
	s, err := azure.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.Over(w.store)
}

func (w *world) tryRead(l *azure.Ledger) (wire.Head, error) {
	hint, _ := w.store.Newest(context.Background(), w.account)
	h, err := l.ReadHead(context.Background(), w.account, w.stream, [32]byte{}, hint)
	if err == nil && h.Freshness != wire.FreshnessAzure {
		w.t.Errorf("freshness %q", h.Freshness)
	}
	return h.Head, err
}

func (w *world) read(l *azure.Ledger) wire.Head {
	w.t.Helper()
	h, err := w.tryRead(l)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// write appends an entry behind a head.
func (w *world) write(l *azure.Ledger, at wire.Head) (wire.Head, error) {
	c, head := w.keys.Entry(w.account, at)
	r, err := l.CompareAndAppend(context.Background(), c)
	if err == nil && r.Head != head {
		w.t.Errorf("receipt for %v, want %v", r.Head, head)
	}
	return head, err
}

func (w *world) append(l *azure.Ledger) wire.Head {
	w.t.Helper()
	head, err := w.write(l, w.read(l))
	if err != nil {
		w.t.Fatal(err)
	}
	return head
}

func TestConformance(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, keys *ledgertest.Keys) ledgertest.Backend {
		w := newWorld(t, keys)
		w.server.Set(func(s *azuretest.Server) {
			s.OnWrite = func(string) azuretest.Fault {
				if w.store.Before == nil {
					return azuretest.NoFault
				}
				return map[ledgertest.Fault]azuretest.Fault{
					ledgertest.Failed: azuretest.Failed, ledgertest.FailedButDone: azuretest.Dropped, ledgertest.Twice: azuretest.Twice, ledgertest.Late: azuretest.Late,
				}[w.store.Before(nil)]
			}
		})
		return ledgertest.Backend{Ledger: w.enclave(), Store: w.store, Restart: func() ledger.Ledger { return w.enclave() }, Own: true, Arrive: w.server.Arrive}
	})
}
