package endorsers_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/host/endorsers"
	"github.com/passclave/passclave/ledger/endorsed/endorsedtest"
	"github.com/passclave/passclave/ledger/endorsement"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

// place is an address at which an endorser answers, over TCP.
type place struct {
	t        testing.TB
	w        *endorsedtest.World
	address  string
	endorser *endorser.Endorser
	stop     func()
	breaks   atomic.Pointer[fault] // of new connections
}

type listener struct {
	net.Listener
	p *place
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if f := l.p.breaks.Load(); err == nil && f != nil {
		c = &breaking{Conn: c, fault: f}
	}
	return c, err
}

// start has a fresh endorser answer at the place, at the same address as before.
func (p *place) start() {
	p.t.Helper()
	at := "127.0.0.1:0"
	if p.address != "" {
		at = p.address[len("tcp:"):]
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = "tcp:" + l.Addr().String()
	p.endorser = p.w.Endorser(p.w.Fresh(1)[0].Key)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&endorser.Server{Endorser: p.endorser, Evidence: p.endorser.Key()}).Serve(ctx, listener{l, p})
	}()
	p.stop = func() { cancel(); <-done }
	p.t.Cleanup(func() { p.stop() })
}

// service is endorsers at places, the operator, and the host's file.
type service struct {
	t      testing.TB
	ctx    context.Context
	keys   *ledgertest.Keys
	w      *endorsedtest.World
	o      *endorsers.Operator
	places []*place
	file   *endorsers.File
	path   string
}

func newService(t testing.TB, n, groups int) *service {
	t.Helper()
	keys := ledgertest.NewKeys(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	s := &service{t: t, ctx: ctx, keys: keys, w: endorsedtest.New(t, keys, 3), path: filepath.Join(t.TempDir(), "endorsers.json")}
	s.o = &endorsers.Operator{Key: s.w.Operator, Release: []byte("release")}
	s.places = s.fresh(n)
	var err error
	if s.file, err = s.o.Found(ctx, keys.LedgerID, 1, groups, addresses(s.places)); err != nil {
		t.Fatal(err)
	}
	s.write()
	s.w.Genesis = s.view().Root()
	return s
}

func (s *service) fresh(n int) (out []*place) {
	for range n {
		p := &place{t: s.t, w: s.w}
		p.start()
		out = append(out, p)
	}
	return out
}

func addresses(places []*place) (out []string) {
	for _, p := range places {
		out = append(out, p.address)
	}
	return out
}

func (s *service) write() {
	s.t.Helper()
	if err := s.file.Write(s.path); err != nil {
		s.t.Fatal(err)
	}
}

// view is the newest of the file, if the chain leads there.
func (s *service) view() *endorsement.View {
	s.t.Helper()
	chain, err := s.file.Views()
	if err != nil {
		s.t.Fatal(err)
	}
	first, err := endorsement.ParseView(chain.Links[0].View)
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := chain.Verify(s.keys.LedgerID, first.Hash(), 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *service) change(places []*place) error {
	f, _, err := s.o.Change(s.ctx, s.file, addresses(places))
	if err == nil {
		s.file = f
		s.write()
	}
	return err
}

// serving counts the members that serve the newest view.
func (s *service) serving(places []*place) (n int) {
	hash := s.view().Hash()
	for _, p := range places {
		if st := p.endorser.Status(); st.Hash == hash && !st.Finalised {
			n++
		}
	}
	return n
}

// bridge is the enclave's host over a pool, with the store of the world.
type bridge struct {
	*endorsers.Pool
	*ledgertest.Store
}

// enclave is an enclave over a pool, with one stream that is appended to.
type enclave struct {
	s       *service
	pool    *endorsers.Pool
	account wire.AccountID
	over    bridge
}

func (s *service) enclave() *enclave {
	s.t.Helper()
	e := &enclave{s: s}
	rand.Read(e.account[:])
	e.reopen()
	return e
}

// reopen is a new process of the host: its pool has tried no address yet.
func (e *enclave) reopen() {
	e.s.t.Helper()
	pool, err := endorsers.Open(e.s.path)
	if err != nil {
		e.s.t.Fatal(err)
	}
	e.s.t.Cleanup(pool.Close)
	e.pool, e.over = pool, bridge{pool, e.s.w.Store}
}

// append appends one entry behind the newest head, by an enclave that has just started.
func (e *enclave) append() error {
	l := e.s.w.Memory().Over(e.over)
	hint, err := e.s.w.Store.Newest(e.s.ctx, e.account)
	if err != nil {
		return err
	}
	at, err := l.ReadHead(e.s.ctx, e.account, wire.Stream(e.s.keys.LedgerID, e.account), [32]byte{}, hint)
	if err != nil {
		return err
	}
	c, _ := e.s.keys.Entry(e.account, at.Head)
	_, err = l.CompareAndAppend(e.s.ctx, c)
	return err
}

func (e *enclave) appends(n int) {
	e.s.t.Helper()
	for range n {
		if err := e.append(); err != nil {
			e.s.t.Fatal(err)
		}
	}
}

func TestFounding(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ n, groups int }{{3, 1}, {5, 1}, {6, 2}} {
		s := newService(t, x.n, x.groups)
		if v := s.view(); len(v.Groups) != x.groups || s.serving(s.places) != x.n {
			t.Fatalf("%+v: %d groups, %d serve", x, len(v.Groups), s.serving(s.places))
		}
		s.enclave().appends(3)
	}
}

func TestFoundingRefused(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 1)
	found := func(groups int, places ...*place) error {
		_, err := s.o.Found(s.ctx, s.keys.LedgerID, 1, groups, addresses(places))
		return err
	}
	if err := found(1, s.places[2], s.places[1], s.places[0]); err == nil {
		t.Error("endorsers that serve were founded anew")
	}
	list := s.fresh(4)
	for name, err := range map[string]error{
		"four":          found(1, list...),
		"no group":      found(0, list[:3]...),
		"one twice":     found(1, list[0], list[1], list[0]),
		"groups of one": found(3, list[:3]...),
	} {
		if err == nil {
			t.Errorf("%s: founded", name)
		}
	}
	if _, err := s.o.Found(s.ctx, s.keys.LedgerID, 1, 1, []string{"127.0.0.1:1", "x", "y"}); err == nil {
		t.Error("addresses without a network")
	}
	for _, p := range list {
		if p.endorser.Status().View != 0 {
			t.Error("a member of a view that was never founded")
		}
	}
}

// One member was lost and started again, empty: the others stay, and all three serve.
func TestChangeWithOneFresh(t *testing.T) {
	t.Parallel()
	for lost := range 3 { // wherever the fresh one stands among those that stay
		s := newService(t, 3, 1)
		e := s.enclave()
		e.appends(3)
		s.places[lost].stop()
		e.appends(1)
		s.places[lost].start()
		if err := s.change(s.places); err != nil {
			t.Fatalf("member %d was lost: %v", lost, err)
		}
		if n := s.serving(s.places); n != 3 {
			t.Fatalf("member %d was lost: %d of 3 serve", lost, n)
		}
		e.appends(1)
		if n := len(s.w.Store.Accounts[e.account].Entries); n != 5 {
			t.Fatalf("%d entries", n)
		}
	}
}

func TestChangeOfAll(t *testing.T) {
	t.Parallel()
	s := newService(t, 5, 1)
	e := s.enclave()
	e.appends(2)
	s.places[0].stop()
	s.places[3].stop()
	for range 2 {
		list := s.fresh(5)
		if err := s.change(list); err != nil {
			t.Fatal(err)
		}
		for _, p := range s.places {
			p.stop()
		}
		s.places = list
		if n := s.serving(list); n != 5 {
			t.Fatalf("%d of 5 serve", n)
		}
		e.appends(2)
	}
	if v := s.view(); v.Number != 3 {
		t.Fatalf("view %d", v.Number)
	}
	if n := len(s.w.Store.Accounts[e.account].Entries); n != 6 {
		t.Fatalf("%d entries", n)
	}
}

// Without a majority nothing follows, whoever asks.
func TestChangeWithoutMajority(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 1)
	e := s.enclave()
	e.appends(1)
	s.places[0].stop()
	s.places[1].stop()
	list := append(s.fresh(2), s.places[2])
	if err := s.change(list); !errors.Is(err, endorsers.ErrNoMajority) {
		t.Fatalf("got %v", err)
	}
	for _, p := range list[:2] {
		if p.endorser.Status().View != 0 {
			t.Error("a fresh endorser serves")
		}
	}
	wantCode(t, e.append(), wire.CodeUnavailable)
	// Nothing was said for it either: should the others come back, they can do as they like.
	if s.places[2].endorser.Status().Finalised {
		t.Error("the last word was said in vain")
	}
}

// One endorser at two addresses speaks once.
func TestChangeWithOneAtTwoAddresses(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 1)
	s.enclave().appends(1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	go (&endorser.Server{Endorser: s.places[0].endorser, Evidence: s.places[0].endorser.Key()}).Serve(ctx, l)
	s.places[1].stop()
	s.places[2].stop()
	s.file.Addresses = append(s.file.Addresses, "tcp:"+l.Addr().String())
	if err := s.change(s.fresh(3)); !errors.Is(err, endorsers.ErrNoMajority) {
		t.Fatalf("got %v", err)
	}
	s.places[1].endorser, s.places[2].endorser = nil, nil
}

// fault cuts the connection on which a frame of a kind comes first.
type fault struct {
	kind wire.FrameKind
	done atomic.Bool
}

type breaking struct {
	net.Conn
	*fault
	seen []byte
}

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.seen = append(b.seen, p[:n]...)
	for len(b.seen) >= 13 {
		size := 4 + int(uint32(b.seen[0])<<24|uint32(b.seen[1])<<16|uint32(b.seen[2])<<8|uint32(b.seen[3]))
		if wire.FrameKind(b.seen[12]) == b.kind && b.done.CompareAndSwap(false, true) {
			b.Conn.Close()
			return 0, net.ErrClosed
		}
		if len(b.seen) < size {
			break
		}
		b.seen = b.seen[size:]
	}
	return n, err
}

// A change that stopped anywhere goes on with the same addresses: nothing that was
// acknowledged is lost, and all members serve in the end.
func TestChangeStopsHalfWay(t *testing.T) {
	t.Parallel()
	for _, kind := range []wire.FrameKind{wire.FrameIdentify, wire.FrameFinalise, wire.FrameTails, wire.FrameAdopt, wire.FrameActivate} {
		for at := range 3 {
			s := newService(t, 3, 1)
			e := s.enclave()
			e.appends(2)
			lost := s.places[1]
			lost.stop()
			lost.start()
			broken := &fault{kind: kind}
			s.places[at].breaks.Store(broken)
			ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
			f, _, err := s.o.Change(ctx, s.file, addresses(s.places))
			cancel()
			s.places[at].breaks.Store(nil)
			if err != nil { // where a majority was enough, it did not stop
				if f, _, err = s.o.Change(s.ctx, s.file, addresses(s.places)); err != nil {
					t.Fatalf("frame %d to member %d: %v", kind, at, err)
				}
				if !broken.done.Load() {
					t.Fatalf("frame %d to member %d: failed without a fault", kind, at)
				}
			}
			s.file = f
			s.write()
			if n := s.serving(s.places); n < 2 {
				t.Fatalf("frame %d to member %d: %d serve", kind, at, n)
			}
			e.reopen()
			e.appends(1)
			if n := len(s.w.Store.Accounts[e.account].Entries); n != 3 {
				t.Fatalf("frame %d to member %d: %d entries", kind, at, n)
			}
		}
	}
}

// Two of three could not be told to serve any more: the third one has forgotten the view
// before, and the two go on with what they were handed.
func TestChangeStopsWhileActivating(t *testing.T) {
	t.Parallel()
	for served := range 3 {
		s := newService(t, 3, 1)
		e := s.enclave()
		e.appends(2)
		s.places[1].stop()
		s.places[1].start()
		for i, p := range s.places {
			if i != served {
				p.breaks.Store(&fault{kind: wire.FrameActivate})
			}
		}
		if err := s.change(s.places); err == nil {
			t.Fatal("one member is no majority")
		}
		for _, p := range s.places {
			p.breaks.Store(nil)
		}
		if err := s.change(s.places); err != nil {
			t.Fatalf("after member %d served: %v", served, err)
		}
		if n := s.serving(s.places); n != 3 {
			t.Fatalf("after member %d served: %d of 3 serve", served, n)
		}
		e.reopen()
		e.appends(1)
		if n := len(s.w.Store.Accounts[e.account].Entries); n != 3 {
			t.Fatalf("after member %d served: %d entries", served, n)
		}
	}
}

// After one change stopped behind the last words, no other successor is taken.
func TestChangeToOthersIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 1)
	s.enclave().appends(1)
	list := s.fresh(3)
	for _, p := range list {
		p.breaks.Store(&fault{kind: wire.FrameAdopt})
	}
	if err := s.change(list); err == nil {
		t.Fatal("changed without handing over")
	}
	if err := s.change(s.fresh(3)); !errors.Is(err, endorsers.ErrNoMajority) {
		t.Fatalf("got %v", err)
	}
	for _, p := range list {
		p.breaks.Store(nil)
	}
	if err := s.change(list); err != nil {
		t.Fatal(err)
	}
	if n := s.serving(list); n != 3 {
		t.Fatalf("%d serve", n)
	}
}

// The pool finds endorsers again that were away, and new ones when the file changes.
func TestPool(t *testing.T) {
	t.Parallel()
	s := newService(t, 3, 1)
	e := s.enclave()
	e.appends(1)
	key := s.places[0].endorser.Key()
	_, err := e.pool.Relay(s.ctx, key, wire.FrameFinalise, nil)
	wantCode(t, err, wire.CodeMalformed) // the enclave's frames, and no others
	_, err = e.pool.Relay(s.ctx, []byte("nobody"), wire.FrameAsk, nil)
	wantCode(t, err, wire.CodeUnavailable)
	_, err = e.pool.Relay(s.ctx, key, wire.FrameAsk, []byte{0xf6})
	wantCode(t, err, wire.CodeMalformed) // as the endorser says it

	s.places[0].stop()
	e.appends(1)
	s.places[0].start()
	if err := s.change(append(s.places[:2:2], s.fresh(1)...)); err != nil {
		t.Fatal(err)
	}
	e.appends(1)
	again := s.places[0].endorser.Key()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := e.pool.Relay(s.ctx, again, wire.FrameAsk, []byte{0xf6})
		if wire.CodeOf(err) == wire.CodeMalformed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the restarted endorser is not found: %v", err)
		}
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	_, err = e.pool.Views(s.ctx)
	wantCode(t, err, wire.CodeUnavailable)
	s.write()
	if _, err := e.pool.Views(s.ctx); err != nil {
		t.Fatal(err)
	}
}

func TestFileRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "endorsers.json")
	if _, err := endorsers.Open(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	for name, text := range map[string]string{
		"another version": `{"version":2,"addresses":[],"chain":"","evidence":[]}`,
		"unknown member":  `{"version":1,"waived":true}`,
		"no JSON":         `chain`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := endorsers.ReadFile(path); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	f := &endorsers.File{Addresses: []string{"tcp:a"}, Chain: []byte{0xa0}, Evidence: []wire.Base64{{1}}}
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	again, err := endorsers.ReadFile(path)
	if err != nil || !bytes.Equal(again.Chain, f.Chain) || again.Addresses[0] != "tcp:a" {
		t.Fatal(again, err)
	}
}

func TestOperator(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path, release := filepath.Join(dir, "operator.pem"), filepath.Join(dir, "release.cbor")
	write := func(path, kind string, b []byte) {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "PRIVATE KEY", der)
	if _, err := endorsers.ReadOperator(path, release); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(release, []byte("release"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := endorsers.ReadOperator(path, release)
	if err != nil || !o.Key.Equal(key) || string(o.Release) != "release" {
		t.Fatal(o, err)
	}
}

func wantCode(t testing.TB, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}
