package endorsement

import (
	"crypto/ed25519"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// Ask is one round trip to one group: reads and appends of many streams, over one
// nonce of the asker. Reads may be asked by anybody; appends only by a ledger key,
// which attested enclaves alone hold.
type Ask struct {
	View      wire.Digest     `cbor:"1,keyasint"` // hash of the view that the asker holds for the current one
	Nonce     wire.Digest     `cbor:"2,keyasint"` // 32 random bytes, drawn after everything asked was
	Reads     []wire.StreamID `cbor:"3,keyasint,omitempty"`
	Appends   []Append        `cbor:"4,keyasint,omitempty"`
	Signer    ledger.SignerID `cbor:"5,keyasint"`           // with appends: the ledger key that signs them
	Signature []byte          `cbor:"6,keyasint,omitempty"` // Ed25519 over H("ask", view, nonce, appends)
}

// Append asks an endorser to remember Next instead of Expected. The asker says by it
// that the entry of Next is durable as the only one at its place, and that Expected
// was the newest head by the word of a majority.
type Append struct {
	Stream   wire.StreamID `cbor:"1,keyasint"`
	Expected wire.Head     `cbor:"2,keyasint"`
	Next     wire.Head     `cbor:"3,keyasint"` // its sequence is Expected's plus one
	// Restart: a majority of the account's devices confirmed Expected. It ends
	// discontinuation; on a stream that is not discontinued it is an append as any other.
	Restart bool `cbor:"4,keyasint,omitempty"`
}

// MaxStreams bounds the streams of one ask.
const MaxStreams = 1024

// ParseAsk decodes an ask and checks its form. Its signature is not checked.
func ParseAsk(data []byte) (*Ask, error) {
	var a Ask
	if err := wire.Unmarshal(data, &a); err != nil {
		return nil, err
	}
	if n := len(a.Reads) + len(a.Appends); n == 0 || n > MaxStreams {
		return nil, wire.Errorf(wire.CodeMalformed, "%d streams", n)
	}
	for _, p := range a.Appends {
		if p.Expected.Sequence == ^uint64(0) || p.Next.Sequence != p.Expected.Sequence+1 {
			return nil, wire.Errorf(wire.CodeMalformed, "an append that does not follow")
		}
	}
	return &a, nil
}

// Sign has a ledger key vouch for the appends: sign returns its Ed25519 signature of a
// message.
func (a *Ask) Sign(public ed25519.PublicKey, sign func(message []byte) []byte) {
	a.Signer = ledger.NewSignerID(public)
	a.Signature = sign(a.message())
}

// SignedBy reports whether the ledger key vouches for the appends.
func (a *Ask) SignedBy(public ed25519.PublicKey) bool {
	return ed25519.Verify(public, a.message(), a.Signature)
}

func (a *Ask) message() []byte {
	h := wire.Hash("ask", a.View, a.Nonce, wire.Encoded(wire.Marshal(a.Appends)))
	return h[:]
}

// Streams returns what is asked about, in the order in which an answer has it.
func (a *Ask) Streams() []wire.StreamID {
	out := append(make([]wire.StreamID, 0, len(a.Reads)+len(a.Appends)), a.Reads...)
	for _, p := range a.Appends {
		out = append(out, p.Stream)
	}
	return out
}

// Answer is one member's word: the newest head of every stream that was asked about,
// after the appends that it took. The zero Head says that it knows no such stream. An
// append was taken if its head is Next; it may have been taken before.
type Answer struct {
	Heads        []wire.Head `cbor:"1,keyasint"`
	Discontinued []uint64    `cbor:"2,keyasint,omitempty"` // indices of streams with two entries at one place: nothing is appended to them
	Signature    []byte      `cbor:"3,keyasint"`           // Ed25519 by the member over H("answer", view, H("asked", ask), heads, discontinued)
}

// answerMessage binds an answer to the very bytes of the ask, its nonce and view among them.
func answerMessage(view wire.Digest, ask []byte, a *Answer) []byte {
	h := wire.Hash("answer", view, wire.Hash("asked", ask), wire.Encoded(wire.Marshal(a.Heads)), wire.Encoded(wire.Marshal(a.Discontinued)))
	return h[:]
}

// Sign makes an answer a member's word, for an ask of the given encoding.
func (a *Answer) Sign(key ed25519.PrivateKey, view wire.Digest, ask []byte) {
	a.Signature = ed25519.Sign(key, answerMessage(view, ask, a))
}

// VerifyAnswer decodes a member's answer to an ask. encoded must be the very bytes that
// were sent, with a nonce that was never used before. Refusals have
// [wire.CodeReceipt]. That the member belongs to the group is the caller's to know.
func VerifyAnswer(member *Member, ask *Ask, encoded, answer []byte) (*Answer, error) {
	var a Answer
	if err := wire.Unmarshal(answer, &a); err != nil {
		return nil, wire.NewError(wire.CodeReceipt, err)
	}
	streams := len(ask.Reads) + len(ask.Appends)
	if len(a.Heads) != streams || len(a.Discontinued) > streams {
		return nil, wire.Errorf(wire.CodeReceipt, "%d heads for %d streams", len(a.Heads), streams)
	}
	for _, i := range a.Discontinued {
		if i >= uint64(streams) {
			return nil, wire.Errorf(wire.CodeReceipt, "a stream that was not asked about")
		}
	}
	if !ed25519.Verify(member.Key, answerMessage(ask.View, encoded, &a), a.Signature) {
		return nil, wire.Errorf(wire.CodeReceipt, "signature of an endorser's answer")
	}
	return &a, nil
}
