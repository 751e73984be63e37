package collateral

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/passclave/passclave/attestation"
)

// Options of a [Completer].
type Options struct {
	// HTTP connects to the sources: its transport has the roots, and the proxy if any.
	// Redirects to another host are never followed, cookies never kept.
	HTTP *http.Client

	Sources []Source          // of SEV-SNP's certificates and lists, tried in turn
	Intel   []IntelSource     // of TDX's and SGX's collateral, tried in turn
	Store   Store             // nil: none
	Roots   attestation.Roots // beside the hardware makers' own
	Now     func() time.Time  // time.Now where nil
	Limit   time.Duration     // of one Complete in all; 30 s where 0
	Log     *slog.Logger      // what was replaced, and why; nil: nowhere

	// Revocation asks for the makers' revocation lists, TCB for Intel's TCB info and
	// quoting enclave identity.
	Revocation, TCB bool
}

// Completer completes bundles. It is safe for concurrent use.
type Completer struct {
	Options
	fetch *fetcher
	known *attestation.Cache
}

// New returns a completer. It does not connect.
func New(o Options) *Completer {
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{Proxy: nil}} // never from the environment
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Limit == 0 {
		o.Limit = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Completer{Options: o, fetch: newFetcher(o.HTTP, o.Now), known: attestation.NewCache(32)}
}

// Complete puts into b what is missing, and replaces what does not hold. On an error b
// is as it was. The error is an [*Incomplete]: it says what each source did, and why each
// candidate was refused (errors.As with [*attestation.Error]); or it is the refusal of
// evidence for which nothing can be fetched. A revocation is final: no other list is
// looked for that may be older, and not say so.
//
// It does not verify what binds runtime data, nor endorsements and security policy:
// [attestation.Genuine] does.
func (c *Completer) Complete(ctx context.Context, b *attestation.Bundle) error {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	switch b.Platform {
	case attestation.PlatformSEVSNP:
		return c.completeSNP(ctx, b)
	case attestation.PlatformTDX, attestation.PlatformSGX:
		return c.completeIntel(ctx, b)
	}
	return nil // a token has nothing to complete
}

// hardware verifies a candidate: the report with it, and nothing else.
func (c *Completer) hardware(candidate *attestation.Bundle) (*attestation.Claims, error) {
	return c.known.Hardware(candidate, c.Roots, c.Now())
}

// stored returns what the store has under a name, as decode reads it, if check finds it
// good. What is not good is removed, but for what is final: then it stays, and the error
// says so.
func stored[T any](c *Completer, name string, decode func([]byte) (T, error), check func(T) error) (value T, ok bool, err error) {
	if c.Store == nil {
		return value, false, nil
	}
	data, found := c.Store.Get(name)
	if !found {
		return value, false, nil
	}
	value, err = decode(data)
	if err == nil {
		err = check(value)
	}
	if err == nil {
		return value, true, nil
	}
	if final(err) {
		return value, false, err
	}
	c.Log.Info("stored collateral does not hold and is fetched anew", "name", name, "reason", err)
	if err := c.Store.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Log.Warn("it cannot be removed", "name", name, "reason", err)
	}
	var none T
	return none, false, nil
}

// keep stores what was found good. Evidence does not fail because a disk is full.
func (c *Completer) keep(name string, data []byte) {
	if c.Store == nil {
		return
	}
	if err := c.Store.Put(name, data); err != nil {
		c.Log.Warn("collateral cannot be stored", "name", name, "reason", err)
	}
}
