package azure

import (
	"encoding/base64"
	"math"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure/receipt"
	"github.com/passclave/passclave/wire"
)

// Memory is bounded, and a place in it never goes back.
func TestMemory(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.max = 2
	at := func(n uint64) place { return place{at: receipt.Transaction{View: 2, Sequence: n}} }
	m.keep(wire.StreamID{1}, at(5))
	m.keep(wire.StreamID{1}, at(4))
	if got := m.of(wire.StreamID{1}); got != at(5) {
		t.Fatal(got)
	}
	m.keep(wire.StreamID{9}, place{})
	for i := range byte(10) {
		m.keep(wire.StreamID{1 + i}, at(6))
	}
	if len(m.streams) != 2 {
		t.Fatalf("%d streams", len(m.streams))
	}
	if m.of(wire.StreamID{10}) != at(6) {
		t.Fatal("the newest is not remembered")
	}
}

// With the keys of forty versions of the KEK an entry still fits into the service's limit.
func TestContentsFit(t *testing.T) {
	t.Parallel()
	id, roots := make([]byte, 32), [][]byte{}
	for i := range byte(40) {
		roots = append(roots, []byte{i})
	}
	keys := &keys{id: id}
	private, signers := ledger.Succession(id, roots)
	keys.own = func() []ledger.Signer { return signers }
	head := wire.Head{Sequence: math.MaxUint32}
	e := ledger.Entry{Ledger: id, Sequence: math.MaxUint32, Generation: math.MaxUint32, Epoch: math.MaxUint32, Note: make([]byte, ledger.NoteSize), Restored: &head}
	contents := keys.contents(e.Sign(private[len(private)-1]))
	t.Logf("%d bytes", len(contents))
	if len(contents) > 8<<10 || len(keys.signers) != 40 {
		t.Errorf("%d bytes with %d keys", len(contents), len(keys.signers))
	}
}

func FuzzContents(f *testing.F) {
	id := make([]byte, 32)
	_, signers := ledger.Succession(id, [][]byte{{1}, {2}})
	own := &keys{id: id, own: func() []ledger.Signer { return signers }}
	f.Add(own.contents([]byte("entry")))
	_, others := ledger.Succession(id, [][]byte{{3}, {4}})
	stranger := &keys{id: id, own: func() []ledger.Signer { return others }}
	f.Add(stranger.contents([]byte("entry")))
	f.Fuzz(func(t *testing.T, text string) {
		k := &keys{id: id, own: func() []ledger.Signer { return signers[:1] }}
		k.verifier()
		entry, ok := k.open(text)
		if !ok {
			return
		}
		if !extends(k.signers, signers[:1]) || len(k.signers) > 1 && !extends(signers, k.signers) {
			t.Fatal("learned keys that the first never signed")
		}
		b, _ := base64.RawURLEncoding.DecodeString(text)
		var c contents
		if err := wire.Unmarshal(b, &c); err != nil || string(c.Entry) != string(entry) || base64.RawURLEncoding.EncodeToString(wire.Marshal(c)) != text {
			t.Fatal("accepted contents encode to something else")
		}
	})
}
