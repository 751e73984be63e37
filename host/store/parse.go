package store

import (
	"math"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Parsed is a commit with what its entry and records say of themselves: what a
// database's keys are made of.
type Parsed struct {
	*wire.Commit
	Entry   *ledger.Entry
	Place   wire.Head     // of the entry
	Handles []wire.Handle // of Records
	Size    int           // bytes, about
}

// Parse reads a commit. CodeEntry: the entry does not follow the place expected, or is
// of another stream than the account's. An account has one stream of a ledger, so that
// what is unique by (account, sequence) is so by (stream, sequence), too.
//
// Signatures are not checked: they are the enclave's matter.
func Parse(c *wire.Commit) (*Parsed, error) {
	a := &c.Append
	e, err := ledger.ParseEntry(a.Entry)
	if err != nil {
		return nil, err
	}
	if e.Stream != a.Stream || e.Stream != wire.Stream(e.Ledger, a.Account) {
		return nil, wire.Errorf(wire.CodeEntry, "entry of another stream")
	}
	if e.Sequence != a.Expected.Sequence+1 || e.Previous != a.Expected.Hash {
		return nil, wire.Errorf(wire.CodeEntry, "the entry does not follow the expected head")
	}
	if max(e.Sequence, e.Generation, e.Epoch) > math.MaxInt64 {
		return nil, wire.Errorf(wire.CodeEntry, "number out of the database's range")
	}
	p := &Parsed{Commit: c, Entry: e, Place: ledger.HeadOf(e, a.Entry), Size: len(a.Entry) + len(c.Head) + len(c.Manifest)}
	for _, b := range c.Records {
		r, err := wire.ParseRecord(b)
		if err != nil {
			return nil, err
		}
		p.Handles = append(p.Handles, r.Handle)
		p.Size += len(b)
	}
	for _, b := range c.Blobs {
		p.Size += len(b)
	}
	for _, w := range c.Wraps {
		if err := inRange(w); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func inRange(w wire.Wrap) error {
	if max(w.Generation, w.Epoch) > math.MaxInt64 {
		return wire.Errorf(wire.CodeArgument, "wrap out of the database's range")
	}
	return nil
}
