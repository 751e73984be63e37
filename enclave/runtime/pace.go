package runtime

import (
	"context"
	"sync"
	"time"
)

// pace makes all answers to PIN attempts take equally long for whoever watches the
// network: those that wrote to the ledger, and those that did not because the
// account is locked or does not exist. Where the store is slower than the least
// time, the slowest of the last written attempts sets it.
type pace struct {
	mu   sync.Mutex
	last [32]time.Duration // of attempts that wrote
	next int
}

// slowestPace bounds what one stalled write can do to others.
const slowestPace = 2 * time.Second

func (p *pace) target(took, least time.Duration, wrote bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if wrote {
		p.last[p.next%len(p.last)] = min(took, slowestPace)
		p.next++
	}
	for _, d := range p.last {
		least = max(least, d)
	}
	return least
}

// wait returns when the answer may leave, or ctx ends.
func (p *pace) wait(ctx context.Context, took, least time.Duration, wrote bool) {
	rest := p.target(took, least, wrote) - took
	if rest <= 0 {
		return
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
