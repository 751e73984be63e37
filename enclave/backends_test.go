package enclave

import (
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure"
	"github.com/passclave/passclave/ledger/azure/azuretest"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// backends are worlds over each ledger that an enclave can be configured for.
var backends = map[string]func(*testing.T) *world{
	wire.BackendLocal:    func(t *testing.T) *world { return newWorld(t) },
	wire.BackendEndorsed: newEndorsedWorld,
	wire.BackendAzure:    newAzureWorld,
}

// remembers are those whose memory outlives the enclave.
var remembers = map[string]bool{wire.BackendEndorsed: true, wire.BackendAzure: true}

// ledgerKeys are the core's, for what stands in for other enclaves.
func (w *world) ledgerKeys() *ledgertest.Keys {
	id := w.config.Ledger.ID
	key := ledger.Key(id, w.keks[0].Key)
	signers := []ledger.Signer{{Public: key.Public().(ed25519.PublicKey)}}
	return &ledgertest.Keys{LedgerID: id, Private: key, Verifier: must(ledger.NewVerifier(id, signers)), Signers: signers}
}

func newEndorsedWorld(t *testing.T) *world {
	w := newWorld(t)
	e := endorsedtest.New(t, w.ledgerKeys(), 3)
	w.config.Ledger = e.Identity()
	w.store = e.Store
	w.open = func() ledger.Ledger { return e.Memory().Over(e) }
	w.restart()
	return w
}

func newAzureWorld(t *testing.T) *world {
	w := newWorld(t)
	server := azuretest.NewServer()
	t.Cleanup(server.Close)
	w.config.Ledger.Backend = wire.BackendAzure
	service := server.Service()
	w.open = func() ledger.Ledger {
		return must(azure.New(azure.Config{
			LedgerID: w.config.Ledger.ID, URL: server.URL, Service: service, CollectionKey: make([]byte, 32),
			Token:   func(context.Context) (string, error) { return azuretest.Token, nil },
			Clock:   time.Now,
			Signers: func() []ledger.Signer { return w.core.Signers() },
		})).Over(w.store)
	}
	w.restart()
	return w
}

// The PIN's limits hold on every ledger, over restarts of the enclave, and what was
// counted cannot be taken back by an older database where the ledger remembers.
func TestPINOnEveryLedger(t *testing.T) {
	t.Parallel()
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := open(t)
			owner := w.device("alice").enrol(pin)
			if err := w.device("alice").join(pin); err != nil {
				t.Fatal(err)
			}
			before := w.store.Snapshot()
			thief := w.device("alice")
			wantLeft(t, thief.join(wrongPIN), wire.CodePINWrong, 2)
			w.restart()
			wantLeft(t, thief.join(wrongPIN), wire.CodePINWrong, 1)
			wantLeft(t, thief.join(wrongPIN), wire.CodePINLocked, 0)
			w.restart()
			wantLeft(t, thief.join(pin), wire.CodePINLocked, 0)

			locked := w.store.Snapshot()
			w.store.Restore(before)
			w.restart()
			err := thief.joinErr(pin)
			if remembers[name] {
				wantCode(t, err, wire.CodeRollback)
			} else if err != nil {
				t.Fatalf("%s cannot see an older database after a restart, and says so: %v", name, err)
			}
			w.store.Restore(locked)
			w.restart()
			owner.setPIN(t, "564738")
			if err := w.device("alice").join("564738"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
