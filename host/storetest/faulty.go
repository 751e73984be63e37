package storetest

import (
	"context"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Fault is what goes wrong with one write.
type Fault int

const (
	NoFault       Fault = iota
	Failed              // nothing was written, and an error says so
	FailedButDone       // it was written, and an error says that it was not
	Full                // nothing was written: the disk is full
	Twice               // it came, and came again at once
	Late                // it failed as far as the caller knows, and is written by [Faulty.Deliver]
)

// Faulty is a store whose writes fail as they are told to.
type Faulty struct {
	store.Store
	// Next is asked before every write; the caller's own synchronisation guards it.
	Next func(*wire.Commit) Fault
	late []*wire.Commit
}

var errFault = wire.Errorf(wire.CodeUnavailable, "a fault that the test made")

// Append implements [store.Store].
func (f *Faulty) Append(ctx context.Context, a wire.Append) (wire.Appended, error) {
	return f.Commit(ctx, &wire.Commit{Append: a})
}

// Commit implements [store.Store].
func (f *Faulty) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	switch f.Next(c) {
	case Failed:
		return wire.Appended{}, errFault
	case Full:
		return wire.Appended{}, wire.Errorf(wire.CodeStorageFull, "a full disk that the test made")
	case FailedButDone:
		if _, err := f.Store.Commit(ctx, c); err != nil {
			return wire.Appended{}, err
		}
		return wire.Appended{}, errFault
	case Twice:
		if _, err := f.Store.Commit(ctx, c); err != nil {
			return wire.Appended{}, err
		}
	case Late:
		f.late = append(f.late, c)
		return wire.Appended{}, errFault
	}
	return f.Store.Commit(ctx, c)
}

// Deliver writes what came late and returns what became of each.
func (f *Faulty) Deliver(ctx context.Context) []error {
	var out []error
	for _, c := range f.late {
		_, err := f.Store.Commit(ctx, c)
		out = append(out, err)
	}
	f.late = nil
	return out
}
