package endorsement

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"

	"github.com/passclave/passclave/wire"
)

// View says which endorsers count. Streams are split over its groups by their ID;
// every group decides alone about its streams.
type View struct {
	Version  uint64      `cbor:"1,keyasint"`
	Ledger   []byte      `cbor:"2,keyasint"` // ledger ID, 32 bytes
	Genesis  uint64      `cbor:"3,keyasint"` // counts geneses of this ledger from 1, as wire.LedgerIdentity.Number
	Number   uint64      `cbor:"4,keyasint"` // from 1
	Previous wire.Digest `cbor:"5,keyasint"` // hash of the view before; zero for the first
	First    wire.Digest `cbor:"6,keyasint"` // hash of the first view, the genesis; zero in it
	Groups   []Group     `cbor:"7,keyasint"` // as many in every view of one genesis
}

// Group is 3 or 5 endorsers in separate failure domains.
type Group []Member

// Member is one endorser: one process, since its key lives in memory only.
type Member struct {
	Key      []byte      `cbor:"1,keyasint"` // Ed25519, 32 bytes
	Evidence wire.Digest `cbor:"2,keyasint"` // SHA-256 of the encoded evidence of purpose "endorser" for Key
}

// Limits of a view.
const (
	MaxGroups = 64
	maxNumber = 1 << 32
)

// ParseView decodes a view and checks its form: the sizes of its groups, and that no
// key stands in it twice. Who may say that it counts is not checked.
func ParseView(data []byte) (*View, error) {
	var v View
	if err := wire.Unmarshal(data, &v); err != nil {
		return nil, wire.NewError(wire.CodeView, err)
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	return &v, nil
}

func (v *View) check() error {
	switch {
	case v.Version != wire.Version || len(v.Ledger) != 32 || v.Genesis == 0:
		return wire.Errorf(wire.CodeView, "field out of range")
	case v.Number == 0 || v.Number > maxNumber || (v.Number == 1) != (v.Previous == wire.Digest{}) || (v.Number == 1) != (v.First == wire.Digest{}):
		return wire.Errorf(wire.CodeView, "the first view, and no other, has no view before it")
	case len(v.Groups) == 0 || len(v.Groups) > MaxGroups:
		return wire.Errorf(wire.CodeView, "%d groups", len(v.Groups))
	}
	seen := map[string]bool{}
	for _, g := range v.Groups {
		if len(g) != 3 && len(g) != 5 {
			return wire.Errorf(wire.CodeView, "a group of %d endorsers, not 3 or 5", len(g))
		}
		for _, m := range g {
			if len(m.Key) != ed25519.PublicKeySize {
				return wire.Errorf(wire.CodeView, "a member's key has %d bytes", len(m.Key))
			}
			if seen[string(m.Key)] {
				return wire.Errorf(wire.CodeView, "a member stands twice")
			}
			seen[string(m.Key)] = true
		}
	}
	return nil
}

// Encode returns what [ParseView] reads.
func (v *View) Encode() []byte { return wire.Marshal(v) }

// Hash is what names a view: H("view", encoded view).
func (v *View) Hash() wire.Digest { return wire.Hash("view", wire.Encoded(v.Encode())) }

// Root returns the hash of the genesis view that v says it descends from.
func (v *View) Root() wire.Digest {
	if v.Number == 1 {
		return v.Hash()
	}
	return v.First
}

// Next returns a successor with these groups, which nobody has signed.
func (v *View) Next(groups []Group) *View {
	return &View{
		Version: wire.Version, Ledger: v.Ledger, Genesis: v.Genesis, Number: v.Number + 1,
		Previous: v.Hash(), First: v.Root(), Groups: groups,
	}
}

// Follows reports whether v can be the successor of a view: all but whose word it is.
func (v *View) Follows(old *View) bool {
	return v.Number == old.Number+1 && v.Previous == old.Hash() && v.First == old.Root() &&
		v.Genesis == old.Genesis && string(v.Ledger) == string(old.Ledger) && len(v.Groups) == len(old.Groups)
}

// GroupOf returns the index of the group that decides about a stream: its ID's first
// 8 bytes, big-endian, modulo the number of groups.
func (v *View) GroupOf(stream wire.StreamID) int {
	return int(binary.BigEndian.Uint64(stream[:8]) % uint64(len(v.Groups)))
}

// Find returns the index of the group in which a key stands, -1 if it stands in none.
func (v *View) Find(key []byte) int {
	for i, g := range v.Groups {
		if g.has(key) {
			return i
		}
	}
	return -1
}

// Has reports whether a member, with the same evidence, stands in the view.
func (v *View) Has(m Member) bool {
	for _, g := range v.Groups {
		for _, o := range g {
			if string(o.Key) == string(m.Key) {
				return o.Evidence == m.Evidence
			}
		}
	}
	return false
}

func (g Group) has(key []byte) bool {
	for _, m := range g {
		if string(m.Key) == string(key) {
			return true
		}
	}
	return false
}

// Majority is how many distinct members of the group are more than half of it.
func (g Group) Majority() int { return len(g)/2 + 1 }

// EvidenceHash is how a view names the evidence of a member: the plain SHA-256 of the
// encoded bundle.
func EvidenceHash(bundle []byte) wire.Digest { return sha256.Sum256(bundle) }
