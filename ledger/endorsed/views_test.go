package endorsed_test

import (
	"crypto/ed25519"
	"sync"
	"testing"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/wire"
)

// Members that started again are empty; nobody takes their word for the old ones'.
func TestRestartedEmpty(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	first := s.enclave().append()
	empty := s.Fresh(2)
	replaced := map[string][]byte{string(s.key(0)): empty[0].Key, string(s.key(1)): empty[1].Key}
	// The operator has them found a genesis of their own, so that they answer at all.
	v := &endorsement.View{Version: wire.Version, Ledger: s.keys.LedgerID, Genesis: 1, Number: 1, Groups: []endorsement.Group{append(empty, s.World.View().Groups[0][2])}}
	for _, m := range empty {
		if err := s.Endorser(m.Key).Found(s.Succession(v)); err != nil {
			t.Fatal(err)
		}
	}
	for name, view := range map[string]wire.Digest{"as asked": s.Genesis, "in their own view": v.Hash()} {
		s.Play(func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
			other, ok := replaced[string(key)]
			if !ok {
				return nil, refused(kind)
			}
			ask, err := endorsement.ParseAsk(body)
			if err != nil {
				return nil, err
			}
			ask.View = view
			a, err := s.Endorser(other).Ask(wire.Marshal(ask))
			return marshal(a, err)
		})
		if h, err := s.enclave().readWith(nil); err == nil {
			t.Errorf("%s: empty endorsers say %v, %v is the newest", name, h.Head, first)
		}
		s.Play(nil)
	}
}

// A chain that goes on with the attacker's endorsers, or with the operator's wish alone.
func TestForgedView(t *testing.T) {
	t.Parallel()
	for name, words := range map[string]func(s *service, v *endorsement.View) []endorsement.Finalised{
		"without a word": func(*service, *endorsement.View) []endorsement.Finalised { return nil },
		"by one old member": func(s *service, v *endorsement.View) []endorsement.Finalised {
			f, err := s.member(0).Finalise(s.Succession(v))
			if err != nil {
				t.Fatal(err)
			}
			return []endorsement.Finalised{*f}
		},
		"by one old member, three times": func(s *service, v *endorsement.View) []endorsement.Finalised {
			f, err := s.member(0).Finalise(s.Succession(v))
			if err != nil {
				t.Fatal(err)
			}
			return []endorsement.Finalised{*f, *f, *f}
		},
		"by the new members": func(s *service, v *endorsement.View) []endorsement.Finalised {
			f := endorsement.Finalised{View: s.Genesis, Successor: v.Hash()}
			f.Sign(s.Operator)
			return []endorsement.Finalised{f, f}
		},
	} {
		s := newService(t, 3)
		s.enclave().append()
		v := s.World.View().Next([]endorsement.Group{s.Fresh(3)})
		s.Chain.Links = append(s.Chain.Links, endorsement.Link{View: v.Encode(), Finalised: words(s, v)})
		if _, err := s.enclave().read(); wire.CodeOf(err) != wire.CodeView {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// What was signed in one view counts in no other: neither an old member's answer nor an
// enclave's ask.
func TestSignaturesAcrossViews(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	first := e.append()
	var mu sync.Mutex
	var ask []byte
	s.Play(func(_ []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
		if kind == wire.FrameAsk && len(appendsOf(body)) > 0 {
			mu.Lock()
			ask = body
			mu.Unlock()
			return nil, refused(kind)
		}
		return deliver()
	})
	if _, err := e.appendTo(first); err == nil {
		t.Fatal("appended")
	}
	s.Play(nil)
	group := s.World.View().Groups[0]
	if err := s.Change(append(group[:2:2], s.Fresh(1)...)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := s.member(i).Introduce(s.keys.Private.Public().(ed25519.PublicKey)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.member(i).Ask(ask); wire.CodeOf(err) != wire.CodeView {
			t.Errorf("member %d takes an ask of the view before: %v", i, err)
		}
	}
	if h := e.mustRead(); h.Sequence != 2 { // the row stands, and is finished in the new view
		t.Fatalf("newest is %v", h)
	}
}

// A view that the host takes back: an enclave that knows the newer one does not go back.
func TestChainGoesBack(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	e.append()
	if err := s.Change(s.Fresh(3)); err != nil {
		t.Fatal(err)
	}
	want := e.append()
	whole := s.Chain
	s.Chain = endorsement.Chain{Links: whole.Links[:1]}
	s.Play(func(_ []byte, kind wire.FrameKind, _ []byte, _ func() ([]byte, error)) ([]byte, error) {
		return nil, wire.Errorf(wire.CodeView, "another view")
	})
	_, err := e.read()
	wantCode(t, err, wire.CodeView)
	s.Play(nil)
	if got := e.mustRead(); got != want {
		t.Fatalf("newest is %v, want %v", got, want)
	}
}

// everywhere waits until every member holds a head: the last hears of it late.
func (s *service) everywhere(head wire.Head) {
	s.wait(func() bool {
		for i := range 3 {
			if a, err := s.member(i).Ask(s.readOf(s.stream())); err != nil || a.Heads[0] != head {
				return false
			}
		}
		return true
	})
}

// A host that answers the same refusal for ever gets an end to it.
func TestRefusalsWithoutEnd(t *testing.T) {
	t.Parallel()
	for code, most := range map[wire.Code]map[wire.FrameKind]int{
		wire.CodeView:      {wire.FrameAsk: 3},
		wire.CodeSignature: {wire.FrameAsk: 6, wire.FrameIntroduce: 3},
	} {
		s := newService(t, 3)
		e := s.enclave()
		at := e.append()
		s.everywhere(at) // no frame of it is late
		var c counter
		s.Play(func(_ []byte, kind wire.FrameKind, _ []byte, _ func() ([]byte, error)) ([]byte, error) {
			c.add(kind)
			if kind == wire.FrameIntroduce {
				return nil, nil
			}
			return nil, wire.Errorf(code, "for ever")
		})
		if _, err := e.appendTo(at); err == nil {
			t.Fatal("appended")
		}
		for _, kind := range []wire.FrameKind{wire.FrameAsk, wire.FrameIntroduce} {
			if c.get(kind) > most[kind] {
				t.Errorf("%s: %d frames of kind %d, at most %d", code, c.get(kind), kind, most[kind])
			}
		}
	}
}
