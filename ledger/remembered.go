package ledger

import (
	"slices"

	"github.com/passclave/passclave/wire"
)

// Remembered is what a device keeps of a stream between two answers: the newest entry
// that it accepted. It only ever goes on along the chain. What lies on a branch that
// was begun behind it, it cannot tell from the stream itself.
type Remembered struct {
	Head       wire.Head
	Generation uint64 // of the entry, and its epoch; 0 where the entry itself was never seen
	Epoch      uint64
	Signer     []byte // ID of the ledger key that signed the entry; absent where the entry itself was never seen
}

func fork(format string, args ...any) error { return wire.Errorf(wire.CodeFork, format, args...) }

// Extend moves r along the entries of an answer, oldest first: to its newest entry, or
// as far as a full page of wire.MaxEntries reaches. It returns the entries passed.
// [wire.CodeFork]: the newest entry does not descend from what is remembered;
// [wire.CodeEntry]: an entry is not this stream's. In both cases r stays as it is.
func (r *Remembered) Extend(v *Verifier, stream wire.StreamID, newest wire.Head, encoded [][]byte) ([]*Entry, error) {
	known := r.Head
	switch {
	case newest.Sequence < known.Sequence:
		return nil, fork("the newest entry is %d, this device remembers entry %d", newest.Sequence, known.Sequence)
	case newest.Sequence == known.Sequence && newest.Hash != known.Hash:
		return nil, fork("another entry %d than the one this device remembers", known.Sequence)
	case newest.Sequence == known.Sequence:
		return nil, nil
	case len(encoded) == 0:
		return nil, fork("no entry that follows entry %d", known.Sequence)
	}
	if first, err := ParseEntry(encoded[0]); err == nil {
		switch {
		case first.TakesBack(known):
			return nil, fork("entry %d restored entry %d and took back entry %d, which this device remembers", first.Sequence, first.Restored.Sequence, known.Sequence)
		case first.Sequence == known.Sequence+1 && first.Previous != known.Hash:
			return nil, fork("entry %d follows another entry %d than the one this device remembers", first.Sequence, known.Sequence)
		}
	}
	return r.Follow(v, stream, encoded, []wire.Head{newest}, len(encoded) >= wire.MaxEntries)
}

// Follow verifies entries behind what is remembered, oldest first, and moves r to the
// last of them. All heads given must lie on the way; unless partial, the last entry
// must be the last of them. Errors are those of Extend.
func (r *Remembered) Follow(v *Verifier, stream wire.StreamID, encoded [][]byte, through []wire.Head, partial bool) ([]*Entry, error) {
	entries, reached, err := v.VerifyChain(stream, r.Head, encoded)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 && (entries[0].Generation < r.Generation || entries[0].Generation == r.Generation && entries[0].Epoch < r.Epoch) {
		return nil, fork("entry %d goes back to an earlier epoch", entries[0].Sequence)
	}
	if len(entries) > 0 && len(r.Signer) == len(SignerID{}) && v.Superseded(entries[0].Signer, SignerID(r.Signer)) {
		return nil, fork("entry %d is signed by an older ledger key than the one this device remembers", entries[0].Sequence)
	}
	for _, h := range through {
		i := slices.IndexFunc(entries, func(e *Entry) bool { return e.Sequence == h.Sequence })
		if i < 0 && reached.Sequence > h.Sequence || i < 0 && !partial {
			return nil, fork("the entries do not lead to entry %d", h.Sequence)
		}
		if i >= 0 && HeadOf(entries[i], encoded[i]) != h {
			return nil, fork("the entries lead to another entry %d than the newest", h.Sequence)
		}
	}
	if n := len(entries); n > 0 {
		*r = Remembered{Head: reached, Generation: entries[n-1].Generation, Epoch: entries[n-1].Epoch, Signer: entries[n-1].Signer[:]}
	}
	return entries, nil
}
