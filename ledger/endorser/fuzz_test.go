package endorser

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// nobody admits nobody.
type nobody struct{}

func (nobody) Enclave([]byte, wire.Digest) ([]ledger.Signer, error) {
	return nil, wire.Errorf(wire.CodeEvidence, "nobody")
}
func (nobody) Successor([]byte, []byte, []byte) error {
	return wire.Errorf(wire.CodeEvidence, "nobody")
}

// FuzzFrames: without a key of the operator, an enclave or a member, no frame changes
// what an endorser remembers, and none ends it.
func FuzzFrames(f *testing.F) {
	operator := ed25519.NewKeyFromSeed(make([]byte, 32))
	ledgerID := make([]byte, 32)
	found := func() (*Endorser, *endorsement.View) {
		e := New(&Configuration{Ledger: ledgerID, Number: 1, Operator: wire.Base64(operator.Public().(ed25519.PublicKey))}, nobody{})
		v := &endorsement.View{Version: wire.Version, Ledger: ledgerID, Genesis: 1, Number: 1, Groups: []endorsement.Group{{
			{Key: e.Key()}, {Key: bytes.Repeat([]byte{1}, 32)}, {Key: bytes.Repeat([]byte{2}, 32)},
		}}}
		known := newHeads()
		known.set(wire.StreamID{1}, wire.Head{Sequence: 7})
		e.enter(v, known, map[wire.StreamID]bool{})
		return e, v
	}
	e, v := found()
	s := endorsement.NewSuccession(v.Next(v.Groups), e.key) // not the operator
	ask := &endorsement.Ask{View: v.Hash(), Reads: []wire.StreamID{{1}}}
	appends := &endorsement.Ask{View: v.Hash(), Appends: []endorsement.Append{{Next: wire.Head{Sequence: 1}}}, Signature: make([]byte, 64)}
	word := endorsement.Finalised{View: v.Hash()}
	word.Sign(operator)
	for kind, q := range map[wire.FrameKind]any{
		wire.FrameAsk: ask, wire.FrameFinalise: endorsement.NewSuccession(v, e.key), wire.FrameFound: s, wire.FrameTails: From{3},
		wire.FrameAdopt: Adoption{Word: word, Tails: []endorsement.Tail{{}}}, wire.FrameActivate: Activation{Succession: *s, Before: v.Encode(), Words: []endorsement.Finalised{word}},
		wire.FrameIdentify: nil, wire.FrameIntroduce: "evidence",
	} {
		f.Add(byte(kind), wire.Marshal(q))
	}
	f.Add(byte(wire.FrameAsk), wire.Marshal(appends))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		for _, e := range []*Endorser{e, New(e.configuration, nobody{})} { // a member, and a fresh one
			before := e.Status()
			(&Server{Endorser: e}).handle(wire.Frame{Kind: wire.FrameKind(kind), Body: body})
			if e.Status() != before || e.view != nil && e.streams.of(wire.StreamID{1}) != (wire.Head{Sequence: 7}) {
				t.Fatalf("frame %d changed something: %x", kind, body)
			}
		}
	})
}

func FuzzRelease(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	id := make([]byte, 32)
	p := policy.ForDevelopment(wire.Digest{1}, wire.Digest{}, wire.LedgerIdentity{ID: id, Backend: wire.BackendEndorsed, Genesis: id, Number: 1})
	good := NewRelease(1, p, key)
	if _, _, err := ParseRelease(good.Encode(), key.Public().(ed25519.PublicKey)); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, _, err := ParseRelease(data, key.Public().(ed25519.PublicKey)); err == nil && !bytes.Equal(r.Encode(), data) {
			t.Fatalf("accepted another spelling: %x", data)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	id := make([]byte, 32)
	good := Configuration{
		Version: ConfigurationVersion, Ledger: id, Number: 1, Operator: id, ReleaseKey: id, LeastRelease: 1,
		Enclaves: policy.ForDevelopment(wire.Digest{1}, wire.Digest{}, wire.LedgerIdentity{ID: id, Backend: wire.BackendEndorsed, Genesis: id, Number: 1}),
	}
	file, err := good.Encode()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := ParseConfiguration(file); err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"version":1,"ledger":"AA","number":1,"operator":"AA","release_key":"AA","least_release":1,"enclaves":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfiguration(data)
		if err != nil {
			return
		}
		if again, err := c.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted another spelling: %q", data)
		}
	})
}
