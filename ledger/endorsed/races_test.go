package endorsed_test

import (
	"context"
	"sync"
	"testing"

	"github.com/passclave/passclave/wire"
)

// overtaken is a host by which others are faster: before its first ask with an append
// reaches anybody, they do something.
type overtaken struct {
	host
	once   *sync.Once
	others func()
}

func (o overtaken) Relay(ctx context.Context, key []byte, kind wire.FrameKind, body []byte) ([]byte, error) {
	if kind == wire.FrameAsk && len(appendsOf(body)) > 0 {
		o.once.Do(o.others)
	}
	return o.host.Relay(ctx, key, kind, body)
}

func (s *service) overtaken(others func()) *enclave {
	h := overtaken{host{s.World, s.Store}, new(sync.Once), others}
	return &enclave{s, s.Memory().Over(h), s.Store}
}

// An entry that another enclave finished, and appended behind, before its own one had asked
// anybody, was appended all the same: a PIN attempt whose RESERVE it is goes on.
func TestOvertakenAppend(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	at := s.enclave().append()
	other := s.enclave()
	var newest wire.Head
	slow := s.overtaken(func() { newest = other.append() })
	own, err := slow.appendTo(at)
	if err != nil {
		t.Fatal(err)
	}
	if newest.Sequence != own.Sequence+1 {
		t.Fatalf("there was no race: %d and %d", own.Sequence, newest.Sequence)
	}
	if h := slow.mustRead(); h != newest {
		t.Fatalf("the newest is %v, not %v", h, newest)
	}
}

// What overtook must stand upon the entry: the newest of another branch proves nothing.
func TestOvertakenByAFork(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	at := s.enclave().append()
	fork := s.Store.Snapshot()
	slow := s.overtaken(func() {
		s.Store.Restore(fork) // the own entry is in no database any more
		other := s.enclave()
		other.append()
		other.append()
	})
	_, err := slow.appendTo(at)
	wantCode(t, err, wire.CodeUnavailable)
}

// A read that wants to finish an entry which others finished, and went on, reads again.
func TestOvertakenFinish(t *testing.T) {
	t.Parallel()
	s := newService(t, 3)
	at := s.enclave().append()
	c, _ := s.keys.Entry(s.account, at)
	if _, err := s.Store.Commit(s.ctx, c); err != nil { // its enclave died
		t.Fatal(err)
	}
	other := s.enclave()
	var newest wire.Head
	slow := s.overtaken(func() { newest = other.append() })
	if h, err := slow.read(); err != nil || h.Head != newest || newest.Sequence != 3 {
		t.Fatalf("%v, %v, want %v", h, err, newest)
	}
}
