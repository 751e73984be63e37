package endorsed_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// An older copy of the database, also with an enclave that has just started: what an
// enclave remembers does not matter.
func TestOlderDatabase(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	first := e.append()
	old := s.Store.Snapshot()
	e.append()
	newest := e.append()
	s.Store.Restore(old)
	for name, e := range map[string]*enclave{"running": e, "started again": s.enclave()} {
		if h, err := e.read(); err == nil && h.Head != newest {
			t.Errorf("%s: %v was taken for the newest", name, h)
		}
		if _, err := e.appendTo(first); err == nil {
			t.Errorf("%s: appended to an older head", name)
		}
	}
	s.Store.Restore(nil)
	if h, err := s.enclave().read(); err == nil && h.Head != newest {
		t.Errorf("an empty database: %v was taken for the newest", h)
	}
}

// Everything that the host holds goes back together: database, chain of views, and every
// process of an enclave.
func TestEverythingOfTheHostRolledBack(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	s.enclave().append()
	old, chain := s.Store.Snapshot(), s.Chain
	fresh := s.Fresh(3)
	if err := s.Change(fresh); err != nil {
		t.Fatal(err)
	}
	s.enclave().append()
	s.Store.Restore(old)
	s.Chain = endorsement.Chain{Links: chain.Links[:1]}
	_, err := s.enclave().read()
	wantCode(t, err, wire.CodeView)
}

// Two enclaves on two stores: of two entries at one place one at most is acknowledged,
// and whoever lost cannot go on.
func TestForkOfTwoStores(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	at := s.enclave().append()
	other := ledgertest.NewStore()
	other.Restore(s.Store.Snapshot())
	a, b := s.enclave(), s.enclaveOn(other)
	acknowledged := map[uint64]wire.Head{}
	for range 20 {
		var race sync.WaitGroup
		heads, errs := make([]wire.Head, 2), make([]error, 2)
		for i, e := range []*enclave{a, b} {
			race.Go(func() { heads[i], errs[i] = e.appendTo(at) })
		}
		race.Wait()
		if errs[0] == nil && errs[1] == nil {
			t.Fatalf("two entries were acknowledged at %d", at.Sequence+1)
		}
		for i, err := range errs {
			if err == nil {
				acknowledged[heads[i].Sequence] = heads[i]
				at = heads[i]
			}
		}
		if h, err := a.read(); err == nil && acknowledged[h.Head.Sequence] != (wire.Head{}) && h.Head != acknowledged[h.Head.Sequence] {
			t.Fatalf("%v was read, %v acknowledged", h.Head, acknowledged[h.Head.Sequence])
		}
		if errs[0] != nil && errs[1] != nil {
			break // the votes are split
		}
		// The stores stay two: both go on from the winner.
		winner := s.Store
		if errs[1] == nil {
			winner = other
		}
		s.Store.Restore(winner.Snapshot())
		other.Restore(winner.Snapshot())
	}
}

// A minority of members proves nothing, whatever the host says about the others.
func TestMinority(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 5} {
		s := newService(t, size)
		first := s.enclave().append()
		old := s.Store.Snapshot()
		s.only(seq(size/2, size)...) // the first ones stay behind
		s.enclave().append()
		s.only(seq(0, size/2)...)
		s.Store.Restore(old)
		if h, err := s.enclave().read(); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Fatalf("%d members: %v, %v", size, h, err)
		}
		_, err := s.enclave().appendTo(first)
		if code := wire.CodeOf(err); code != wire.CodeUnavailable {
			t.Fatalf("%d members: %v", size, err)
		}
	}
}

func seq(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// With half gone the rest serves.
func TestMajority(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 5} {
		s := newService(t, size)
		s.enclave().append()
		s.only(seq(size/2, size)...)
		want := s.enclave().append()
		if got := s.enclave().mustRead(); got != want {
			t.Fatalf("%d members: %v, want %v", size, got, want)
		}
	}
}

// Answers of earlier, over other nonces: genuine, and old.
func TestReplayedAnswers(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	var mu sync.Mutex
	old := map[string][]byte{}
	s.Play(func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
		answer, err := deliver()
		mu.Lock()
		defer mu.Unlock()
		if kind == wire.FrameAsk && err == nil && len(appendsOf(body)) == 0 {
			old[string(key)] = answer
		}
		return answer, err
	})
	e.append()
	before := s.Store.Snapshot()
	want := e.mustRead()
	s.wait(func() bool { mu.Lock(); defer mu.Unlock(); return len(old) == 3 })
	s.Play(nil)
	newest := e.append()
	s.Store.Restore(before)
	s.Play(func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
		return old[string(key)], nil
	})
	for name, e := range map[string]*enclave{"running": e, "started again": s.enclave()} {
		if h, err := e.read(); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Errorf("%s: %v of %v, not %v, by old answers; %v", name, h.Head, want, newest, err)
		}
	}
}

// wait polls: members that nobody waits for come later.
func (s *service) wait(until func() bool) {
	s.t.Helper()
	for tick := time.NewTicker(time.Millisecond); !until(); {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatal("never")
		}
	}
}

// One member's word, three times; another member's; another question's.
func TestAnswersOfOthers(t *testing.T) {
	t.Parallel()
	for name, carry := range map[string]func(s *service, key []byte, body []byte) ([]byte, error){
		"one speaks for all": func(s *service, _, body []byte) ([]byte, error) {
			a, err := s.member(0).Ask(body)
			return marshal(a, err)
		},
		"each speaks for the next": func(s *service, key, body []byte) ([]byte, error) {
			for i := range 3 {
				if bytes.Equal(s.key(i), key) {
					a, err := s.member((i + 1) % 3).Ask(body)
					return marshal(a, err)
				}
			}
			return nil, refused(wire.FrameAsk)
		},
		"about another stream": func(s *service, key, body []byte) ([]byte, error) {
			ask, err := endorsement.ParseAsk(body)
			if err != nil {
				return nil, err
			}
			if len(ask.Reads) == 0 {
				return nil, refused(wire.FrameAsk) // the append before, to a member that was late
			}
			ask.Reads[0][0] ^= 1
			a, err := s.Endorser(key).Ask(wire.Marshal(ask))
			return marshal(a, err)
		},
		"over another nonce": func(s *service, key, body []byte) ([]byte, error) {
			ask, err := endorsement.ParseAsk(body)
			if err != nil {
				return nil, err
			}
			ask.Nonce[0] ^= 1
			a, err := s.Endorser(key).Ask(wire.Marshal(ask))
			return marshal(a, err)
		},
		"made up": func(_ *service, _, _ []byte) ([]byte, error) {
			return marshal(&endorsement.Answer{Heads: make([]wire.Head, 1), Signature: make([]byte, 64)}, nil)
		},
		"nothing": func(_ *service, _, _ []byte) ([]byte, error) { return nil, nil },
		"not found": func(_ *service, _, _ []byte) ([]byte, error) {
			return nil, wire.Errorf(wire.CodeNotFound, "no such stream")
		},
	} {
		s := newService(t, 3)
		s.enclave().append()
		s.Play(func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
			return carry(s, key, body)
		})
		if h, err := s.enclave().read(); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
}

func marshal(a *endorsement.Answer, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return wire.Marshal(a), nil
}

// A flipped byte of one answer costs that member's word, and of two all of it.
func TestFlippedAnswers(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	want := s.enclave().append()
	e := s.enclave()
	for i := 0; ; i++ {
		size := 0
		s.Play(func(key []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
			answer, err := deliver()
			if err == nil && !bytes.Equal(key, s.key(0)) {
				answer = bytes.Clone(answer)
				answer[i%len(answer)] ^= 4
			}
			if bytes.Equal(key, s.key(0)) {
				size = len(answer)
			}
			return answer, err
		})
		if h, err := e.readWith(nil); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Fatalf("byte %d: %v, want an error, not %v", i, h, want)
		}
		if size > 0 && i > size {
			return
		}
	}
}
