package link

import (
	"context"
	"sync"

	"github.com/passclave/passclave/wire"
)

// Notes is where the approvals of discontinued accounts are kept: a store's notes.
type Notes interface {
	Note(ctx context.Context, name string) ([]byte, error)
	SetNote(ctx context.Context, name string, value []byte) error
}

// approvals keeps what devices approved, sealed, until the enclave has counted enough.
// Where several hosts share a store, one of two that write at the same time may be lost;
// that device approves again.
type approvals struct {
	mu sync.Mutex // guards reading and writing one note
}

// noApprovals refuses what only an account that the ledger forgot asks.
var noApprovals = wire.Errorf(wire.CodeUnavailable, "this host keeps no approvals")

func (a *approvals) keep(ctx context.Context, notes Notes, k wire.Keep) (wire.Kept, error) {
	if notes == nil {
		return wire.Kept{}, noApprovals
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var kept wire.Kept
	name := "approvals/" + k.Account.String()
	note, err := notes.Note(ctx, name)
	if err != nil {
		return kept, err
	}
	if len(note) > 0 {
		if err := wire.Unmarshal(note, &kept); err != nil {
			return kept, err
		}
	}
	if len(k.Approval) == 0 {
		return kept, nil
	}
	kept.Approvals = append(kept.Approvals, k.Approval)
	if n := len(kept.Approvals); n > wire.MaxApprovals {
		kept.Approvals = kept.Approvals[n-wire.MaxApprovals:]
	}
	return kept, notes.SetNote(ctx, name, wire.Marshal(kept))
}
