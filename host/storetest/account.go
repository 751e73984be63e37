package storetest

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// Account makes commits as an enclave would, one after another, whole enough for
// fsck. It draws from a seeded source: the same seed gives the same account.
type Account struct {
	ID     wire.AccountID
	Stream wire.StreamID
	At     wire.Head // what the next commit expects
	Epoch  uint64    // of what is made next

	keys    *ledgertest.Keys
	random  *rand.ChaCha8
	head    wire.Digest // of the sealed head in force
	handles []wire.Handle
	blob    *wire.Digest

	restored *wire.Head // of the next entry
}

// NewAccount returns an account of a ledger that has no entry yet.
func NewAccount(keys *ledgertest.Keys, seed string) *Account {
	a := &Account{Epoch: 1, keys: keys, random: rand.NewChaCha8(wire.Hash("storetest", seed))}
	a.ID = wire.AccountID(a.bytes(32))
	a.Stream = wire.Stream(keys.LedgerID, a.ID)
	return a
}

func (a *Account) bytes(n int) []byte {
	b := make([]byte, n)
	a.random.Read(b)
	return b
}

// Token is the account's one feed token.
func (a *Account) Token() []byte { return a.ID[:] }

// Handles returns the handles of the records that stand after the last commit made.
func (a *Account) Handles() []wire.Handle { return a.handles }

// Blob returns the hash of the newest blob.
func (a *Account) Blob() wire.Digest { return *a.blob }

// Reserve returns a commit of an entry alone, as a PIN attempt begins with.
func (a *Account) Reserve() *wire.Commit { return a.entry(&wire.Commit{}) }

// Change returns a commit that puts n new records, changes the oldest one, and
// replaces head, manifest and blob. The first also brings wrap and feed token.
func (a *Account) Change(n int) *wire.Commit {
	c := &wire.Commit{Head: a.bytes(700)}
	a.head = sha256.Sum256(c.Head)
	c.Manifest = wire.SealManifest(make([]byte, 32), wire.Scope{Ledger: a.keys.LedgerID, Account: a.ID, Generation: 1, Epoch: a.Epoch}, wire.Manifest{Sequence: a.At.Sequence + 1})
	if len(a.handles) > 0 {
		c.Records = append(c.Records, a.record(a.handles[0]))
	}
	for range n {
		h := wire.Handle(a.bytes(16))
		a.handles = append(a.handles, h)
		c.Records = append(c.Records, a.record(h))
	}
	if a.blob != nil {
		c.DroppedBlobs = []wire.Digest{*a.blob}
	} else {
		c.Wraps = []wire.Wrap{{Generation: 1, Epoch: a.Epoch, KEK: "1", Box: a.bytes(90)}}
		c.SetFeedTokens, c.FeedTokens = true, []wire.Digest{wire.FeedTokenHash(a.Token())}
	}
	c.Blobs = [][]byte{a.bytes(1200)}
	d := wire.BlobHash(c.Blobs[0])
	a.blob = &d
	return a.entry(c)
}

// NewEpoch returns a commit that begins an epoch, wrapped under a version of the KEK, and
// drops the former one's wraps under others.
func (a *Account) NewEpoch(kek string, dropped ...string) *wire.Commit {
	former := a.Epoch
	a.Epoch++
	c := a.Change(0)
	c.Wraps = []wire.Wrap{a.Wrap(kek)}
	for _, d := range dropped {
		c.DroppedWraps = append(c.DroppedWraps, wire.Wrap{Generation: 1, Epoch: former, KEK: d})
	}
	return c
}

// Wrap returns a wrap of the epoch that is made next, whose box says so.
func (a *Account) Wrap(kek string) wire.Wrap {
	return wire.Wrap{Generation: 1, Epoch: a.Epoch, KEK: kek, Box: fmt.Appendf(nil, "%s of epoch %d", a.ID, a.Epoch)}
}

// Rewrap returns the account key under another version of the KEK.
func (a *Account) Rewrap(kek string, former ...string) store.Rewrap {
	return store.Rewrap{Account: a.ID, Wrap: a.Wrap(kek), Former: former}
}

// Delete returns a commit that deletes the oldest record.
func (a *Account) Delete() *wire.Commit {
	c := a.Change(0)
	c.Records = nil
	c.Deleted = a.handles[:1]
	a.handles = a.handles[1:]
	return c
}

// Restore returns a commit that goes on from where the account stands, after entries up
// to lost, which the store does not have.
func (a *Account) Restore(lost wire.Head) *wire.Commit {
	at := a.At
	a.restored, a.At = &at, lost
	defer func() { a.restored = nil }()
	return a.Change(1)
}

func (a *Account) record(h wire.Handle) []byte {
	return wire.Marshal(wire.Record{Handle: h, Version: wire.VersionID(a.bytes(16)), Generation: 1, Epoch: a.Epoch, Metadata: a.bytes(552), Secret: a.bytes(296)})
}

func (a *Account) entry(c *wire.Commit) *wire.Commit {
	e := ledger.Entry{
		Ledger: a.keys.LedgerID, Stream: a.Stream, Sequence: a.At.Sequence + 1, Previous: a.At.Hash,
		Generation: 1, Epoch: a.Epoch, Head: a.head, Note: a.bytes(ledger.NoteSize),
		Restored: a.restored,
	}
	b := e.Sign(a.keys.Private)
	c.Append = wire.Append{Account: a.ID, Stream: a.Stream, Expected: a.At, Entry: b}
	a.At = ledger.HeadOf(&e, b)
	return c
}

// Fork returns an account that stands where a stands and goes on differently.
func (a *Account) Fork(seed string) *Account {
	b := *a
	b.random = rand.NewChaCha8(wire.Hash("storetest", seed))
	return &b
}
