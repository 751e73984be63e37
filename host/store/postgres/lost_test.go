package postgres_test

import (
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// cut is what becomes of a request that is larger than a ping.
type cut int32

const (
	forward cut = iota
	never       // it does not reach the database
	half        // half of it does
	after       // it does, and the answer is lost
)

// proxy stands between a host and its database.
type proxy struct {
	server string
	next   atomic.Int32 // a cut, done once
}

func newProxy(t *testing.T, database string) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "px")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	q := u.Query()
	p = &proxy{server: filepath.Join(q.Get("host"), ".s.PGSQL.5432")}
	l, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	q.Set("host", folder)
	q.Set("pool_max_conns", "1") // so that statements are prepared where they are cut
	u.RawQuery = q.Encode()
	return p, u.String()
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	var silent atomic.Bool // the next answer is lost, and the connection with it
	go func() {
		defer client.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if err != nil || silent.Load() {
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		if n > 500 {
			switch cut(p.next.Swap(int32(forward))) {
			case never:
				return
			case half:
				server.Write(b[:n/2])
				return
			case after:
				silent.Store(true)
			}
		}
		if _, err := server.Write(b[:n]); err != nil {
			io.Copy(io.Discard, client)
			return
		}
	}
}

// A connection that is lost on the way leaves the outcome open: the error says so and
// never that another commit won. The same commit, sent again, is done once.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, through := newProxy(t, f.database)
	s := open(t, through)
	defer s.Close()
	a := storetest.NewAccount(f.keys, "a")
	for range 3 {
		if _, err := s.Commit(t.Context(), a.Change(0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		cut    cut
		stands bool
	}{{never, false}, {half, false}, {after, true}, {after, true}, {half, false}} {
		if _, err := s.Commit(t.Context(), a.Change(0)); err != nil { // prepares the statements
			t.Fatal(err)
		}
		before := a.At.Sequence
		commit := a.Change(0)
		p.next.Store(int32(c.cut))
		if _, err := s.Commit(t.Context(), commit); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Fatalf("cut %d: %v, want %s", c.cut, err, wire.CodeUnavailable)
		}
		if p.next.Load() != int32(forward) {
			t.Fatalf("cut %d: nothing was cut", c.cut)
		}
		state, err := f.Load(t.Context(), wire.Need{Account: a.ID, After: &before})
		if err != nil || (len(state.Entries) == 1) != c.stands {
			t.Fatalf("cut %d: %d entries stand (%v), want %v", c.cut, len(state.Entries), err, c.stands)
		}
		if done, err := s.Commit(t.Context(), commit); err != nil || done.Newest != a.At {
			t.Fatalf("cut %d, sent again: %+v, %v", c.cut, done, err)
		}
	}
}
