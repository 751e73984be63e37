package runtime

import (
	"context"
	"crypto/ed25519"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/local"
	"github.com/passclave/passclave/wire"
)

// backend is the ledger that the measured configuration names.
type backend struct {
	over      func(*link) ledger.Ledger // the ledger through the host that a request came from
	streams   func() int                // that this process remembers
	freshness string
}

func (r *Runtime) newBackend() backend {
	verifier := func() *ledger.Verifier { return r.core.Load().Verifier() }
	if r.configuration.Ledger.Backend == wire.BackendEndorsed {
		m := endorsed.New(endorsed.Options{
			Identity: r.configuration.Ledger,
			Verifier: verifier,
			Key:      func() (ed25519.PublicKey, func([]byte) []byte) { return r.core.Load().LedgerKey() },
			Evidence: func(ctx context.Context) ([]byte, error) {
				a, err := r.attest(ctx, nil)
				if err != nil {
					return nil, err
				}
				return a.Evidence, nil
			},
		})
		return backend{
			over:      func(l *link) ledger.Ledger { return m.Over(l) },
			streams:   func() int { return 0 }, // endorsers remember
			freshness: wire.FreshnessEndorsed,
		}
	}
	m := local.New(verifier)
	return backend{
		over:      func(l *link) ledger.Ledger { return m.Over(l) },
		streams:   m.Streams,
		freshness: wire.FreshnessLocal,
	}
}
