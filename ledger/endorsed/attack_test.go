package endorsed_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
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
			t.Errorf("%s: %v", name, err)
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

// A tentative append is none: one member has it, nobody is told that it stands, and
// whoever comes next finishes it before anything else.
func TestHalfEndorsedEntry(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	first := e.append()
	s.only(0)
	half, err := e.appendTo(first)
	wantCode(t, err, wire.CodeUnavailable)
	if h, _ := s.member(0).Ask(s.readOf(s.stream())); h.Heads[0] != half {
		t.Fatalf("member 0 holds %v", h.Heads[0])
	}
	s.only(0, 1) // one has it, one does not, and neither is a majority
	if got := s.enclave().mustRead(); got != half {
		t.Fatalf("newest is %v, want %v", got, half)
	}
	s.only(0, 1, 2)
	if got := s.enclave().mustRead(); got != half {
		t.Fatalf("newest is %v, want %v", got, half)
	}
	s.only(1, 2) // it is finished: a majority has it, without member 0
	if got := s.enclave().mustRead(); got != half {
		t.Fatalf("newest is %v, want %v", got, half)
	}
	s.only(0, 1, 2)
	s.enclave().append()
}

// readOf encodes a read in the newest view.
func (s *service) readOf(streams ...wire.StreamID) []byte {
	return wire.Marshal(&endorsement.Ask{View: s.World.View().Hash(), Reads: streams})
}

// other is a host whose database says that it appended another entry.
type other struct{ host }

func (o other) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	return wire.Appended{Newest: after(c.Append.Expected)}, nil
}

func after(h wire.Head) wire.Head { return wire.Head{Sequence: h.Sequence + 1, Hash: wire.Digest{1}} }

// What the database did not take is not endorsed.
func TestAnotherRow(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	at := s.enclave().append()
	c, _ := s.keys.Entry(s.account, at)
	_, err := s.Memory().Over(other{host{s.World, s.Store}}).CompareAndAppend(s.ctx, c)
	wantCode(t, err, wire.CodeReceipt)
	if got := s.enclave().mustRead(); got != at {
		t.Fatalf("newest is %v, want %v", got, at)
	}
}

// An entry that no member has stands in the database, and is finished as well; one that
// the database does not have is not made up.
func TestUnendorsedEntry(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	first := e.append()
	s.only()
	next, err := e.appendTo(first)
	wantCode(t, err, wire.CodeUnavailable)
	s.only(0, 1, 2)
	if got := s.enclave().mustRead(); got != next {
		t.Fatalf("newest is %v, want %v", got, next)
	}

	before := s.Store.Snapshot()
	s.only(2)
	lost, err := e.appendTo(next)
	wantCode(t, err, wire.CodeUnavailable)
	s.Store.Restore(before) // the host loses the row that one member endorsed
	s.only(0, 2)
	_, err = s.enclave().read()
	wantCode(t, err, wire.CodeRollback)
	s.only(0, 1, 2)
	if got := s.enclave().mustRead(); got != next {
		t.Fatalf("newest is %v, want %v, not %v", got, next, lost)
	}
}

// A time-out is no success, nor "nothing happened".
func TestTimeOut(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	first := e.append()
	release := make(chan struct{})
	s.Play(func(_ []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
		answer, err := deliver()
		<-release
		return answer, err
	})
	ctx, cancel := context.WithTimeout(s.ctx, 50*time.Millisecond)
	defer cancel()
	c, head := s.keys.Entry(s.account, first)
	_, err := e.ledger.CompareAndAppend(ctx, c)
	wantCode(t, err, wire.CodeUnavailable)
	close(release)
	s.Play(nil)
	if got := s.enclave().mustRead(); got != head {
		t.Fatalf("newest is %v, want %v", got, head)
	}
}

// Three stores, three entries at one place, one member each: none counts. The next view
// discontinues the stream, and says so, also to whom one of the entries belongs.
func TestSplitVotes(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	at := s.enclave().append()
	var stores []*ledgertest.Store
	var commits []*wire.Commit
	for i := range 3 {
		store := ledgertest.NewStore()
		store.Restore(s.Store.Snapshot())
		s.only(i)
		e := s.enclaveOn(store)
		c, _ := s.keys.Entry(s.account, at)
		_, err := e.ledger.CompareAndAppend(s.ctx, c)
		wantCode(t, err, wire.CodeUnavailable)
		stores, commits = append(stores, store), append(commits, c)
	}
	s.only(0, 1, 2)
	for i, store := range stores {
		if h, err := s.enclaveOn(store).read(); err == nil {
			t.Fatalf("store %d: %v counts", i, h.Head)
		}
	}
	if err := s.Change(s.Fresh(3)); err != nil {
		t.Fatal(err)
	}
	for i, store := range stores {
		e := s.enclaveOn(store)
		if h, err := e.read(); err != nil || !h.Discontinued {
			t.Fatalf("store %d: %+v, %v", i, h, err)
		}
		if r, err := e.ledger.CompareAndAppend(s.ctx, commits[i]); wire.CodeOf(err) == "" || wire.CodeOf(err) == wire.CodeConflict {
			t.Fatalf("store %d: receipt for %v on a discontinued stream, %v", i, r.Head, err)
		}
	}
	// The entry that the members happen to hold is the one that could be taken for endorsed.
	held, err := s.member(0).Ask(s.readOf(s.stream()))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range commits {
		if h := ledgerHead(t, c); h == held.Heads[0] {
			_, err := s.enclaveOn(stores[i]).ledger.CompareAndAppend(s.ctx, c)
			wantCode(t, err, wire.CodeDiscontinued)
			return
		}
	}
	t.Fatalf("members hold %v, which nobody appended", held.Heads[0])
}

func ledgerHead(t testing.TB, c *wire.Commit) wire.Head {
	t.Helper()
	e, err := ledger.ParseEntry(c.Append.Entry)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.HeadOf(e, c.Append.Entry)
}

// The loser of a fork is told so where a majority holds the other entry.
func TestLoserOfAFork(t *testing.T) {
	t.Parallel()
	s := newService(t, 5)
	at := s.enclave().append()
	other := ledgertest.NewStore()
	other.Restore(s.Store.Snapshot())
	s.only(0, 1, 2)
	if _, err := s.enclave().appendTo(at); err != nil {
		t.Fatal(err)
	}
	s.only(0, 1, 2, 3, 4)
	_, err := s.enclaveOn(other).appendTo(at)
	wantCode(t, err, wire.CodeConflict)
}

// A member that was away catches up, and counts again.
func TestMemberCatchesUp(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	e.append()
	s.only(0, 1)
	for range 3 {
		e.append()
	}
	s.only(1, 2)
	want := e.append()
	if h, _ := s.member(2).Ask(s.readOf(s.stream())); h.Heads[0] != want {
		t.Fatalf("member 2 is at %v, want %v", h.Heads[0], want)
	}
}

// One member that invents a head denies nobody anything, nor one that knows of an entry
// that was never acknowledged.
func TestInventedHead(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	want := e.append()
	s.everywhere(want)
	invented := wire.Head{Sequence: 1 << 60, Hash: wire.Digest{1}}
	a := endorsement.Ask{View: s.Genesis, Appends: []endorsement.Append{{Stream: s.stream(), Expected: wire.Head{Sequence: invented.Sequence - 1}, Next: invented}}}
	a.Sign(s.keys.Private.Public().(ed25519.PublicKey), func(m []byte) []byte { return ed25519.Sign(s.keys.Private, m) })
	if got, err := s.member(0).Ask(wire.Marshal(&a)); err != nil || got.Heads[0] != invented {
		t.Fatal(got, err)
	}
	for range 20 { // in whatever order they answer
		if got := e.mustRead(); got != want {
			t.Fatalf("newest is %v, want %v", got, want)
		}
	}
}

// "No such stream" is the word of a majority, never that of a host.
func TestNoSuchStream(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	if h, err := s.enclave().read(); err != nil || h.Head != (wire.Head{}) || h.Discontinued {
		t.Fatalf("%+v, %v", h, err)
	}
	want := s.enclave().append()
	s.Store.Restore(nil)
	for i := range 3 {
		s.only(i, (i+1)%3)
		if h, err := s.enclave().readWith(nil); err == nil && h.Head != want {
			t.Fatalf("%+v", h)
		}
		s.only(i)
		if h, err := s.enclave().readWith(nil); err == nil {
			t.Fatalf("%+v", h)
		}
	}
}

// Endorsers of a later genesis know nothing of before: the stream is discontinued, and
// nothing the host shows is its newest head by anybody's word.
func TestNextGenesisDiscontinues(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	s.enclave().append()
	want := s.enclave().append()
	next := newGenesis(t, s.keys, 2, 3)
	next.account = s.account
	next.Store.Restore(s.Store.Snapshot())
	h, err := next.enclave().read()
	if err != nil || !h.Discontinued || h.Head != want {
		t.Fatalf("%+v, %v", h, err)
	}
	if h, err := next.enclave().readWith(nil); err != nil || h.Discontinued || h.Head != (wire.Head{}) {
		t.Fatalf("a new account: %+v, %v", h, err)
	}
	// In the first genesis the same is a host that brings entries from elsewhere.
	first := newGenesis(t, s.keys, 1, 3)
	first.account = s.account
	first.Store.Restore(s.Store.Snapshot())
	if h, err := first.enclave().read(); err == nil && h.Head.Sequence > 0 {
		t.Fatalf("%+v", h)
	}
}

// What is not safe: one member's key out of a broken TEE, with the host. Another member was
// kept behind, and the two are a majority.
func TestOneLiarWithTheHost(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	liar := []byte(key.Public().(ed25519.PublicKey))
	g := append(s.Fresh(2), endorsement.Member{Key: liar, Evidence: endorsement.EvidenceHash(liar)})
	v := &endorsement.View{Version: wire.Version, Ledger: s.keys.LedgerID, Genesis: 1, Number: 1, Groups: []endorsement.Group{g}}
	for _, m := range g[:2] {
		if err := s.Endorser(m.Key).Found(s.Succession(v)); err != nil {
			t.Fatal(err)
		}
	}
	s.Genesis, s.Chain = v.Hash(), endorsement.Chain{Links: []endorsement.Link{{View: v.Encode()}}}
	var mu sync.Mutex
	var says wire.Head
	away := map[string]bool{}
	s.Play(func(to []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case away[string(to)]:
			return nil, refused(kind)
		case !bytes.Equal(to, liar):
			return deliver()
		}
		for _, a := range appendsOf(body) {
			says = a.Next
		}
		answer := endorsement.Answer{Heads: []wire.Head{says}}
		answer.Sign(key, v.Hash(), body)
		return wire.Marshal(&answer), nil
	})
	first := s.enclave().append()
	old := s.Store.Snapshot()
	set := func(i int, gone bool) { mu.Lock(); away[string(g[i].Key)] = gone; mu.Unlock() }
	set(0, true)
	newest := s.enclave().append()
	set(0, false)
	set(1, true)
	s.Store.Restore(old)
	if h, err := s.enclave().read(); err == nil && h.Head == first {
		t.Fatalf("without a lie, %v is rolled back", newest)
	}
	mu.Lock()
	says = first
	mu.Unlock()
	if h, err := s.enclave().read(); err != nil || h.Head != first {
		t.Fatalf("%v, %v: docs/ledger-endorsed.md says that this is possible", h, err)
	}
}

// The streams of groups are apart: each member has its own group's, and one group's loss
// is no other's.
func TestGroups(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 3)
	v := s.World.View()
	var in [2]*service
	for in[0] == nil || in[1] == nil {
		x := *s
		x.account[0]++
		s.account = x.account
		in[v.GroupOf(x.stream())] = &x
	}
	for _, x := range in {
		x.enclave().append()
	}
	for _, m := range v.Groups[1][:2] {
		s.Cut(m.Key, true)
	}
	in[0].enclave().append()
	_, err := in[1].enclave().read()
	wantCode(t, err, wire.CodeUnavailable)
	s.wait(func() bool {
		for g, group := range v.Groups {
			for i, m := range group {
				if g == 1 && i < 2 {
					continue
				}
				if s.Endorser(m.Key).Status().Streams != 1 {
					return false
				}
			}
		}
		return true
	})
	// A view change over both.
	for _, m := range v.Groups[1][:2] {
		s.Cut(m.Key, false)
	}
	if err := s.Change(s.Fresh(3), s.Fresh(5)); err != nil {
		t.Fatal(err)
	}
	for g, x := range in {
		if got := x.enclave().append(); got.Sequence != uint64(3-g) {
			t.Errorf("group %d is at %v", g, got)
		}
	}
}

// Many streams go in few round trips, and each gets its own answer.
func TestBatches(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	e.append()
	var c counter
	const streams = 3000 // more than one ask holds
	gate := make(chan struct{})
	s.Play(func(_ []byte, kind wire.FrameKind, body []byte, deliver func() ([]byte, error)) ([]byte, error) {
		<-gate
		c.add(kind)
		return deliver()
	})
	var all sync.WaitGroup
	errs := make(chan error, streams)
	for i := range streams {
		x := *s
		x.account[0], x.account[1], x.account[2] = byte(i), byte(i>>8), ^s.account[2] // none is s's own
		all.Go(func() {
			e := &enclave{&x, e.ledger, s.Store}
			h, err := e.readWith(nil)
			if err == nil && h.Head != (wire.Head{}) {
				err = fmt.Errorf("another stream's head: %v", h.Head)
			}
			if err == nil && i%10 == 0 {
				var head wire.Head
				if head, err = e.appendTo(h.Head); err == nil {
					var got ledger.SignedHead
					if got, err = e.read(); err == nil && got.Head != head {
						err = fmt.Errorf("%v was appended, %v read", head, got.Head)
					}
				}
			}
			errs <- err
		})
	}
	close(gate)
	all.Wait()
	for range streams {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n := c.get(wire.FrameAsk); n > streams {
		t.Errorf("%d frames for %d questions to 3 members", n, streams+2*streams/10)
	}
}

// hooked is a host that does something whenever it is asked for the newest entry.
type hooked struct {
	host
	before func()
}

func (h hooked) Newest(ctx context.Context, a wire.AccountID) ([]byte, error) {
	h.before()
	return h.host.Newest(ctx, a)
}

// Between its look at the endorsers and its look at the database a reader is overtaken: it
// reads again, and accuses nobody of a rollback.
func TestOvertakenRead(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	e := s.enclave()
	first := e.append()
	hint, err := s.Store.Newest(s.ctx, s.account)
	if err != nil {
		t.Fatal(err)
	}
	s.only(0)
	if _, err := e.appendTo(first); err == nil {
		t.Fatal("appended")
	}
	s.only(0, 1)
	var want wire.Head
	var once sync.Once
	h := hooked{host{s.World, s.Store}, func() {
		once.Do(func() {
			s.enclave().append()
			want = s.enclave().append()
		})
	}}
	got, err := s.Memory().Over(h).ReadHead(s.ctx, s.account, s.stream(), [32]byte{}, hint)
	if err != nil || got.Head != want {
		t.Fatalf("%v, %v, want %v", got.Head, err, want)
	}
}
