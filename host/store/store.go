// Package store says what the host keeps for the enclave, and what a backend has
// to promise: [Store]. The suite in host/storetest holds every backend to it.
//
// A store owns durability and nothing else. Everything in it is sealed or signed by
// the enclave, which believes none of it: a store that lies is found out by the
// enclave or by the devices. What a store must do well is not lose what it
// acknowledged, and never show half of a commit.
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/passclave/passclave/wire"
)

// Store is the host's database.
//
// Errors are [*wire.Error]: CodeConflict and CodeEntry mean that nothing was
// changed; CodeStorageFull that nothing was changed and the call may be repeated
// when there is space; CodeUnavailable that the outcome is not known.
// Implementations are safe for concurrent use.
type Store interface {
	// Load returns an account as it stood at one moment. What is absent is left
	// out; a blob that is absent is an empty byte string in its place.
	Load(ctx context.Context, n wire.Need) (wire.State, error)

	// Append makes an entry durable if a.Expected is the newest place of the
	// stream, and answers with the entry's place. An entry that already stands is
	// appended: nothing changes, the answer is the same, also when others follow it.
	Append(ctx context.Context, a wire.Append) (wire.Appended, error)

	// Commit is Append with all that changes with the entry: everything becomes
	// durable, or nothing. An entry that already stands has brought its
	// attachments with it, so a repeated commit changes nothing.
	Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error)

	// Stage keeps a commit beside the account, which it does not change, until an entry at
	// its place is settled. It is idempotent by the entry's hash.
	Stage(ctx context.Context, c *wire.Commit) error

	// Settle carries out the staged commit whose entry has this hash, and forgets all that
	// are staged up to its place. An entry that stands already changes nothing.
	// CodeNotFound: no such commit is staged; CodeConflict: another entry stands there.
	Settle(ctx context.Context, account wire.AccountID, entry wire.Digest) error

	// Feed returns the records changed after a sequence, oldest change first, and
	// the newest manifest, to the holder of a token of the account. limit bounds
	// the number of records, except that those of one commit are never parted.
	// CodeUnknownDevice: no such account, or no such token.
	Feed(ctx context.Context, account wire.AccountID, token wire.Digest, after uint64, limit int) (wire.FeedPage, error)

	// Wrapped looks at up to limit accounts after one (nil: from the first), in ascending
	// order, and returns those that have a wrap of the epoch in force under another
	// version of the KEK than this one, with all wraps of that epoch in order of their
	// versions. next is the last account looked at; nil: there are no more.
	Wrapped(ctx context.Context, kek string, after *wire.AccountID, limit int) (found []wire.Wrapped, next *wire.AccountID, err error)

	// Rewrap makes wraps durable and drops those in whose place they come, all of it or
	// nothing. Where the epoch of a wrap is in force no more, nothing is done; done counts
	// the others.
	Rewrap(ctx context.Context, wraps []Rewrap) (done int, err error)

	// Wraps counts by version of the KEK the wraps of the epochs in force, and those that
	// commits would bring that are staged.
	Wraps(ctx context.Context) (map[string]uint64, error)

	// Note returns what SetNote kept under a name; nil if there is nothing.
	Note(ctx context.Context, name string) ([]byte, error)
	SetNote(ctx context.Context, name string, value []byte) error

	// Ledger returns the ID of the ledger that the entries belong to; nil while
	// there are none. The first entry fixes it: others are refused with CodeEntry.
	Ledger(ctx context.Context) ([]byte, error)

	// Writable returns nil if writes succeed, or why they do not.
	Writable(ctx context.Context) error

	Close() error
}

// Names of notes.
const (
	NoteEvidence = "evidence" // the newest evidence of purpose "client", without a nonce: fsck takes the ledger's public keys from it
	NoteKEK      = "kek"      // the newest version of the KEK that an enclave reported
)

// NoteLineage names the note of what is left of the versions of the KEK before one, as an
// enclave sealed it.
func NoteLineage(version string) string { return "lineage/" + version }

var (
	// ErrInUse means that another process has the store open.
	ErrInUse = errors.New("store: in use by another process")
	// ErrBroken means that the disk failed in a way after which nothing that is
	// written can be relied on, or that what it holds is damaged. Reads go on where
	// they can. An embedded store then refuses writes until the host is started again;
	// a database server decides for itself what it still takes.
	ErrBroken = errors.New("store: the disk failed, or what it holds is damaged: check the disk, then start the host again")
	// ErrReadOnly means that the database takes no writes: it is a replica, perhaps
	// since a failover. Nothing was changed.
	ErrReadOnly = errors.New("store: the database takes no writes: it is a replica, or was set so")
	// ErrConnections means that the database gives no more connections. Nothing was changed.
	ErrConnections = errors.New("store: the database has no connection left")
	// ErrRestarting means that the database stops or starts.
	ErrRestarting = errors.New("store: the database stops or starts")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store: closed")
)

// VersionError refuses a database written by a newer release.
type VersionError struct{ Found, Known int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("store: the database has schema version %d, this release knows versions up to %d: use a newer release", e.Found, e.Known)
}

// Row is what a store keeps of an account beside its entries.
type Row struct {
	Stream     wire.StreamID
	Newest     wire.Head
	Generation uint64
	Epoch      uint64
	Entry      []byte // the newest
	Head       []byte // sealed
	Manifest   []byte // sealed
}

// Record is a record as a store keeps it.
type Record struct {
	Handle  wire.Handle
	Changed uint64 // sequence of the commit that put it
	Body    []byte
}

// Blob is a blob as a store keeps it.
type Blob struct {
	Hash wire.Digest
	Body []byte
}

// Entry is a ledger entry as a store keeps it.
type Entry struct {
	Head wire.Head // as the database names it: to be compared with Body
	Body []byte
}

// Inspector reads everything, for host/fsck and whoever rotates the KEK. It changes nothing.
type Inspector interface {
	// Integrity has the database check itself and returns what it finds.
	Integrity(ctx context.Context) ([]string, error)

	// Accounts returns up to limit accounts after one (nil: from the first), in
	// ascending order: all that have a row in any table.
	Accounts(ctx context.Context, after *wire.AccountID, limit int) ([]wire.AccountID, error)

	// Inspect calls f with one account as it stood at one moment.
	Inspect(ctx context.Context, account wire.AccountID, f func(View) error) error

	// KEKs returns, by version of the KEK, how many accounts have a key that opens with that
	// version alone: of the epoch in force, or of another that is still there. A wrap that a
	// staged commit would bring counts as one more. Versions on which no account hangs are
	// left out.
	KEKs(ctx context.Context) (map[string]uint64, error)

	Ledger(ctx context.Context) ([]byte, error)
	Note(ctx context.Context, name string) ([]byte, error)
	Close() error
}

// View is one account at one moment. Pages are in ascending order, after nil is the
// first; an empty one is the end.
type View interface {
	Row() (*Row, error) // nil: there is none
	Entries(after uint64, limit int) ([]Entry, error)
	Records(after *wire.Handle, limit int) ([]Record, error)
	Blobs(after *wire.Digest, limit int) ([]Blob, error)
	Wraps() ([]wire.Wrap, error)
	FeedTokens() (int, error)
}
