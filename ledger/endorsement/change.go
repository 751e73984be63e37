package endorsement

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/passclave/passclave/wire"
)

// Succession is the operator's wish for a next view, or for the first one.
type Succession struct {
	View      []byte   `cbor:"1,keyasint"` // encoded View
	Signature []byte   `cbor:"2,keyasint"` // Ed25519 by the operator's key over H("succession", hash of the view)
	Evidence  [][]byte `cbor:"3,keyasint"` // encoded evidence of every member that the view before does not have, in any order
	Release   []byte   `cbor:"4,keyasint"` // encoded endorser release that the new members run
}

func successionMessage(view wire.Digest) []byte {
	h := wire.Hash("succession", view)
	return h[:]
}

// NewSuccession signs a view with the operator's key.
func NewSuccession(v *View, operator ed25519.PrivateKey) *Succession {
	return &Succession{View: v.Encode(), Signature: ed25519.Sign(operator, successionMessage(v.Hash()))}
}

// Verify decodes the view, if the operator signed it. The evidence of its members is
// not looked at.
func (s *Succession) Verify(operator ed25519.PublicKey) (*View, error) {
	v, err := ParseView(s.View)
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(operator, successionMessage(v.Hash()), s.Signature) {
		return nil, wire.Errorf(wire.CodeView, "the view is not signed by the operator's key")
	}
	return v, nil
}

// Finalised is the last word of a member in a view: from now on it endorses nothing
// in it, its heads are the tails, and one view alone may follow. Given once, the same
// to whoever asks again.
type Finalised struct {
	Member    []byte      `cbor:"1,keyasint"` // its key
	View      wire.Digest `cbor:"2,keyasint"`
	Successor wire.Digest `cbor:"3,keyasint"` // hash of the one view that may follow
	Tails     wire.Digest `cbor:"4,keyasint"` // see TailHash
	Streams   uint64      `cbor:"5,keyasint"`
	Signature []byte      `cbor:"6,keyasint"` // Ed25519 over H("finalised", all fields above)
}

func (f *Finalised) message() []byte {
	h := wire.Hash("finalised", f.Member, f.View, f.Successor, f.Tails, f.Streams)
	return h[:]
}

// Sign makes f a member's word.
func (f *Finalised) Sign(key ed25519.PrivateKey) {
	f.Member = key.Public().(ed25519.PublicKey)
	f.Signature = ed25519.Sign(key, f.message())
}

// Verify checks that f is the word of its member. That this one belongs to a view is
// not checked.
func (f *Finalised) Verify() error {
	if len(f.Member) != ed25519.PublicKeySize || !ed25519.Verify(f.Member, f.message(), f.Signature) {
		return wire.Errorf(wire.CodeView, "signature of a member's last word")
	}
	return nil
}

// Tail is the newest head that a member endorsed of a stream.
type Tail struct {
	Stream       wire.StreamID `cbor:"1,keyasint"`
	Head         wire.Head     `cbor:"2,keyasint"`
	Discontinued bool          `cbor:"3,keyasint,omitempty"`
}

// TailHash hashes tails, which come in ascending order of streams: SHA-256 over stream ‖
// uint64 sequence ‖ hash ‖ discontinued (1 byte) each, big-endian. It grows page by page.
type TailHash struct {
	h     hash.Hash
	last  wire.StreamID
	Count uint64
}

// NewTailHash returns the hash of no tails.
func NewTailHash() *TailHash { return &TailHash{h: sha256.New()} }

// Add appends a tail; false: it is out of order.
func (t *TailHash) Add(tail Tail) bool {
	if t.Count > 0 && string(tail.Stream[:]) <= string(t.last[:]) {
		return false
	}
	var b [32 + 8 + 32 + 1]byte
	copy(b[:], tail.Stream[:])
	binary.BigEndian.PutUint64(b[32:], tail.Head.Sequence)
	copy(b[40:], tail.Head.Hash[:])
	if tail.Discontinued {
		b[72] = 1
	}
	t.h.Write(b[:])
	t.last = tail.Stream
	t.Count++
	return true
}

// Sum returns the hash of what was added.
func (t *TailHash) Sum() wire.Digest { return wire.Digest(t.h.Sum(nil)) }

// Link is one view of a chain, with the word of the view before.
type Link struct {
	View      []byte      `cbor:"1,keyasint"`           // encoded View
	Finalised []Finalised `cbor:"2,keyasint,omitempty"` // of a majority of every group of the view before; none for the first
}

// Chain is all views of one genesis, oldest first.
type Chain struct {
	Links []Link `cbor:"1,keyasint"`
}

// Verify follows the chain from the genesis view, which is known by its hash, and
// returns the newest view. Every later one must be the one and only successor that a
// majority of distinct members of every group of the view before named.
//
// That no newer view exists the chain cannot say; the members of the newest one do,
// by still answering.
func (c *Chain) Verify(ledgerID []byte, genesis wire.Digest, number uint64) (*View, error) {
	var view *View
	for i, l := range c.Links {
		next, err := ParseView(l.View)
		if err != nil {
			return nil, err
		}
		if string(next.Ledger) != string(ledgerID) || next.Genesis != number {
			return nil, wire.Errorf(wire.CodeView, "view %d is of another ledger or genesis", i+1)
		}
		if i == 0 {
			if next.Hash() != genesis {
				return nil, wire.Errorf(wire.CodeView, "the first view is not the genesis")
			}
		} else if err := Succeeds(view, next, l.Finalised); err != nil {
			return nil, err
		}
		view = next
	}
	if view == nil {
		return nil, wire.Errorf(wire.CodeView, "no view")
	}
	return view, nil
}

// Succeeds checks that next follows view by the word of a majority of distinct members
// of every group of view, and of no strangers.
func Succeeds(view, next *View, words []Finalised) error {
	if !next.Follows(view) {
		return wire.Errorf(wire.CodeView, "view %d does not follow view %d", next.Number, view.Number)
	}
	hash, successor := view.Hash(), next.Hash()
	named := make([]map[string]bool, len(view.Groups))
	for i := range words {
		f := &words[i]
		if f.View != hash || f.Successor != successor {
			return wire.Errorf(wire.CodeView, "a member's last word is about other views")
		}
		g := view.Find(f.Member)
		if g < 0 {
			return wire.Errorf(wire.CodeView, "the last word of a stranger")
		}
		if named[g][string(f.Member)] {
			return wire.Errorf(wire.CodeView, "a member's last word stands twice") // also bounds the work that a host can cause
		}
		if err := f.Verify(); err != nil {
			return err
		}
		if named[g] == nil {
			named[g] = map[string]bool{}
		}
		named[g][string(f.Member)] = true
	}
	for i, g := range view.Groups {
		if len(named[i]) < g.Majority() {
			return wire.Errorf(wire.CodeView, "%d of %d members of group %d named view %d", len(named[i]), len(g), i, next.Number)
		}
	}
	return nil
}
