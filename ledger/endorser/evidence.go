package endorser

import (
	"context"
	"sync"
	"time"
)

// evidenceAge is how long evidence is handed out before it is made anew: what is
// stapled to it (revocation lists, Intel's collateral) ages.
const evidenceAge = time.Hour

// Evidence keeps an endorser's evidence until it is old.
type Evidence struct {
	make func(context.Context) ([]byte, error)

	mu     sync.Mutex
	bundle []byte
	made   time.Time
}

// NewEvidence has evidence made when it is asked for.
func NewEvidence(make func(context.Context) ([]byte, error)) *Evidence { return &Evidence{make: make} }

// Get returns encoded evidence.
func (e *Evidence) Get(ctx context.Context) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bundle != nil && time.Since(e.made) < evidenceAge {
		return e.bundle, nil
	}
	bundle, err := e.make(ctx)
	if err != nil {
		return nil, err
	}
	e.bundle, e.made = bundle, time.Now()
	return bundle, nil
}
