package api

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/passclave/passclave/wire"
)

// What is held at a time, by all together; one address has a part of it.
const (
	maxConnections = 4096
	maxBodies      = 256 << 20 // bytes of the requests under way

	connectionParts = 64
	callParts       = 16
	bodyParts       = 8
	evidenceParts   = 8 // of the rate of evidence
)

// part is an nth of a rate, and at least one call at once.
func (r Rate) part(n int) Rate {
	if r == (Rate{}) {
		return r
	}
	return Rate{r.PerSecond / float64(n), max(1, r.Burst/n)}
}

// asked is an account that a request names, and who names it: nobody has authenticated
// the request yet, so a stranger must not use up the owner's rate.
type asked struct {
	account wire.AccountID
	by      netip.Addr
}

// maxLimiters bounds each of the two halves in which limiters are remembered.
const maxLimiters = 1 << 15

// limiters hold one limiter for each key. When a half is full the older half is
// forgotten: whoever has not called for so many others begins with a full burst.
type limiters[K comparable] struct {
	rate Rate
	now  func() time.Time

	mu         sync.Mutex
	young, old map[K]*rate.Limiter
}

func newLimiters[K comparable](r Rate, now func() time.Time) *limiters[K] {
	return &limiters[K]{rate: r, now: now, young: map[K]*rate.Limiter{}}
}

// allow reports whether another call of k is within the rate, and counts it if so.
func (l *limiters[K]) allow(k K) bool {
	if l.rate == (Rate{}) {
		return true
	}
	l.mu.Lock()
	limiter, ok := l.young[k]
	if !ok {
		if limiter, ok = l.old[k]; !ok {
			limiter = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
		}
		if len(l.young) >= maxLimiters {
			l.old, l.young = l.young, map[K]*rate.Limiter{}
		}
		l.young[k] = limiter
	}
	l.mu.Unlock()
	return limiter.AllowN(l.now(), 1)
}

// shares bound what is held at a time: by all together, and by one address.
type shares struct {
	total, each int64

	mu   sync.Mutex
	held int64
	by   map[netip.Addr]int64 // sums to held; no zeros
}

// newShares returns total shares of which one address has at most one part of parts.
func newShares(total, parts int64) *shares {
	return &shares{total: total, each: max(1, total/parts), by: map[netip.Addr]int64{}}
}

// take takes n and reports whether they were to be had; if so, give gives them back.
func (s *shares) take(c caller, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held+n > s.total || !c.exempt && s.by[c.address]+n > s.each {
		return false
	}
	s.held += n
	s.by[c.address] += n
	return true
}

func (s *shares) give(c caller, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= n
	if s.by[c.address] -= n; s.by[c.address] == 0 {
		delete(s.by, c.address)
	}
}

// taken is how much is held now.
func (s *shares) taken() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// scarce reports whether less than a quarter is left.
func (s *shares) scarce() bool { return s.taken() > s.total/4*3 }
