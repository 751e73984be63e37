package endorsement_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// exchange is an ask with a member's answer.
type exchange struct {
	ask     *endorsement.Ask
	encoded []byte
	answer  endorsement.Answer
	by      member
	as      endorsement.Member
}

func newExchange(t testing.TB) *exchange {
	t.Helper()
	m, g := members(t, 1)
	x := &exchange{by: m[0], as: g[0]}
	at := wire.Head{Sequence: 4, Hash: digest()}
	x.ask = &endorsement.Ask{View: digest(), Nonce: digest(), Reads: []wire.StreamID{stream(), stream()}}
	x.ask.Appends = []endorsement.Append{{Stream: stream(), Expected: at, Next: wire.Head{Sequence: 5, Hash: digest()}}}
	x.ask.Sign(m[0].public(), signer(m[0]))
	x.encoded = wire.Marshal(x.ask)
	x.answer = endorsement.Answer{Heads: []wire.Head{{Sequence: 1, Hash: digest()}, {}, x.ask.Appends[0].Next}, Discontinued: []uint64{1}}
	x.answer.Sign(x.by.key, x.ask.View, x.encoded)
	return x
}

func (x *exchange) verify() error {
	_, err := endorsement.VerifyAnswer(&x.as, x.ask, x.encoded, wire.Marshal(&x.answer))
	return err
}

// An answer is one member's word about one ask, all of it.
func TestForgedAnswer(t *testing.T) {
	t.Parallel()
	if err := newExchange(t).verify(); err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(t *testing.T, x *exchange){
		"another member's": func(t *testing.T, x *exchange) { _, g := members(t, 1); x.as = g[0] },
		"another nonce": func(_ *testing.T, x *exchange) {
			x.ask.Nonce = digest()
			x.encoded = wire.Marshal(x.ask)
		},
		"another stream": func(_ *testing.T, x *exchange) {
			x.ask.Reads[0] = stream()
			x.encoded = wire.Marshal(x.ask)
		},
		"the order of two streams": func(_ *testing.T, x *exchange) {
			x.ask.Reads[0], x.ask.Reads[1] = x.ask.Reads[1], x.ask.Reads[0]
			x.encoded = wire.Marshal(x.ask)
		},
		"another append": func(_ *testing.T, x *exchange) {
			x.ask.Appends[0].Next.Hash = digest()
			x.encoded = wire.Marshal(x.ask)
		},
		"another view in its signature": func(_ *testing.T, x *exchange) { x.answer.Sign(x.by.key, digest(), x.encoded) },
		"an older head":                 func(_ *testing.T, x *exchange) { x.answer.Heads[2].Sequence-- },
		"another hash":                  func(_ *testing.T, x *exchange) { x.answer.Heads[0].Hash = digest() },
		"no longer discontinued":        func(_ *testing.T, x *exchange) { x.answer.Discontinued = nil },
		"another one discontinued":      func(_ *testing.T, x *exchange) { x.answer.Discontinued[0] = 0 },
		"fewer heads, signed": func(_ *testing.T, x *exchange) {
			x.answer.Heads = x.answer.Heads[:2]
			x.answer.Sign(x.by.key, x.ask.View, x.encoded)
		},
		"more heads, signed": func(_ *testing.T, x *exchange) {
			x.answer.Heads = append(x.answer.Heads, wire.Head{})
			x.answer.Sign(x.by.key, x.ask.View, x.encoded)
		},
		"discontinued beyond the streams, signed": func(_ *testing.T, x *exchange) {
			x.answer.Discontinued[0] = 3
			x.answer.Sign(x.by.key, x.ask.View, x.encoded)
		},
		"more discontinued than streams, signed": func(_ *testing.T, x *exchange) {
			x.answer.Discontinued = []uint64{0, 0, 0, 0}
			x.answer.Sign(x.by.key, x.ask.View, x.encoded)
		},
		"no signature": func(_ *testing.T, x *exchange) { x.answer.Signature = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t)
			forge(t, x)
			wantCode(t, x.verify(), wire.CodeReceipt)
		})
	}
}

func TestEveryByteOfAnAnswerCounts(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	answer := wire.Marshal(&x.answer)
	for i := range answer {
		for _, bit := range []byte{1, 0x10, 0x80} {
			flipped := append([]byte{}, answer...)
			flipped[i] ^= bit
			if _, err := endorsement.VerifyAnswer(&x.as, x.ask, x.encoded, flipped); wire.CodeOf(err) != wire.CodeReceipt {
				t.Fatalf("byte %d of %d, bit %#x: %v", i, len(answer), bit, err)
			}
		}
	}
	// What was asked counts to the byte as well.
	for i := range x.encoded {
		asked := append([]byte{}, x.encoded...)
		asked[i] ^= 1
		if _, err := endorsement.VerifyAnswer(&x.as, x.ask, asked, answer); wire.CodeOf(err) != wire.CodeReceipt {
			t.Fatalf("byte %d of the ask: %v", i, err)
		}
	}
}

func TestAskRefused(t *testing.T) {
	t.Parallel()
	at := wire.Head{Sequence: 4, Hash: digest()}
	for name, a := range map[string]*endorsement.Ask{
		"nothing":                  {},
		"too much":                 {Reads: make([]wire.StreamID, endorsement.MaxStreams+1)},
		"an append that skips":     {Appends: []endorsement.Append{{Expected: at, Next: wire.Head{Sequence: 6}}}},
		"an append in place":       {Appends: []endorsement.Append{{Expected: at, Next: wire.Head{Sequence: 4}}}},
		"an append that goes back": {Appends: []endorsement.Append{{Expected: at, Next: wire.Head{Sequence: 3}}}},
		"an append behind the end": {Appends: []endorsement.Append{{Expected: wire.Head{Sequence: ^uint64(0)}, Next: wire.Head{}}}},
	} {
		if _, err := endorsement.ParseAsk(wire.Marshal(a)); wire.CodeOf(err) != wire.CodeMalformed {
			t.Errorf("%s: got %v, want %s", name, err, wire.CodeMalformed)
		}
	}
	if _, err := endorsement.ParseAsk(wire.Marshal(&endorsement.Ask{Reads: make([]wire.StreamID, endorsement.MaxStreams)})); err != nil {
		t.Error(err)
	}
}

// A ledger key vouches for appends in one view, over one nonce.
func TestSignatureOfAnAsk(t *testing.T) {
	t.Parallel()
	m, _ := members(t, 2)
	sign := func(a *endorsement.Ask) { a.Sign(m[0].public(), signer(m[0])) }
	a := &endorsement.Ask{View: digest(), Nonce: digest(), Appends: []endorsement.Append{{Next: wire.Head{Sequence: 1}}}}
	if sign(a); !a.SignedBy(m[0].public()) {
		t.Fatal("not its signer's")
	}
	if a.SignedBy(m[1].public()) {
		t.Error("another key's")
	}
	for name, change := range map[string]func(*endorsement.Ask){
		"view":   func(a *endorsement.Ask) { a.View = digest() },
		"nonce":  func(a *endorsement.Ask) { a.Nonce = digest() },
		"append": func(a *endorsement.Ask) { a.Appends[0].Next.Hash = digest() },
		"added":  func(a *endorsement.Ask) { a.Appends = append(a.Appends, a.Appends[0]) },
	} {
		b := *a
		b.Appends = append([]endorsement.Append{}, a.Appends...)
		if change(&b); b.SignedBy(m[0].public()) {
			t.Errorf("%s is not signed", name)
		}
	}
}

func signer(m member) func([]byte) []byte {
	return func(b []byte) []byte { return ed25519.Sign(m.key, b) }
}
