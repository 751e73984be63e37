package endorsed_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

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
