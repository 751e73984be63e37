package wire

import (
	"encoding/binary"
	"io"
)

// FrameKind says what a frame between host and enclave carries.
type FrameKind byte

// The host dials, the enclave listens. Calls are numbered by their caller;
// [FrameReply] and [FrameAnswer] carry the number of the call they answer.
const (
	// host to enclave
	FrameRequest FrameKind = 1 // Forward → Reply
	FrameAttest  FrameKind = 2 // Attest → Attestation
	FrameStatus  FrameKind = 3 // None → Status
	FrameRewrap  FrameKind = 4 // Rewrap → Rewrapped

	// enclave to host
	FrameReply   FrameKind = 16 // the end of a host's call
	FrameNeed    FrameKind = 17 // Need → State
	FrameAppend  FrameKind = 18 // Append → Appended
	FrameCommit  FrameKind = 19 // Commit → Appended
	FrameRelay   FrameKind = 20 // Relay → Relayed
	FrameViews   FrameKind = 21 // None → Views
	FrameStage   FrameKind = 22 // Commit → None
	FrameSettle  FrameKind = 23 // Settle → None
	FrameKeep    FrameKind = 24 // Keep → Kept
	FrameLineage FrameKind = 25 // Lineage → Lineage

	// host to enclave
	FrameAnswer FrameKind = 32 // the end of an enclave's call

	// to an endorser, from its host or its operator
	FrameIdentify  FrameKind = 64 // None → endorser.Identity
	FrameAsk       FrameKind = 65 // endorsement.Ask → endorsement.Answer
	FrameIntroduce FrameKind = 66 // evidence of purpose "client" → None
	FrameFound     FrameKind = 67 // endorsement.Succession → None
	FrameFinalise  FrameKind = 68 // endorsement.Succession → endorsement.Finalised
	FrameTails     FrameKind = 69 // endorser.From → endorser.Page
	FrameAdopt     FrameKind = 70 // endorser.Adoption → None
	FrameActivate  FrameKind = 71 // endorser.Activation → None
)

// MaxFrame bounds a frame's body: a full account's head and a page of records fit.
const MaxFrame = 8 << 20

// Frame is one message of the connection: uint32 length of all that follows ‖
// uint64 call number ‖ kind ‖ body, big-endian.
type Frame struct {
	Call uint64
	Kind FrameKind
	Body []byte
}

const frameHead = 4 + 8 + 1

// Append encodes the frame behind b.
func (f Frame) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(8+1+len(f.Body)))
	b = binary.BigEndian.AppendUint64(b, f.Call)
	b = append(b, byte(f.Kind))
	return append(b, f.Body...)
}

// ReadFrame reads one frame. io.EOF means that the other side closed between
// frames; a frame cut short is io.ErrUnexpectedEOF.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:4]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n < 9 || n > MaxFrame+9 {
		return Frame{}, Errorf(CodeTooLarge, "frame of %d bytes", n)
	}
	if _, err := io.ReadFull(r, head[4:]); err != nil {
		return Frame{}, noEOF(err)
	}
	f := Frame{Call: binary.BigEndian.Uint64(head[4:12]), Kind: FrameKind(head[12]), Body: make([]byte, n-9)}
	if _, err := io.ReadFull(r, f.Body); err != nil {
		return Frame{}, noEOF(err)
	}
	return f, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Result is the body of every [FrameReply] and [FrameAnswer].
type Result struct {
	Value []byte `cbor:"1,keyasint,omitempty"` // deterministic CBOR of what the call gives
	Error *Error `cbor:"2,keyasint,omitempty"`
}

// Forward is a client's request with the account's state as the host has it.
type Forward struct {
	Envelope []byte `cbor:"1,keyasint"`
	State    State  `cbor:"2,keyasint"`
	Now      uint64 `cbor:"3,keyasint"` // the host's clock, Unix seconds: for housekeeping and notes, never for a limit
}

// Reply answers Forward.
type Reply struct {
	Response []byte `cbor:"1,keyasint"` // sealed to the client
	// Refusal is set when the host's own data was refused (rollback,
	// head-mismatch, record-mismatch, entry, wrap, receipt): for its metrics and log.
	Refusal Code `cbor:"2,keyasint,omitempty"`
}

// State is an account as the host has it.
type State struct {
	Newest   []byte   `cbor:"1,keyasint,omitempty"` // the newest ledger entry; absent: no such stream
	Entries  [][]byte `cbor:"2,keyasint,omitempty"` // from the entry after the one asked for, oldest first, at most MaxEntries
	Head     []byte   `cbor:"3,keyasint,omitempty"` // sealed
	Wraps    []Wrap   `cbor:"4,keyasint,omitempty"` // of the newest entry's epoch
	Records  [][]byte `cbor:"5,keyasint,omitempty"` // those asked for that exist, in the order asked for
	Blobs    [][]byte `cbor:"6,keyasint,omitempty"` // those asked for, in the order asked for
	Manifest []byte   `cbor:"7,keyasint,omitempty"` // when asked for
}

// Wrap is an account key sealed under one version of the KEK.
type Wrap struct {
	Generation uint64 `cbor:"1,keyasint"`
	Epoch      uint64 `cbor:"2,keyasint"`
	KEK        string `cbor:"3,keyasint"` // version of the KEK
	Box        []byte `cbor:"4,keyasint"`
}

// Need asks the host for an account's state, or for more of it.
type Need struct {
	Account  AccountID `cbor:"1,keyasint"`
	State    bool      `cbor:"2,keyasint,omitempty"` // newest entry, head, wraps
	After    *uint64   `cbor:"3,keyasint,omitempty"` // entries after this sequence
	Records  []Handle  `cbor:"4,keyasint,omitempty"`
	Blobs    []Digest  `cbor:"5,keyasint,omitempty"`
	Manifest bool      `cbor:"6,keyasint,omitempty"`
}

// Append asks the host to append a ledger entry if Expected is the newest. It is
// idempotent by the entry's hash: an entry that already stands is appended.
type Append struct {
	Account  AccountID `cbor:"1,keyasint"`
	Stream   StreamID  `cbor:"2,keyasint"`
	Expected Head      `cbor:"3,keyasint"`
	Entry    []byte    `cbor:"4,keyasint"`
	// Restart: the ledger had lost its memory of the stream, and the account's devices
	// confirmed it. It says nothing to the host.
	Restart bool `cbor:"5,keyasint,omitempty"`
}

// Commit is an Append with all that changes with it: everything becomes durable, or nothing.
type Commit struct {
	Append       Append   `cbor:"1,keyasint"`
	Head         []byte   `cbor:"2,keyasint"`
	Records      [][]byte `cbor:"3,keyasint,omitempty"` // put: encoded records
	Deleted      []Handle `cbor:"4,keyasint,omitempty"`
	Blobs        [][]byte `cbor:"5,keyasint,omitempty"` // put, by BlobHash
	DroppedBlobs []Digest `cbor:"6,keyasint,omitempty"`
	Wraps        []Wrap   `cbor:"7,keyasint,omitempty"` // put
	DroppedWraps []Wrap   `cbor:"8,keyasint,omitempty"` // without Box
	Manifest     []byte   `cbor:"9,keyasint,omitempty"`
	FeedTokens   []Digest `cbor:"10,keyasint,omitempty"` // with SetFeedTokens: all that are valid from now on

	SetFeedTokens bool `cbor:"11,keyasint,omitempty"` // the membership changed: FeedTokens replace the former ones
}

// Appended answers Append and Commit. Where the expected head was not the
// newest, the call ends with CodeConflict instead.
type Appended struct {
	Newest Head `cbor:"1,keyasint"`
}

// Attest asks for evidence. With a nonce it is made anew, and must not be cached.
type Attest struct {
	Nonce []byte `cbor:"1,keyasint,omitempty"` // at most 64 bytes
}

// Attestation is what a client needs before it can seal a request.
type Attestation struct {
	Evidence  []byte `cbor:"1,keyasint"` // encoded attestation.Bundle of purpose "client"
	Challenge []byte `cbor:"2,keyasint"`
}

// Status is what the enclave tells its host about itself; a client does not believe it.
type Status struct {
	Ready     bool   `cbor:"1,keyasint"` // has the KEK
	Key       KeyID  `cbor:"2,keyasint"`
	Backend   string `cbor:"3,keyasint"`
	Streams   uint64 `cbor:"4,keyasint"`           // streams in the endorser's memory
	Requests  uint64 `cbor:"5,keyasint"`           // requests under the current key
	Reason    string `cbor:"6,keyasint,omitempty"` // why it is not ready
	KEK       string `cbor:"7,keyasint,omitempty"` // newest version held
	Freshness string `cbor:"8,keyasint"`
}

// FeedPage is one page of the feed (GET /v1/feed): ciphertext only.
type FeedPage struct {
	Manifest []byte   `cbor:"1,keyasint"`           // the newest, sealed
	Records  [][]byte `cbor:"2,keyasint,omitempty"` // changed after the sequence asked for, oldest change first
	Next     uint64   `cbor:"3,keyasint"`           // ask again after this sequence
	More     bool     `cbor:"4,keyasint,omitempty"`
}

// Settle asks the host to make the staged commit of an entry the account's state. It is
// idempotent. Without such a commit the call ends with CodeNotFound, and with
// CodeConflict where another entry stands in its place.
type Settle struct {
	Account AccountID `cbor:"1,keyasint"`
	Entry   Digest    `cbor:"2,keyasint"` // hash of the entry
}

// Relay asks the host to hand a frame to an endorser and to bring its answer.
type Relay struct {
	Endorser []byte    `cbor:"1,keyasint"` // its key, 32 bytes
	Kind     FrameKind `cbor:"2,keyasint"` // FrameAsk or FrameIntroduce
	Body     []byte    `cbor:"3,keyasint"`
}

// Relayed is an endorser's answer as the host has it: not believed.
type Relayed struct {
	Value []byte `cbor:"1,keyasint,omitempty"`
	Code  Code   `cbor:"2,keyasint,omitempty"` // of the endorser's refusal
}

// Views is the chain of views as the host has it: not believed.
type Views struct {
	Chain []byte `cbor:"1,keyasint"` // encoded endorsement.Chain
}

// Keep asks the host to keep a device's approval of a discontinued account beside those
// that it has, and to bring all of them. They are sealed: the host loses them or brings
// them, and can do nothing else with them.
type Keep struct {
	Account  AccountID `cbor:"1,keyasint"`
	Approval []byte    `cbor:"2,keyasint,omitempty"` // absent: only bring them
}

// Kept answers Keep: not believed.
type Kept struct {
	Approvals [][]byte `cbor:"1,keyasint,omitempty"` // at most MaxApprovals, oldest first
}

// MaxApprovals bounds the approvals that a host keeps of one account; the oldest go first.
const MaxApprovals = 4 * MaxDevices

// Lineage asks the host to keep what an enclave leaves behind for those that will hold a
// version of the KEK and none before it, and is its answer: what it has. It is sealed:
// the host loses it or brings it, and can do nothing else with it.
type Lineage struct {
	KEK string `cbor:"1,keyasint"`           // version
	Box []byte `cbor:"2,keyasint,omitempty"` // in the question, absent: only bring it; in the answer: there is none
}

// Rewrap asks for account keys under the newest version of the KEK. The enclave keeps
// nothing of it, and tells of an account key no more than whether a wrap opens.
type Rewrap struct {
	Accounts []Wrapped `cbor:"1,keyasint,omitempty"` // at most MaxRewraps
	// Look has the enclave ask the key service for newer versions first, if it has not
	// been made to just now.
	Look bool `cbor:"2,keyasint,omitempty"`
}

// Wrapped are an account's wraps of one epoch.
type Wrapped struct {
	Account AccountID `cbor:"1,keyasint"`
	Wraps   []Wrap    `cbor:"2,keyasint"`
}

// Rewrapped answers Rewrap.
type Rewrapped struct {
	KEK   string `cbor:"1,keyasint"`           // newest version held
	Wraps []Wrap `cbor:"2,keyasint,omitempty"` // one for each account, in the same order; without Box: none of its wraps opens
}

// MaxRewraps bounds the accounts of one Rewrap.
const MaxRewraps = 1024
