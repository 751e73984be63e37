package ledger

import (
	"context"

	"github.com/passclave/passclave/wire"
)

// Ledger is what a backend offers to the enclave.
//
// Streams are independent of one another. Implementations are safe for concurrent
// use, but the enclave holds one lock a stream, so that at most one call on a
// stream is under way from one enclave.
type Ledger interface {
	// ReadHead returns the newest head of a stream; the zero Head is a statement
	// that there is no such stream. hint is the newest entry as the host claims
	// it, absent where it claims none: a backend may adopt it if it has no memory
	// of the stream, and must refuse it with CodeRollback if it knows better.
	// nonce makes the answer fresh for backends that sign it.
	ReadHead(ctx context.Context, a wire.AccountID, stream wire.StreamID, nonce [32]byte, hint []byte) (SignedHead, error)

	// CompareAndAppend makes c durable if c.Append.Expected is the newest head.
	// CodeConflict: it is not, and nothing was changed. CodeStorageFull,
	// CodeRateLimited: nothing was changed. Any other error: it may have been done,
	// and ReadHead will tell. No number of failures ends a stream.
	CompareAndAppend(ctx context.Context, c *wire.Commit) (Receipt, error)
}

// SignedHead is a backend's word for the newest head of a stream.
type SignedHead struct {
	Head      wire.Head
	Freshness string // wire.FreshnessLocal, wire.FreshnessEndorsed
	// Discontinued: the backend lost its memory of the stream, and Head is only what the
	// host claims. Nothing may be appended but what the account's devices confirmed.
	Discontinued bool
	// View, with Discontinued, names the ledger's memory that does not know the stream (the
	// hash of the endorsers' view): what devices confirm, they confirm for it alone.
	View wire.Digest
}

// Receipt is a backend's word that an entry was appended. The enclave compares
// it with the entry it sent before it lets an answer out.
type Receipt struct {
	Head wire.Head
}
