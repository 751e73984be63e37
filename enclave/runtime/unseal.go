package runtime

import (
	"context"
	"crypto/hmac"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/wire"
)

// Between two tries to have a host say what it keeps of earlier versions of the KEK.
const (
	firstAgain   = 50 * time.Millisecond
	longestAgain = 2 * time.Second
)

// Unseal gives the runtime the KEK in all its versions that are left, oldest first. The
// keys are cleared where they come from and held in locked memory.
//
// It waits for a host, asks it for the lineage of each version, and leaves with it those
// that it lacks, before anything is sealed or signed under a new version: whoever holds
// that one alone finds what came before it. What does not open is as good as none: the
// ledger keys are then fewer, which devices refuse. It returns when requests are
// answered with these versions, or ctx ends.
func (r *Runtime) Unseal(ctx context.Context, keks []enclave.KEK) error {
	if len(keks) == 0 {
		return errors.New("no KEK")
	}
	held := make([]enclave.KEK, len(keks))
	for i, k := range keks {
		key, err := r.hold(k.Key)
		if err != nil {
			return err
		}
		held[i] = enclave.KEK{Version: k.Version, Key: key}
	}
	for wait := firstAgain; ; wait = min(2*wait, longestAgain) {
		l, err := r.anyLink(ctx)
		if err != nil {
			return err
		}
		core, err := r.inherit(ctx, l, held)
		if err == nil {
			r.install(core, held)
			return nil
		}
		if wire.CodeOf(err) == wire.CodeInternal {
			return err // not the host's
		}
		r.log.Warn("a host does not say what it keeps of earlier versions of the KEK", "code", wire.CodeOf(err))
		r.Sealed("the host does not say what it keeps of earlier versions of the KEK")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// inherit makes the core of these versions, with what a host and the present core know of
// those before them. The host then keeps all that the core knows.
func (r *Runtime) inherit(ctx context.Context, l *link, keks []enclave.KEK) (*enclave.Core, error) {
	id, present := r.configuration.Ledger.ID, r.core.Load()
	kept := make([]*enclave.Lineage, len(keks))
	all := make([]enclave.KEK, len(keks))
	for i, k := range keks {
		box, err := l.lineage(ctx, wire.Lineage{KEK: k.Version})
		if err != nil {
			return nil, err
		}
		if len(box) > 0 {
			if kept[i], err = enclave.OpenLineage(id, k, box); err != nil {
				r.log.Warn("what the host keeps of earlier versions of the KEK is not ours", "version", k.Version)
			}
		}
		all[i] = k
		if all[i].Lineage = kept[i].Longer(present.Lineage(k.Version)); all[i].Lineage == nil {
			continue
		}
		if all[i].Lineage.Salts, err = r.hold(all[i].Lineage.Salts); err != nil {
			return nil, wire.NewError(wire.CodeInternal, err)
		}
	}
	core, err := enclave.NewCore(r.configuration, r.boot, all)
	if err != nil {
		return nil, wire.NewError(wire.CodeInternal, err)
	}
	for i, k := range all {
		know := core.Lineage(k.Version)
		if know == nil || know.Equal(kept[i]) {
			continue
		}
		if _, err := l.lineage(ctx, wire.Lineage{KEK: k.Version, Box: know.Seal(id, k)}); err != nil {
			return nil, err
		}
	}
	return core, nil
}

// hold puts a secret into locked memory, once however often it comes, and clears it
// where it comes from.
func (r *Runtime) hold(s []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.held {
		if hmac.Equal(h, s) {
			if len(s) > 0 && &h[0] != &s[0] {
				clear(s)
			}
			return h, nil
		}
	}
	h, err := r.arena.Hold(s)
	if err == nil {
		r.held = append(r.held, h)
	}
	return h, err
}

// install has requests answered by a core.
func (r *Runtime) install(core *enclave.Core, held []enclave.KEK) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.core.Store(core)
	r.keks = held
	r.kek, r.reason = held[len(held)-1].Version, ""
}

// Sealed notes why there is no KEK yet, for the host's readiness. reason must hold no secret.
func (r *Runtime) Sealed(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kek == "" {
		r.reason = reason
	}
}

// join counts a host's connection among those that there are.
func (r *Runtime) join(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links[l] = true
	close(r.linked)
	r.linked = make(chan struct{})
}

// leave has a host that connects keep what it lacks of earlier versions: its database may
// be another one than it was.
func (r *Runtime) leave(ctx context.Context, l *link) {
	r.mu.Lock()
	keks := r.keks
	r.mu.Unlock()
	if len(keks) == 0 || r.core.Load().Lineage(keks[len(keks)-1].Version) == nil {
		return
	}
	if _, err := r.inherit(ctx, l, keks); err != nil && ctx.Err() == nil {
		r.log.Warn("a host does not keep what there was before this version of the KEK", "code", wire.CodeOf(err))
	}
}

// anyLink waits for a host.
func (r *Runtime) anyLink(ctx context.Context) (*link, error) {
	for {
		r.mu.Lock()
		linked := r.linked
		for l := range r.links {
			if !l.gone() {
				r.mu.Unlock()
				return l, nil
			}
		}
		r.mu.Unlock()
		select {
		case <-linked:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
