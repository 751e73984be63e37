package endorsement_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// member is an endorser of a test, with its key.
type member struct {
	key ed25519.PrivateKey
}

func (m member) public() ed25519.PublicKey { return m.key.Public().(ed25519.PublicKey) }

func members(t testing.TB, n int) (list []member, g endorsement.Group) {
	t.Helper()
	for range n {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		m := member{key}
		list = append(list, m)
		g = append(g, endorsement.Member{Key: m.public(), Evidence: digest()})
	}
	return list, g
}

func digest() (d wire.Digest) {
	rand.Read(d[:])
	return d
}

func stream() (s wire.StreamID) {
	rand.Read(s[:])
	return s
}

// history is a chain of views, and who may speak in them.
type history struct {
	ledger  []byte
	genesis wire.Digest
	old     []member // of the first view
	views   []*endorsement.View
	chain   endorsement.Chain
}

// newHistory is a chain of two views with one group of so many.
func newHistory(t testing.TB, size int) *history {
	t.Helper()
	h := &history{}
	d := digest()
	h.ledger = d[:]
	var g endorsement.Group
	h.old, g = members(t, size)
	first := &endorsement.View{Version: wire.Version, Ledger: h.ledger, Genesis: 1, Number: 1, Groups: []endorsement.Group{g}}
	_, next := members(t, size)
	second := first.Next([]endorsement.Group{next})
	h.genesis = first.Hash()
	h.views = []*endorsement.View{first, second}
	h.chain.Links = []endorsement.Link{{View: first.Encode()}, {View: second.Encode()}}
	for _, m := range h.old[:size/2+1] {
		h.chain.Links[1].Finalised = append(h.chain.Links[1].Finalised, word(m, first, second))
	}
	return h
}

func word(m member, old, next *endorsement.View) endorsement.Finalised {
	f := endorsement.Finalised{View: old.Hash(), Successor: next.Hash(), Tails: endorsement.NewTailHash().Sum()}
	f.Sign(m.key)
	return f
}

func (h *history) verify() (*endorsement.View, error) { return h.chain.Verify(h.ledger, h.genesis, 1) }

func wantCode(t testing.TB, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}
