package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/passclave/passclave/enclave"
)

// Looking at the key service because of something that a newer version is sealed or
// signed with: at most once in lookPause, and nobody waits longer than lookTime, but for
// who asks for the look itself.
const (
	lookPause = 10 * time.Second
	lookTime  = 5 * time.Second
	askedTime = 25 * time.Second
)

// lookout passes the wish to look at the key service on to who does it.
type lookout struct {
	wanted chan struct{} // one is enough

	mu     sync.Mutex
	looked chan struct{} // closed when the look under way ends; nil: none is
	next   time.Duration // when another may be wanted
}

// Wanted is written to when somebody wants a look at the key service before its time.
func (r *Runtime) Wanted() <-chan struct{} { return r.lookout.wanted }

// Looked says that the key service was asked, and that what it had was given to Unseal.
func (r *Runtime) Looked() {
	o := &r.lookout
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looked != nil {
		close(o.looked)
		o.looked = nil
	}
}

// want returns what is closed when the look ends that begins or is under way; nil: the
// last one was wanted just now.
func (o *lookout) want(now time.Duration) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looked == nil {
		if now < o.next {
			return nil
		}
		o.next, o.looked = now+lookPause, make(chan struct{})
		select {
		case o.wanted <- struct{}{}:
		default:
		}
	}
	return o.looked
}

// look has the key service asked for versions of the KEK that core, the one at hand, does
// not have, and reports whether there is another core now.
func (r *Runtime) look(ctx context.Context, core *enclave.Core) bool {
	r.await(ctx, core, lookTime)
	return r.core.Load() != core
}

// await waits for the end of a look, and reports whether it came: what is held is then
// what the key service has, or had a moment ago.
func (r *Runtime) await(ctx context.Context, core *enclave.Core, atMost time.Duration) bool {
	if r.core.Load() != core {
		return true
	}
	looked := r.lookout.want(r.now())
	if looked == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	select {
	case <-looked:
		return true
	case <-ctx.Done():
		return r.core.Load() != core
	}
}
