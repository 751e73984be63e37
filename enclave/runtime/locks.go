package runtime

import (
	"context"
	"sync"

	"github.com/passclave/passclave/wire"
)

// locks holds one lock a stream, for as long as somebody wants it.
type locks struct {
	mu   sync.Mutex
	held map[wire.AccountID]*lock
}

type lock struct {
	free   chan struct{} // holds one token while nobody has the lock
	wanted int           // guarded by locks.mu
}

// lock waits for the stream, as long as ctx lasts, and returns what lets it go.
func (l *locks) lock(ctx context.Context, id wire.AccountID) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[wire.AccountID]*lock{}
	}
	one := l.held[id]
	if one == nil {
		one = &lock{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		l.held[id] = one
	}
	one.wanted++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.wanted--; one.wanted == 0 {
			delete(l.held, id)
		}
	}
	select {
	case <-one.free:
		return func() { one.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, wire.NewError(wire.CodeUnavailable, ctx.Err())
	}
}
