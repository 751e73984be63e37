package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// inForce returns the wraps of the epoch in force, in order of their versions.
func (a *account) inForce() (out []wire.Wrap) {
	last, _ := ledger.ParseEntry(a.entries[len(a.entries)-1])
	for _, w := range a.wraps {
		if w.Generation == last.Generation && w.Epoch == last.Epoch {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(x, y wire.Wrap) int { return cmp.Compare(x.KEK, y.KEK) })
	return out
}

// Wrapped implements [store.Store].
func (m *Memory) Wrapped(_ context.Context, kek string, after *wire.AccountID, limit int) ([]wire.Wrapped, *wire.AccountID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []wire.AccountID
	for id := range m.accounts {
		if after == nil || bytes.Compare(id[:], after[:]) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y wire.AccountID) int { return bytes.Compare(x[:], y[:]) })
	var p store.Page
	for _, id := range ids[:min(len(ids), limit)] {
		p.Add(id, wire.Wrap{})
		for _, w := range m.accounts[id].inForce() {
			p.Add(id, w)
		}
	}
	found, next := p.Done(kek, limit)
	return found, next, nil
}

// Rewrap implements [store.Store].
func (m *Memory) Rewrap(_ context.Context, wraps []store.Rewrap) (done int, err error) {
	if err := store.CheckRewraps(wraps); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range wraps {
		a := m.accounts[r.Account]
		if a == nil {
			continue
		}
		if last, _ := ledger.ParseEntry(a.entries[len(a.entries)-1]); last.Generation != r.Wrap.Generation || last.Epoch != r.Wrap.Epoch {
			continue
		}
		a.wraps = slices.DeleteFunc(a.wraps, func(w wire.Wrap) bool {
			return w.Generation == r.Wrap.Generation && w.Epoch == r.Wrap.Epoch && (w.KEK == r.Wrap.KEK || slices.Contains(r.Former, w.KEK))
		})
		a.wraps = append(a.wraps, r.Wrap)
		done++
	}
	return done, nil
}

// Wraps implements [store.Store].
func (m *Memory) Wraps(context.Context) (map[string]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[string]uint64{}
	for _, a := range m.accounts {
		for _, w := range a.inForce() {
			counts[w.KEK]++
		}
	}
	for _, c := range m.staged {
		for _, w := range c.Wraps {
			counts[w.KEK]++
		}
	}
	return counts, nil
}
