package runtime

import (
	"context"
	"slices"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/wire"
)

// rewrap seals what a host has of account keys under the newest version of the KEK. A wrap
// that does not open may be of a newer one than is held here: then that is looked for.
func (r *Runtime) rewrap(ctx context.Context, body []byte) wire.Result {
	var q wire.Rewrap
	if err := wire.Unmarshal(body, &q); err != nil {
		return failed(err)
	}
	if len(q.Accounts) > wire.MaxRewraps {
		return failed(wire.Errorf(wire.CodeTooLarge, "%d accounts", len(q.Accounts)))
	}
	core := r.core.Load()
	if q.Look {
		if _, err := r.look(ctx, core, requestTime); err != nil && core.Verifier() != nil {
			return failed(wire.NewError(wire.CodeUnavailable, err)) // a host must not take an older version for the newest
		}
		core = r.core.Load()
	}
	out, err := rewrapped(core, q.Accounts)
	if err == nil && slices.ContainsFunc(out.Wraps, func(w wire.Wrap) bool { return len(w.Box) == 0 }) {
		if newer, _ := r.look(ctx, core, lookTime); newer {
			out, err = rewrapped(r.core.Load(), q.Accounts)
		}
	}
	if err != nil {
		return failed(err)
	}
	return wire.Result{Value: wire.Marshal(out)}
}

func rewrapped(core *enclave.Core, accounts []wire.Wrapped) (wire.Rewrapped, error) {
	if core.Verifier() == nil {
		return wire.Rewrapped{}, wire.Errorf(wire.CodeSealed, "no KEK yet")
	}
	return core.Rewrap(accounts), nil
}
