package enclave

import (
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Event is what happens to a request. Each is the answer to one [Effect], but for
// the first, [Received].
type Event interface{ event() }

// Received begins a request: the runtime opened its envelope and saw that it is no replay.
type Received struct {
	Envelope *wire.Envelope
	Raw      []byte // the envelope's encoding
	Opened   *wire.Opened
	State    wire.State    // as the host loaded it: not believed
	Now      uint64        // the host's clock, Unix seconds: not believed
	Time     time.Duration // the enclave's monotonic clock
}

// HeadRead answers [ReadHead].
type HeadRead struct {
	Head ledger.SignedHead
	Err  error
}

// Loaded answers [Load].
type Loaded struct {
	State wire.State // not believed
	Err   error
}

// KeysFetched answers [FetchKeys].
type KeysFetched struct {
	Keys *jose.JSONWebKeySet // over TLS that ended here
	Err  error
}

// Committed answers [Commit].
type Committed struct {
	Receipt ledger.Receipt
	Err     error
}

// Kept answers [Keep].
type Kept struct {
	Approvals [][]byte // not believed
	Err       error
}

func (Received) event()    {}
func (HeadRead) event()    {}
func (Loaded) event()      {}
func (KeysFetched) event() {}
func (Committed) event()   {}
func (Kept) event()        {}

// Effect is what a request asks of the world. At most one is under way at a time.
type Effect interface{ effect() }

// ReadHead asks the ledger for the newest head of the stream.
type ReadHead struct {
	Account wire.AccountID
	Stream  wire.StreamID
	Nonce   [32]byte
	Hint    []byte // the newest entry, as the host claims
}

// Load asks the host for data.
type Load struct{ Need wire.Need }

// FetchKeys asks for an OpenID provider's signing keys. Refresh: a cached answer
// did not have the key.
type FetchKeys struct {
	Issuer  *wire.Issuer
	Refresh bool
}

// Commit asks the ledger to append, with all that changes at once. Without a Head
// only the entry is appended.
type Commit struct{ Commit wire.Commit }

// Keep asks the host to keep an approval of a discontinued account, and for all of them.
type Keep struct{ Keep wire.Keep }

// Reply ends a request.
type Reply struct {
	Response *wire.Response
	Refusal  wire.Code     // for the host: see wire.Reply
	Least    time.Duration // since the request came: do not answer earlier
	Login    *VerifiedLogin
}

// VerifiedLogin is an ID token that was accepted: a time that its issuer signed.
type VerifiedLogin struct {
	Issuer string
	Issued uint64 // iat, Unix seconds
}

func (ReadHead) effect()  {}
func (Load) effect()      {}
func (FetchKeys) effect() {}
func (Commit) effect()    {}
func (Keep) effect()      {}
func (Reply) effect()     {}
