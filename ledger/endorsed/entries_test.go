package endorsed_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

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

	s.everywhere(next)
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
