package endorsed_test

import (
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/ledgertest"
)

func TestConformance(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, keys *ledgertest.Keys) ledgertest.Backend {
		w := endorsedtest.New(t, keys, 3)
		open := func() ledger.Ledger { return w.Memory().Over(w) }
		return ledgertest.Backend{Ledger: open(), Store: w.Store, Restart: open, Several: true}
	})
}
