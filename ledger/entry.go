// Package ledger is the append-only, hash-chained, signed history: one stream per
// account. It owns the entries' format, their chains and signatures, and the
// interface that every backend fulfils; the conformance suite in ledgertest says
// what that interface means.
//
// It trusts the holder of the ledger key (the enclave) for what an entry says, and
// nobody for which entry is the newest: that is the backends' matter.
package ledger

import (
	"bytes"
	"crypto/ed25519"
	"fmt"

	"github.com/passclave/passclave/wire"
)

// Entry is one link of a stream.
type Entry struct {
	Version    uint64        `cbor:"1,keyasint"`
	Ledger     []byte        `cbor:"2,keyasint"` // ledger ID, 32 bytes
	Stream     wire.StreamID `cbor:"3,keyasint"`
	Sequence   uint64        `cbor:"4,keyasint"` // from 1
	Previous   wire.Digest   `cbor:"5,keyasint"` // hash of the entry before; zero for the first
	Generation uint64        `cbor:"6,keyasint"`
	Epoch      uint64        `cbor:"7,keyasint"`
	Head       wire.Digest   `cbor:"8,keyasint"`  // SHA-256 of the sealed account head in force
	Request    wire.Digest   `cbor:"9,keyasint"`  // H("envelope", envelope): of the ciphertext, since a hash of the plaintext would test PINs
	Note       []byte        `cbor:"10,keyasint"` // box of fixed size
	Signer     SignerID      `cbor:"11,keyasint"`
	Signature  []byte        `cbor:"12,keyasint"` // Ed25519 over the CBOR of ["entry", version, all other fields, those that are absent left out]
	// Restored, of a RESTORE, is the place that the account was taken back to, by its
	// devices' word, after the host lost what came behind it. Previous names the newest
	// entry that the ledger had: sequences go on, and nothing is endorsed twice.
	Restored *wire.Head `cbor:"13,keyasint,omitempty"`
}

// SignerID names a ledger key: the first 8 bytes of H("ledger signer", public key).
type SignerID [8]byte

// NewSignerID returns the ID of an Ed25519 public key.
func NewSignerID(public ed25519.PublicKey) SignerID {
	h := wire.Hash("ledger signer", []byte(public))
	return SignerID(h[:8])
}

func (e *Entry) message() []byte {
	fields := []any{e.Version, e.Ledger, e.Stream, e.Sequence, e.Previous, e.Generation, e.Epoch, e.Head, e.Request, e.Note, e.Signer[:]}
	if e.Restored != nil {
		fields = append(fields, e.Restored.Sequence, e.Restored.Hash)
	}
	h := wire.Hash("entry", fields...)
	return h[:]
}

// Sign fills in version, signer and signature and returns the encoded entry.
func (e *Entry) Sign(key ed25519.PrivateKey) []byte {
	return e.SignWith(key.Public().(ed25519.PublicKey), func(message []byte) []byte { return ed25519.Sign(key, message) })
}

// SignWith is Sign for those who keep the private key elsewhere: sign returns the
// Ed25519 signature of a message.
func (e *Entry) SignWith(public ed25519.PublicKey, sign func(message []byte) []byte) []byte {
	e.Version = wire.Version
	e.Signer = NewSignerID(public)
	e.Signature = sign(e.message())
	return wire.Marshal(e)
}

// ParseEntry decodes an entry. Its signature and its links are not checked.
func ParseEntry(data []byte) (*Entry, error) {
	var e Entry
	if err := wire.Unmarshal(data, &e); err != nil {
		return nil, wire.NewError(wire.CodeEntry, err)
	}
	if e.Version != wire.Version || len(e.Ledger) != 32 || e.Sequence == 0 || len(e.Signature) != ed25519.SignatureSize || len(e.Note) != NoteSize {
		return nil, wire.Errorf(wire.CodeEntry, "field out of range")
	}
	if r := e.Restored; r != nil && (r.Sequence == 0 || r.Sequence >= e.Sequence-1) {
		return nil, wire.Errorf(wire.CodeEntry, "a restore that takes nothing back")
	}
	return &e, nil
}

// Follows reports whether the entry is the next one behind a place: the one that names it
// as the previous, or a restore that goes on from there.
func (e *Entry) Follows(at wire.Head) bool {
	return e.Sequence == at.Sequence+1 && e.Previous == at.Hash || e.Restored != nil && *e.Restored == at
}

// After returns the place that a host must be at to append the entry: that of the previous
// one, or what a restore goes on from.
func (e *Entry) After() wire.Head {
	if e.Restored != nil {
		return *e.Restored
	}
	return wire.Head{Sequence: e.Sequence - 1, Hash: e.Previous}
}

// TakesBack reports whether the entry is a restore that took back the entry at a place,
// or one that stood beside it.
func (e *Entry) TakesBack(at wire.Head) bool {
	return e.Restored != nil && e.Restored.Sequence < at.Sequence && at.Sequence < e.Sequence && !e.Follows(at)
}

// EntryHash is what the next entry, receipts and devices name an entry by:
// H("entry hash", encoded entry), signature and all.
func EntryHash(encoded []byte) wire.Digest { return wire.Hash("entry hash", encoded) }

// HeadOf returns the place of an encoded entry.
func HeadOf(e *Entry, encoded []byte) wire.Head {
	return wire.Head{Sequence: e.Sequence, Hash: EntryHash(encoded)}
}

// Verifier checks entries of one ledger with public keys alone.
type Verifier struct {
	Ledger  []byte // ledger ID
	Signers map[SignerID]ed25519.PublicKey
	order   map[SignerID]int // place in the succession
}

// Superseded reports whether the ledger key named first is an older one than the
// other. A stream never goes back to an older key: who does may hold a KEK version
// that leaked. Keys that are not known are not older.
func (v *Verifier) Superseded(signer, by SignerID) bool {
	at, known := v.order[signer]
	return known && at < v.order[by]
}

// Verify decodes an entry of a stream and checks that it belongs to this ledger
// and stream and that a known ledger key signed it. Its links are not checked.
func (v *Verifier) Verify(stream wire.StreamID, encoded []byte) (*Entry, error) {
	e, err := ParseEntry(encoded)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(e.Ledger, v.Ledger) || e.Stream != stream {
		return nil, wire.Errorf(wire.CodeEntry, "entry of another ledger or stream")
	}
	key, ok := v.Signers[e.Signer]
	if !ok {
		return nil, wire.Errorf(wire.CodeEntry, "entry signed by an unknown ledger key")
	}
	if !ed25519.Verify(key, e.message(), e.Signature) {
		return nil, wire.Errorf(wire.CodeEntry, "signature of entry %d", e.Sequence)
	}
	return e, nil
}

// VerifyAppend is Verify for an entry that is to be appended: its previous one must be
// the expected head.
func (v *Verifier) VerifyAppend(a *wire.Append) (*Entry, error) {
	e, err := v.Verify(a.Stream, a.Entry)
	if err != nil {
		return nil, err
	}
	if e.Sequence != a.Expected.Sequence+1 || e.Previous != a.Expected.Hash {
		return nil, wire.Errorf(wire.CodeEntry, "entry does not follow the expected head")
	}
	return e, nil
}

// VerifyChain checks entries that follow from, oldest first: signatures, links,
// sequences without a gap but for restores, and that generation, epoch and ledger key never go back.
// It returns the entries and the head they lead to.
//
// What the entry before the first was signed by, and its epoch, it does not know:
// who remembers them compares them ([Verifier.Superseded]).
func (v *Verifier) VerifyChain(stream wire.StreamID, from wire.Head, encoded [][]byte) ([]*Entry, wire.Head, error) {
	entries := make([]*Entry, 0, len(encoded))
	var last *Entry
	for _, b := range encoded {
		e, err := v.Verify(stream, b)
		if err != nil {
			return nil, wire.Head{}, err
		}
		if !e.Follows(from) {
			return nil, wire.Head{}, wire.Errorf(wire.CodeEntry, "entry %d does not follow entry %d", e.Sequence, from.Sequence)
		}
		if last != nil && (e.Generation < last.Generation || e.Generation == last.Generation && e.Epoch < last.Epoch) {
			return nil, wire.Head{}, wire.Errorf(wire.CodeEntry, "entry %d goes back to an earlier epoch", e.Sequence)
		}
		if last != nil && v.Superseded(e.Signer, last.Signer) {
			return nil, wire.Head{}, wire.Errorf(wire.CodeEntry, "entry %d is signed by an older ledger key than the one before", e.Sequence)
		}
		from, last = HeadOf(e, b), e
		entries = append(entries, e)
	}
	return entries, from, nil
}

// Signer is a ledger key as others know it. Keys succeed one another with the
// versions of the KEK.
type Signer struct {
	Public    ed25519.PublicKey
	Signature []byte // by the predecessor, over H("ledger successor", ledger ID, predecessor, successor); none for the first
}

// Key derives the ledger key of one KEK version.
func Key(ledgerID, kek []byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(wire.LedgerSeed(kek, ledgerID))
}

// Succession derives the ledger keys of KEK versions, oldest first, and signs each
// by its predecessor.
func Succession(ledgerID []byte, keks [][]byte) ([]ed25519.PrivateKey, []Signer) {
	var keys []ed25519.PrivateKey
	var signers []Signer
	for i, kek := range keks {
		key := Key(ledgerID, kek)
		s := Signer{Public: key.Public().(ed25519.PublicKey)}
		if i > 0 {
			s = Succeed(ledgerID, keys[i-1], s.Public)
		}
		keys, signers = append(keys, key), append(signers, s)
	}
	return keys, signers
}

// Succeed makes a ledger key the successor of another.
func Succeed(ledgerID []byte, former ed25519.PrivateKey, public ed25519.PublicKey) Signer {
	return Signer{Public: public, Signature: ed25519.Sign(former, successor(ledgerID, former.Public().(ed25519.PublicKey), public))}
}

func successor(ledgerID, from, to []byte) []byte {
	h := wire.Hash("ledger successor", ledgerID, from, to)
	return h[:]
}

// NewVerifier checks that each signer but the first is signed by the one before,
// and returns a verifier for all of them. That the list is this ledger's own is
// for the caller to know: from evidence, or from what a device pinned.
func NewVerifier(ledgerID []byte, signers []Signer) (*Verifier, error) {
	v := &Verifier{Ledger: ledgerID, Signers: map[SignerID]ed25519.PublicKey{}, order: map[SignerID]int{}}
	for i, s := range signers {
		if len(s.Public) != ed25519.PublicKeySize {
			return nil, wire.Errorf(wire.CodeEntry, "ledger key %d has a wrong size", i)
		}
		if i > 0 && !ed25519.Verify(signers[i-1].Public, successor(ledgerID, signers[i-1].Public, s.Public), s.Signature) {
			return nil, wire.NewError(wire.CodeEntry, fmt.Errorf("ledger key %d is not signed by its predecessor", i))
		}
		id := NewSignerID(s.Public)
		v.Signers[id], v.order[id] = s.Public, i
	}
	if len(v.Signers) == 0 {
		return nil, wire.Errorf(wire.CodeEntry, "no ledger key")
	}
	return v, nil
}
