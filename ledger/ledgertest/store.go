// Package ledgertest says what a ledger backend must do, as a suite that every
// backend runs, and gives tests a host's store in memory whose writes can fail.
package ledgertest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Fault is what goes wrong with one write.
type Fault int

const (
	NoFault       Fault = iota
	Failed              // nothing was written, and an error says so
	FailedButDone       // it was written, and an error says that it was not
	Twice               // it was written, and came a second time
	Late                // an error says that it was not written, and it comes with [Store.Arrive]
)

// Store is a host's database in memory: what a host would keep, with no opinion of
// its own. Tests change its fields to play a hostile host.
type Store struct {
	mu       sync.Mutex
	Accounts map[wire.AccountID]*Account
	staged   map[wire.Digest]*wire.Commit
	late     []*wire.Commit
	// Before is asked before every write, when set.
	Before func(*wire.Commit) Fault
}

// Account is what the host keeps of one account.
type Account struct {
	Entries    [][]byte
	Head       []byte
	Manifest   []byte
	Wraps      []wire.Wrap
	Records    map[wire.Handle][]byte
	Blobs      map[wire.Digest][]byte
	FeedTokens []wire.Digest
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{Accounts: map[wire.AccountID]*Account{}, staged: map[wire.Digest]*wire.Commit{}}
}

func (a *Account) clone() *Account {
	c := *a
	c.Entries, c.Wraps, c.FeedTokens = slices.Clone(a.Entries), slices.Clone(a.Wraps), slices.Clone(a.FeedTokens)
	c.Records, c.Blobs = maps.Clone(a.Records), maps.Clone(a.Blobs)
	return &c
}

// Newest returns the place of the newest entry; the zero Head if there is none.
func (a *Account) Newest() wire.Head {
	if len(a.Entries) == 0 {
		return wire.Head{}
	}
	newest := a.Entries[len(a.Entries)-1]
	return wire.Head{Sequence: sequence(newest), Hash: ledger.EntryHash(newest)}
}

// after returns the entries behind a sequence. A restore leaves a gap before it.
func (a *Account) after(from uint64) [][]byte {
	i := slices.IndexFunc(a.Entries, func(b []byte) bool { return sequence(b) > from })
	if i < 0 {
		return nil
	}
	return a.Entries[i:]
}

func sequence(entry []byte) uint64 {
	e, err := ledger.ParseEntry(entry)
	if err != nil {
		panic(err) // a store takes nothing else
	}
	return e.Sequence
}

// Snapshot returns a copy of everything.
func (s *Store) Snapshot() map[wire.AccountID]*Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[wire.AccountID]*Account{}
	for id, a := range s.Accounts {
		out[id] = a.clone()
	}
	return out
}

// Restore puts a snapshot back.
func (s *Store) Restore(snapshot map[wire.AccountID]*Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Accounts = map[wire.AccountID]*Account{}
	for id, a := range snapshot {
		s.Accounts[id] = a.clone()
	}
}

// Load answers a Need as an honest host would.
func (s *Store) Load(n wire.Need) wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out wire.State
	a := s.Accounts[n.Account]
	if a == nil {
		return out
	}
	if n.State {
		out.Newest, out.Head, out.Wraps = a.Entries[len(a.Entries)-1], a.Head, slices.Clone(a.Wraps)
	}
	if n.After != nil {
		rest := a.after(*n.After)
		out.Entries = slices.Clone(rest[:min(len(rest), wire.MaxEntries)])
	}
	for _, h := range n.Records {
		if r, ok := a.Records[h]; ok {
			out.Records = append(out.Records, r)
		}
	}
	for _, d := range n.Blobs {
		out.Blobs = append(out.Blobs, a.Blobs[d])
	}
	if n.Manifest {
		out.Manifest = a.Manifest
	}
	return out
}

// Newest implements the local ledger's store.
func (s *Store) Newest(_ context.Context, account wire.AccountID) ([]byte, error) {
	return s.Load(wire.Need{Account: account, State: true}).Newest, nil
}

// Commit implements the local ledger's store.
func (s *Store) Commit(_ context.Context, c *wire.Commit) (wire.Appended, error) {
	fault := NoFault
	if s.Before != nil {
		fault = s.Before(c)
	}
	if fault == Late {
		s.mu.Lock()
		s.late = append(s.late, c)
		s.mu.Unlock()
	}
	if fault == Failed || fault == Late {
		return wire.Appended{}, wire.Errorf(wire.CodeUnavailable, "write failed")
	}
	done, err := s.commit(c)
	if fault == Twice && err == nil {
		done, err = s.commit(c)
	}
	if fault == FailedButDone && err == nil {
		return wire.Appended{}, wire.Errorf(wire.CodeUnavailable, "write failed")
	}
	return done, err
}

// Arrive brings what is late. What it finds when it comes decides.
func (s *Store) Arrive() {
	s.mu.Lock()
	late := s.late
	s.late = nil
	s.mu.Unlock()
	for _, c := range late {
		s.commit(c)
	}
}

func (s *Store) commit(c *wire.Commit) (wire.Appended, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := ledger.ParseEntry(c.Append.Entry)
	if err != nil {
		return wire.Appended{}, err
	}
	head := ledger.HeadOf(e, c.Append.Entry)
	a := s.Accounts[c.Append.Account]
	if a == nil {
		a = &Account{Records: map[wire.Handle][]byte{}, Blobs: map[wire.Digest][]byte{}}
	}
	switch newest := a.Newest(); {
	case newest == head:
		return wire.Appended{Newest: head}, nil
	case newest != e.After():
		return wire.Appended{}, wire.Errorf(wire.CodeConflict, "expected head is not the newest")
	}
	s.Accounts[c.Append.Account] = a
	a.Entries = append(a.Entries, c.Append.Entry)
	if len(c.Head) > 0 {
		a.Head = c.Head
	}
	if len(c.Manifest) > 0 {
		a.Manifest = c.Manifest
	}
	for _, b := range c.Records {
		r, err := wire.ParseRecord(b)
		if err != nil {
			return wire.Appended{}, err
		}
		a.Records[r.Handle] = b
	}
	for _, h := range c.Deleted {
		delete(a.Records, h)
	}
	for _, b := range c.Blobs {
		a.Blobs[wire.BlobHash(b)] = b
	}
	for _, d := range c.DroppedBlobs {
		delete(a.Blobs, d)
	}
	same := func(x, y wire.Wrap) bool {
		return x.Generation == y.Generation && x.Epoch == y.Epoch && x.KEK == y.KEK
	}
	for _, w := range slices.Concat(c.DroppedWraps, c.Wraps) {
		a.Wraps = slices.DeleteFunc(a.Wraps, func(o wire.Wrap) bool { return same(o, w) })
	}
	a.Wraps = append(a.Wraps, c.Wraps...)
	if c.SetFeedTokens {
		a.FeedTokens = c.FeedTokens
	}
	return wire.Appended{Newest: head}, nil
}

// Stage implements the azure ledger's store: it keeps a commit beside the account.
func (s *Store) Stage(_ context.Context, c *wire.Commit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staged[ledger.EntryHash(c.Append.Entry)] = c
	return nil
}

// Settle implements the azure ledger's store.
func (s *Store) Settle(_ context.Context, account wire.AccountID, entry wire.Digest) error {
	s.mu.Lock()
	c, a := s.staged[entry], s.Accounts[account]
	s.mu.Unlock()
	switch {
	case c != nil:
		_, err := s.commit(c)
		return err
	case a != nil && ledger.EntryHash(a.Entries[len(a.Entries)-1]) == entry:
		return nil
	}
	return wire.Errorf(wire.CodeNotFound, "nothing is staged under this hash")
}
