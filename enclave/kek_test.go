package enclave

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

func TestSealedWithoutKEK(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	w.keks = nil
	w.restart()
	for name := range commands {
		_, err := p.send(p.ask(wire.NewCommand(name, wire.None{})))
		wantCode(t, err, wire.CodeSealed)
	}
}

// A KEK rotation rewraps an account with its next commit. The old version stays all
// the same: untouched accounts need it.
func TestRewrap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice").enrol(pin)
	w.keks = append(w.keks, KEK{Version: "v2", Key: random(32)})
	w.restart()
	p.create()
	var versions []string
	for _, wrap := range w.store.Accounts[p.account].Wraps {
		versions = append(versions, wrap.KEK)
	}
	if !slices.Contains(versions, "v2") {
		t.Fatalf("wraps of %v", versions)
	}
	entries := w.store.Accounts[p.account].Entries
	if _, _, err := w.core.Verifier().VerifyChain(wire.Stream(w.config.Ledger.ID, p.account), wire.Head{}, entries); err != nil {
		t.Fatalf("chain over two ledger keys: %v", err)
	}
	old := ledger.SignerID{}
	for i, b := range entries {
		if e := must(ledger.ParseEntry(b)); i == 0 {
			old = e.Signer
		} else if i == len(entries)-1 && e.Signer == old {
			t.Fatal("the new entry is signed by the old ledger key")
		}
	}
}
