package endorsement_test

import (
	"bytes"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// again demands of what was accepted that it is the one encoding of its value.
func again(t *testing.T, data []byte, v any) {
	t.Helper()
	if b := wire.Marshal(v); !bytes.Equal(b, data) {
		t.Fatalf("accepted %x, which is %x", data, b)
	}
}

func FuzzAsk(f *testing.F) {
	f.Add(newExchange(f).encoded)
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := endorsement.ParseAsk(data)
		if err != nil {
			return
		}
		again(t, data, a)
		if n := len(a.Streams()); n == 0 || n > endorsement.MaxStreams {
			t.Fatalf("%d streams", n)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	x := newExchange(f)
	good := wire.Marshal(&x.answer)
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := endorsement.VerifyAnswer(&x.as, x.ask, x.encoded, data)
		if (err == nil) != bytes.Equal(data, good) {
			t.Fatalf("%x: %v", data, err)
		}
	})
}

func FuzzView(f *testing.F) {
	h := newHistory(f, 3)
	f.Add(h.views[0].Encode())
	f.Add(h.views[1].Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := endorsement.ParseView(data)
		if err != nil {
			return
		}
		again(t, data, v)
		if g := v.GroupOf(stream()); g < 0 || g >= len(v.Groups) {
			t.Fatalf("group %d of %d", g, len(v.Groups))
		}
	})
}

func FuzzChain(f *testing.F) {
	h := newHistory(f, 3)
	good := wire.Marshal(&h.chain)
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		var c endorsement.Chain
		if wire.Unmarshal(data, &c) != nil {
			return
		}
		again(t, data, &c)
		if v, err := c.Verify(h.ledger, h.genesis, 1); err == nil && v.Hash() != h.views[0].Hash() && v.Hash() != h.views[1].Hash() {
			t.Fatalf("leads to a view that nobody named: %x", data)
		}
	})
}

func FuzzFinalised(f *testing.F) {
	h := newHistory(f, 3)
	w := word(h.old[0], h.views[0], h.views[1])
	good := wire.Marshal(&w)
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		var w endorsement.Finalised
		if wire.Unmarshal(data, &w) != nil {
			return
		}
		again(t, data, &w)
		if w.Verify() == nil && bytes.Equal(w.Member, h.old[0].public()) && !bytes.Equal(data, good) {
			t.Fatalf("a word that its member did not say: %x", data)
		}
	})
}
