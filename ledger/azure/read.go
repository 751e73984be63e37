package azure

import (
	"context"
	"crypto/sha256"
	"sync"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure/receipt"
	"github.com/passclave/passclave/wire"
)

// place is how far a stream was read: all committed entries up to at are in it.
type place struct {
	head              wire.Head // of the last valid entry
	signer            ledger.SignerID
	generation, epoch uint64
	at                receipt.Transaction // of the last entry seen, valid or void; zero before the first
	digest            [32]byte            // SHA-256 of its contents
}

// back reports whether an entry goes back behind the head's epoch or ledger key, as a
// chain never does.
func (p *place) back(e *ledger.Entry, v *ledger.Verifier) bool {
	return e.Generation < p.generation || e.Generation == p.generation && e.Epoch < p.epoch ||
		p.head.Sequence > 0 && v.Superseded(e.Signer, p.signer)
}

// read follows a stream from a place to its end, or to one committed transaction, and
// reports whether it met the entry with a hash as a valid one.
func (s *Service) read(ctx context.Context, stream wire.StreamID, p place, to string, wanted wire.Digest) (_ place, met bool, err error) {
	start, anchored := p, p.at == receipt.Transaction{}
	from := ""
	if !anchored {
		from = p.at.String()
	}
	err = s.client.list(ctx, s.Collection(stream), from, to, func(id receipt.Transaction, contents string) error {
		if !anchored {
			// The first is the last of the time before: a node that has something else at
			// that place, or nothing, is not of this ledger's history.
			if id != start.at || sha256.Sum256([]byte(contents)) != start.digest {
				return wire.Errorf(wire.CodeRollback, "the ledger does not have what it had")
			}
			anchored = true
			return nil
		}
		valid, err := s.take(stream, &p, id, contents)
		met = met || valid && p.head.Hash == wanted
		return err
	})
	if err != nil {
		return place{}, false, err
	}
	if !anchored {
		return place{}, false, wire.Errorf(wire.CodeRollback, "the ledger does not have what it had")
	}
	s.memory.keep(stream, p)
	return p, met, nil
}

// take moves a place over the next entry of the collection, and reports whether it is
// valid there.
func (s *Service) take(stream wire.StreamID, p *place, id receipt.Transaction, contents string) (bool, error) {
	if id.Sequence <= p.at.Sequence || id.View < p.at.View {
		return false, wire.Errorf(wire.CodeReceipt, "the ledger's entries are out of order")
	}
	p.at, p.digest = id, sha256.Sum256([]byte(contents))
	encoded, ok := s.keys.open(contents)
	if !ok {
		return false, nil
	}
	v := s.keys.verifier()
	e, err := v.Verify(stream, encoded)
	if err != nil {
		return false, nil // put in by others
	}
	if e.Sequence <= p.head.Sequence || p.back(e, v) {
		return false, nil // another was faster, or it is a copy, or of a key that leaked
	}
	if e.Sequence != p.head.Sequence+1 || e.Previous != p.head.Hash {
		// Whoever holds the ledger key wrote it behind an entry that it took for valid.
		// To skip it would be to begin a branch, with counters of its own.
		return false, wire.Errorf(wire.CodeEntry, "entry %d follows one that is not in the ledger", e.Sequence)
	}
	p.head, p.signer, p.generation, p.epoch = ledger.HeadOf(e, encoded), e.Signer, e.Generation, e.Epoch
	return true, nil
}

// maxStreams bounds how many streams are remembered. One that was forgotten is read
// from its beginning.
const maxStreams = 1 << 16

// memory is how far streams were read. It never goes back.
type memory struct {
	max int

	mu      sync.Mutex
	streams map[wire.StreamID]place
}

func newMemory() *memory { return &memory{max: maxStreams, streams: map[wire.StreamID]place{}} }

func (m *memory) of(stream wire.StreamID) place {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.streams[stream]
}

func (m *memory) keep(stream wire.StreamID, p place) {
	if p.at == (receipt.Transaction{}) {
		return // anybody can ask for accounts that do not exist
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.streams[stream]
	if known && old.at.Sequence >= p.at.Sequence {
		return
	}
	if !known && len(m.streams) >= m.max {
		for any := range m.streams {
			delete(m.streams, any)
			break
		}
	}
	m.streams[stream] = p
}
