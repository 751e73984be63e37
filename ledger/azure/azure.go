// Package azure is the ledger over Azure Confidential Ledger: each stream is a
// collection there, and the position of an entry in the ledger decides what it is worth.
//
// The service has no conditional append. A commit is valid if the head that it expects
// is the head at its position; one that another was faster than is void, and so is what
// others put in: entries without the signature of this ledger's keys. All enclaves
// read the same positions and so agree, whatever they thought while they raced.
//
// Trusted is the service certificate that the measured configuration pins: TLS ends
// here, at nodes whose certificates its key signed, and receipts end at it. A service
// that was recovered after a disaster has another key and is refused with
// [ErrNotPinned] until it is pinned anew. Reads are only as fresh as the attested node
// that TLS reaches; what this process has seen committed it never goes back behind. The
// host keeps the data of commits ([Store]), in two steps, and is trusted for nothing.
//
// The package owns, for a bounded number of streams, how far it has read. It is safe
// for concurrent use, as [ledger.Ledger] demands. It was tested against the emulator
// in azuretest, never against the live service.
package azure

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure/receipt"
	"github.com/passclave/passclave/wire"
)

const (
	// APIVersion is the first version of the REST API whose receipts have application
	// claims; without them a receipt does not say what was written.
	APIVersion = "2023-01-18-preview"
	// Audience is what the tokens of [Config] must be for.
	Audience = "https://confidential-ledger.azure.com"
)

// What can be wrong beside a wire.Code; they stand in the chains of errors.
var (
	// ErrNotPinned: who answers is not under the pinned service certificate. After a
	// disaster recovery of the ledger its new certificate must be pinned, which is a
	// change of the measured configuration.
	ErrNotPinned = errors.New("ledger/azure: not the service that is pinned")
	// ErrLost: the service took the entry and lost it before it was committed.
	ErrLost = errors.New("ledger/azure: the transaction was lost before it was committed")
	// ErrBehind: the node does not know what this process has seen committed.
	ErrBehind = errors.New("ledger/azure: the node is behind what was seen before")
)

// Config says which ledger it is. All of it but Token, Clock and Signers is to come
// from the measured configuration.
type Config struct {
	LedgerID      []byte // 32 bytes
	URL           string // https://{name}.confidential-ledger.azure.com
	Service       []byte // PEM: the service certificate that is pinned, by its key: a renewed one over the same key is the same service
	CollectionKey []byte // 32 random bytes, so that collection IDs tell nobody which accounts exist
	APIVersion    string // [APIVersion] where empty

	// Token returns a bearer token for [Audience], from its own cache.
	Token func(context.Context) (string, error)
	// Clock judges the validity of nodes' certificates.
	Clock func() time.Time
	// Signers returns the ledger's keys as far as this process has them.
	Signers func() []ledger.Signer
}

// Store is the host's side, which keeps what belongs to an entry.
type Store interface {
	// Stage keeps a commit, durably, beside the account's state, which it does not
	// change. It is idempotent by the entry's hash.
	Stage(ctx context.Context, c *wire.Commit) error
	// Settle makes the staged commit whose entry has this hash the account's state. A
	// commit that is settled already changes nothing. CodeNotFound: there is none.
	Settle(ctx context.Context, account wire.AccountID, entry wire.Digest) error
}

// Service is one ledger at the service, with what this process knows of it.
type Service struct {
	client *client
	keys   *keys
	memory *memory
	mac    []byte // key of collection IDs
}

// New returns a ledger of which nothing is known yet. Nothing is sent.
func New(c Config) (*Service, error) {
	if len(c.CollectionKey) != 32 || len(c.LedgerID) != 32 {
		return nil, errors.New("ledger/azure: ledger ID and collection key must have 32 bytes")
	}
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	return &Service{client: client, keys: &keys{id: c.LedgerID, own: c.Signers}, memory: newMemory(), mac: c.CollectionKey}, nil
}

// Over returns the ledger whose commits are kept in a store: for a request, the one of
// the host that it came from.
func (s *Service) Over(store Store) *Ledger { return &Ledger{s, store} }

// Collection returns the collection ID of a stream: HMAC-SHA-256 of the stream ID under
// the collection key, in unpadded base64url.
func (s *Service) Collection(stream wire.StreamID) string {
	h := hmac.New(sha256.New, s.mac)
	h.Write(stream[:])
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Ledger is the azure backend: a service over a store.
type Ledger struct {
	*Service
	store Store
}

// ReadHead implements [ledger.Ledger]: it reads the stream's collection to its end, from
// where this process last was. The hint only tells whether the host has settled the
// newest entry. The nonce is not used: the service signs no answers, hence
// [wire.FreshnessAzure].
func (l *Ledger) ReadHead(ctx context.Context, account wire.AccountID, stream wire.StreamID, _ [32]byte, hint []byte) (ledger.SignedHead, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	p, _, err := l.read(ctx, stream, l.memory.of(stream), "", wire.Digest{})
	if err != nil {
		return ledger.SignedHead{}, err
	}
	if p.head != (wire.Head{}) && (len(hint) == 0 || ledger.EntryHash(hint) != p.head.Hash) {
		// Where its writer died before it could say so, or another enclave wrote it just
		// now. A host that does not have it is refused by the core, for a rollback.
		switch err := l.store.Settle(ctx, account, p.head.Hash); wire.CodeOf(err) {
		case "", wire.CodeNotFound, wire.CodeConflict:
		default:
			return ledger.SignedHead{}, err
		}
	}
	return ledger.SignedHead{Head: p.head, Freshness: wire.FreshnessAzure}, nil
}

// What the service may take, however slow it loads and commits.
const (
	readTime   = 10 * time.Second
	appendTime = 15 * time.Second
)

// CompareAndAppend implements [ledger.Ledger]. A conflict is either known before
// anything is sent, or the entry's position has made it void for ever.
func (l *Ledger) CompareAndAppend(ctx context.Context, c *wire.Commit) (ledger.Receipt, error) {
	a := &c.Append
	e, err := l.keys.verifier().Verify(a.Stream, a.Entry)
	if err != nil {
		return ledger.Receipt{}, err
	}
	if e.Sequence != a.Expected.Sequence+1 || e.Previous != a.Expected.Hash {
		return ledger.Receipt{}, wire.Errorf(wire.CodeEntry, "entry does not follow the expected head")
	}
	if err := ctx.Err(); err != nil { // nothing is sent, so nothing is in doubt
		return ledger.Receipt{}, wire.NewError(wire.CodeUnavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()

	start := l.memory.of(a.Stream)
	if start.head != a.Expected {
		if start, _, err = l.read(ctx, a.Stream, start, "", wire.Digest{}); err != nil {
			return ledger.Receipt{}, err
		}
	}
	if start.head != a.Expected {
		return ledger.Receipt{}, wire.Errorf(wire.CodeConflict, "expected head is not the newest")
	}
	if start.back(e, l.keys.verifier()) {
		return ledger.Receipt{}, wire.Errorf(wire.CodeEntry, "entry goes back to an earlier epoch or ledger key")
	}
	if err := l.store.Stage(ctx, c); err != nil {
		return ledger.Receipt{}, unclear(err)
	}
	return l.append(ctx, a, start, ledger.HeadOf(e, a.Entry))
}

// append sends a staged commit's entry and follows it to its position.
func (l *Ledger) append(ctx context.Context, a *wire.Append, start place, head wire.Head) (ledger.Receipt, error) {
	collection, contents := l.Collection(a.Stream), l.keys.contents(a.Entry)
	id, err := l.client.post(ctx, collection, contents)
	if err != nil {
		return ledger.Receipt{}, unclear(err)
	}
	if err := l.client.committed(ctx, id); err != nil {
		return ledger.Receipt{}, unclear(err)
	}
	proof, err := l.client.receipt(ctx, id)
	if err != nil {
		return ledger.Receipt{}, unclear(err)
	}
	if proof.Transaction != id {
		return ledger.Receipt{}, wire.Errorf(wire.CodeReceipt, "receipt of transaction %s, not %s", proof.Transaction, id)
	}
	if written, ok := proof.Entry(); !ok || written != (receipt.Entry{Collection: collection, Contents: contents}) {
		return ledger.Receipt{}, wire.Errorf(wire.CodeReceipt, "receipt for something else than was written")
	}
	_, won, err := l.read(ctx, a.Stream, start, id.String(), head.Hash)
	if err != nil {
		return ledger.Receipt{}, unclear(err)
	}
	if !won {
		return ledger.Receipt{}, wire.Errorf(wire.CodeConflict, "another entry stands at this place")
	}
	if err := l.store.Settle(ctx, a.Account, head.Hash); err != nil {
		return ledger.Receipt{}, unclear(err) // it stands: ReadHead will settle it
	}
	return ledger.Receipt{Head: head}, nil
}

// unclear makes sure that an error does not say that nothing was appended: from the
// moment that a host has a commit, it could send the entry itself.
func unclear(err error) error {
	switch wire.CodeOf(err) {
	case wire.CodeConflict, wire.CodeStorageFull, wire.CodeRateLimited:
		return wire.Errorf(wire.CodeUnavailable, "outcome not known: %v", err)
	case wire.CodeInternal:
		return wire.NewError(wire.CodeUnavailable, err)
	}
	return err
}
