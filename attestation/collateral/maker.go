package collateral

import (
	"context"
	"errors"

	"github.com/passclave/passclave/attestation"
)

// Maker makes evidence and completes it, an [attestation.Maker].
//
// A host changes REPORTED_TCB while its guests run, and with it the key that signs
// their reports: certificates from before do not fit reports from after. So where a
// candidate was refused and nothing else was found, the report is made again and the
// certificates are fetched again, before anything fails.
type Maker struct {
	TEE       attestation.Maker
	Completer *Completer
}

// makes is how often a report is made before it fails.
const makes = 3

// Make makes a complete bundle; the completer's time limit is for all its attempts
// together. Errors are the TEE's or [Completer.Complete]'s.
func (m *Maker) Make(ctx context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	var limited context.Context // over all completions, from the first report on
	for i := 1; ; i++ {
		b, err := m.TEE.Make(ctx, reportData)
		if err != nil {
			return nil, err
		}
		if limited == nil {
			var cancel context.CancelFunc
			limited, cancel = context.WithTimeout(ctx, m.Completer.Limit)
			defer cancel()
		}
		if err = m.Completer.Complete(limited, b); err == nil {
			return b, nil
		}
		if refused := (*attestation.Error)(nil); i == makes || limited.Err() != nil || !errors.As(err, &refused) {
			return nil, err
		}
		m.Completer.Log.Info("report and certificates do not fit each other: both are fetched anew", "reason", err)
	}
}
