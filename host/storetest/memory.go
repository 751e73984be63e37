package storetest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Memory is a [store.Store] in memory: the model that backends are compared with,
// and a quick store for tests of the host.
type Memory struct {
	mu       sync.Mutex
	accounts map[wire.AccountID]*account
	notes    map[string][]byte
	ledger   []byte
	staged   map[wire.Digest]*wire.Commit
}

var _ store.Store = (*Memory)(nil)

type account struct {
	entries  [][]byte
	places   []wire.Head
	head     []byte
	manifest []byte
	wraps    []wire.Wrap
	records  map[wire.Handle]store.Record
	blobs    map[wire.Digest][]byte
	tokens   []wire.Digest
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{accounts: map[wire.AccountID]*account{}, notes: map[string][]byte{}, staged: map[wire.Digest]*wire.Commit{}}
}

func (a *account) newest() wire.Head {
	if a == nil || len(a.places) == 0 {
		return wire.Head{}
	}
	return a.places[len(a.places)-1]
}

// Load implements [store.Store].
func (m *Memory) Load(_ context.Context, n wire.Need) (wire.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out wire.State
	a := m.accounts[n.Account]
	if a == nil {
		if len(n.Blobs) > 0 {
			out.Blobs = make([][]byte, len(n.Blobs))
		}
		return out, nil
	}
	if n.State {
		out.Newest, out.Head, out.Wraps = a.entries[len(a.entries)-1], a.head, a.inForce()
	}
	if n.After != nil {
		i := 0
		for i < len(a.places) && a.places[i].Sequence <= *n.After {
			i++
		}
		if rest := a.entries[i:]; len(rest) > 0 {
			out.Entries = slices.Clone(rest[:min(len(rest), wire.MaxEntries)])
		}
	}
	for _, h := range n.Records {
		if r, ok := a.records[h]; ok {
			out.Records = append(out.Records, r.Body)
		}
	}
	for _, d := range n.Blobs {
		out.Blobs = append(out.Blobs, a.blobs[d])
	}
	if n.Manifest {
		out.Manifest = a.manifest
	}
	return out, nil
}

// Stage implements [store.Store].
func (m *Memory) Stage(_ context.Context, c *wire.Commit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.staged[ledger.EntryHash(c.Append.Entry)] = c
	return nil
}

// Settle implements [store.Store].
func (m *Memory) Settle(ctx context.Context, id wire.AccountID, entry wire.Digest) error {
	m.mu.Lock()
	c, a := m.staged[entry], m.accounts[id]
	m.mu.Unlock()
	if c != nil && c.Append.Account == id {
		done, err := m.Commit(ctx, c)
		if err == nil {
			m.forget(id, done.Newest.Sequence)
		}
		return err
	}
	if a != nil && slices.ContainsFunc(a.places, func(h wire.Head) bool { return h.Hash == entry }) {
		return nil
	}
	return wire.Errorf(wire.CodeNotFound, "nothing is staged under this hash")
}

// forget drops what is staged up to a place.
func (m *Memory) forget(id wire.AccountID, sequence uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.staged, func(_ wire.Digest, c *wire.Commit) bool {
		return c.Append.Account == id && c.Append.Expected.Sequence < sequence
	})
}

// Append implements [store.Store].
func (m *Memory) Append(ctx context.Context, a wire.Append) (wire.Appended, error) {
	return m.Commit(ctx, &wire.Commit{Append: a})
}

// Commit implements [store.Store].
func (m *Memory) Commit(_ context.Context, c *wire.Commit) (wire.Appended, error) {
	e, err := ledger.ParseEntry(c.Append.Entry)
	if err != nil {
		return wire.Appended{}, err
	}
	if e.Stream != c.Append.Stream || e.Sequence != c.Append.Expected.Sequence+1 || e.Previous != c.Append.Expected.Hash {
		return wire.Appended{}, wire.Errorf(wire.CodeEntry, "does not follow")
	}
	var records []store.Record
	for _, b := range c.Records {
		r, err := wire.ParseRecord(b)
		if err != nil {
			return wire.Appended{}, err
		}
		records = append(records, store.Record{Handle: r.Handle, Changed: e.Sequence, Body: b})
	}
	place := ledger.HeadOf(e, c.Append.Entry)

	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[c.Append.Account]
	if a != nil && slices.Contains(a.places, place) {
		return wire.Appended{Newest: place}, nil
	}
	if a.newest() != e.After() {
		return wire.Appended{}, wire.Errorf(wire.CodeConflict, "another entry stands")
	}
	if m.ledger != nil && !bytes.Equal(m.ledger, e.Ledger) {
		return wire.Appended{}, wire.Errorf(wire.CodeEntry, "another ledger")
	}
	m.ledger = e.Ledger
	if a == nil {
		a = &account{records: map[wire.Handle]store.Record{}, blobs: map[wire.Digest][]byte{}}
		m.accounts[c.Append.Account] = a
	}
	a.entries, a.places = append(a.entries, c.Append.Entry), append(a.places, place)
	if len(c.Head) > 0 {
		a.head = c.Head
	}
	if len(c.Manifest) > 0 {
		a.manifest = c.Manifest
	}
	a.put(c, records)
	return wire.Appended{Newest: place}, nil
}

func (a *account) put(c *wire.Commit, records []store.Record) {
	for _, h := range c.Deleted {
		delete(a.records, h)
	}
	for _, r := range records {
		a.records[r.Handle] = r
	}
	for _, d := range c.DroppedBlobs {
		delete(a.blobs, d)
	}
	for _, b := range c.Blobs {
		a.blobs[wire.BlobHash(b)] = b
	}
	for _, w := range slices.Concat(c.DroppedWraps, c.Wraps) {
		a.wraps = slices.DeleteFunc(a.wraps, func(o wire.Wrap) bool {
			return o.Generation == w.Generation && o.Epoch == w.Epoch && o.KEK == w.KEK
		})
	}
	a.wraps = append(a.wraps, c.Wraps...)
	if c.SetFeedTokens {
		a.tokens = c.FeedTokens
	}
}

// Feed implements [store.Store].
func (m *Memory) Feed(_ context.Context, id wire.AccountID, token wire.Digest, after uint64, limit int) (wire.FeedPage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accounts[id]
	if a == nil || !slices.Contains(a.tokens, token) {
		return wire.FeedPage{}, wire.Errorf(wire.CodeUnknownDevice, "no such feed token")
	}
	var changed []store.Record
	for _, r := range a.records {
		if r.Changed > after {
			changed = append(changed, r)
		}
	}
	slices.SortFunc(changed, func(x, y store.Record) int {
		return cmp.Or(cmp.Compare(x.Changed, y.Changed), bytes.Compare(x.Handle[:], y.Handle[:]))
	})
	page := wire.FeedPage{Manifest: a.manifest, Next: a.newest().Sequence}
	for i, r := range changed {
		if i >= limit && r.Changed != changed[i-1].Changed {
			page.Next, page.More = changed[i-1].Changed, true
			break
		}
		page.Records = append(page.Records, r.Body)
	}
	return page, nil
}

// Note implements [store.Store].
func (m *Memory) Note(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notes[name], nil
}

// SetNote implements [store.Store].
func (m *Memory) SetNote(_ context.Context, name string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes[name] = value
	return nil
}

// Ledger implements [store.Store].
func (m *Memory) Ledger(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger, nil
}

// Writable implements [store.Store].
func (m *Memory) Writable(context.Context) error { return nil }

// Close implements [store.Store].
func (m *Memory) Close() error { return nil }
