package endorsed_test

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/endorsed"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// service is endorsers, a hostile host, and one stream.
type service struct {
	*endorsedtest.World
	t       testing.TB
	ctx     context.Context
	keys    *ledgertest.Keys
	account wire.AccountID
}

func newService(t testing.TB, sizes ...int) *service {
	t.Helper()
	return newGenesis(t, ledgertest.NewKeys(t), 1, sizes...)
}

func newGenesis(t testing.TB, keys *ledgertest.Keys, number uint64, sizes ...int) *service {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second+2**soakTime)
	t.Cleanup(cancel)
	s := &service{World: endorsedtest.NewGenesis(t, keys, number, sizes...), t: t, ctx: ctx, keys: keys}
	rand.Read(s.account[:])
	return s
}

// enclave is a process of its own, over a store of its own choice.
type enclave struct {
	s      *service
	ledger *endorsed.Ledger
	store  *ledgertest.Store
}

// host is the service's host with another store.
type host struct {
	*endorsedtest.World
	store *ledgertest.Store
}

func (h host) Newest(ctx context.Context, a wire.AccountID) ([]byte, error) {
	return h.store.Newest(ctx, a)
}
func (h host) Commit(ctx context.Context, c *wire.Commit) (wire.Appended, error) {
	return h.store.Commit(ctx, c)
}

func (s *service) enclave() *enclave { return s.enclaveOn(s.Store) }

func (s *service) enclaveOn(store *ledgertest.Store) *enclave {
	return &enclave{s, s.Memory().Over(host{s.World, store}), store}
}

func (s *service) stream() wire.StreamID { return wire.Stream(s.keys.LedgerID, s.account) }

// read is what an enclave makes of the newest entry that its host shows.
func (e *enclave) read() (ledger.SignedHead, error) {
	hint, err := e.store.Newest(e.s.ctx, e.s.account)
	if err != nil {
		return ledger.SignedHead{}, err
	}
	return e.readWith(hint)
}

func (e *enclave) readWith(hint []byte) (ledger.SignedHead, error) {
	return e.ledger.ReadHead(e.s.ctx, e.s.account, e.s.stream(), [32]byte{}, hint)
}

// appendTo appends one entry, and returns its head, whatever came of it.
func (e *enclave) appendTo(at wire.Head) (wire.Head, error) {
	c, head := e.s.keys.Entry(e.s.account, at)
	r, err := e.ledger.CompareAndAppend(e.s.ctx, c)
	if err == nil && r.Head != head {
		e.s.t.Fatalf("receipt for %v, want %v", r.Head, head)
	}
	return head, err
}

// append appends behind the newest head.
func (e *enclave) append() wire.Head {
	e.s.t.Helper()
	at := e.mustRead()
	head, err := e.appendTo(at)
	if err != nil {
		e.s.t.Fatal(err)
	}
	return head
}

func (e *enclave) mustRead() wire.Head {
	e.s.t.Helper()
	h, err := e.read()
	if err != nil || h.Discontinued {
		e.s.t.Fatalf("ReadHead: %+v, %v", h, err)
	}
	return h.Head
}

func wantCode(t testing.TB, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

// member returns the endorser of the newest view's first group.
func (s *service) member(i int) *endorser.Endorser { return s.Endorser(s.key(i)) }

func (s *service) key(i int) []byte { return s.World.View().Groups[0][i].Key }

// only lets frames through to these members, of any group.
func (s *service) only(members ...int) {
	for i := range s.World.View().Groups[0] {
		s.Cut(s.key(i), true)
	}
	for _, i := range members {
		s.Cut(s.key(i), false)
	}
}

func refused(kind wire.FrameKind) error {
	return wire.Errorf(wire.CodeUnavailable, "frame %d dropped", kind)
}

// counter counts frames that a host carries.
type counter struct {
	mu sync.Mutex
	n  map[wire.FrameKind]int
}

func (c *counter) add(kind wire.FrameKind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[wire.FrameKind]int{}
	}
	c.n[kind]++
	return c.n[kind]
}

func (c *counter) get(kind wire.FrameKind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[kind]
}

func appendsOf(body []byte) []endorsement.Append {
	a, err := endorsement.ParseAsk(body)
	if err != nil {
		return nil
	}
	return a.Appends
}
