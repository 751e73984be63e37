package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/passclave/passclave/enclave"
)

// Looking at the key service because of something that a newer version is sealed or
// signed with: at most once in lookPause, and no request waits longer than lookTime.
const (
	lookPause = 10 * time.Second
	lookTime  = 5 * time.Second
)

// lookout passes the wish to look at the key service on to who does it.
type lookout struct {
	wanted chan func(error) // one is enough

	mu     sync.Mutex
	looked chan struct{} // closed when the look that is wanted has ended; nil: none is
	next   time.Duration // when another may be wanted
	failed error         // of the last look
}

// Wanted gives something to who asks the key service when somebody wants that before its
// time: to be called once what it has was given to [Runtime.Unseal], with what went wrong.
func (r *Runtime) Wanted() <-chan func(error) { return r.lookout.wanted }

// ended ends the look that was wanted.
func (o *lookout) ended(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.looked)
	o.looked, o.failed = nil, err
}

// want returns what is closed when a look has ended that begins now, or did since somebody
// else wanted one; nil: the last one was wanted just now, and ended so.
func (o *lookout) want(now time.Duration) (looked <-chan struct{}, failed error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.looked == nil {
		if now < o.next {
			return nil, o.failed
		}
		o.next, o.looked = now+lookPause, make(chan struct{})
		o.wanted <- o.ended // there is room: the last one was taken before it ended
	}
	return o.looked, nil
}

// look has the key service asked for versions of the KEK that core, the one at hand, does
// not have, and reports whether there is another core now. An error says that nobody
// knows whether there are any.
func (r *Runtime) look(ctx context.Context, core *enclave.Core, limit time.Duration) (newer bool, err error) {
	if r.core.Load() == core {
		looked, failed := r.lookout.want(r.now())
		if err = failed; looked != nil {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			select {
			case <-looked:
				r.lookout.mu.Lock()
				err = r.lookout.failed
				r.lookout.mu.Unlock()
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
	}
	return r.core.Load() != core, err
}
