package azure_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/ledger/azure"
	"github.com/passclave/passclave/ledger/azure/azuretest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

func want(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if wire.CodeOf(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// once lets the next write meet a fault, and the others none.
func (w *world) once(fault azuretest.Fault) {
	var done atomic.Bool
	w.server.Set(func(s *azuretest.Server) {
		s.OnWrite = func(string) azuretest.Fault {
			if done.Swap(true) {
				return azuretest.NoFault
			}
			return fault
		}
	})
}

// settled returns the head that the host has.
func (w *world) settled() wire.Head {
	newest, _ := w.store.Newest(context.Background(), w.account)
	if newest == nil {
		return wire.Head{}
	}
	e, err := ledger.ParseEntry(newest)
	if err != nil {
		w.t.Fatal(err)
	}
	return ledger.HeadOf(e, newest)
}

func TestSlowLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	w.server.Set(func(s *azuretest.Server) { s.Pending, s.Loading, s.Page = 1, 1, 1 })
	w.once(azuretest.Busy)
	l := w.enclave()
	for range 2 {
		at := w.append(l)
		if got := w.read(w.enclave()); got != at || w.settled() != at {
			t.Fatalf("read %v, host has %v, want %v", got, w.settled(), at)
		}
	}
}

// Pages that hold nothing of a stream, as others' entries fill the ledger, are read over,
// and each page is waited for anew.
func TestSparseCollection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	w.append(l)
	for range 9 {
		w.server.Put("others", "x")
	}
	at := w.append(l)
	w.server.Set(func(s *azuretest.Server) { s.Loading, s.Page = 1, 1 })
	if got := w.read(w.enclave()); got != at {
		t.Fatalf("read %v, want %v", got, at)
	}
}

// A collection that is not there yet may be answered with 404, also to a process that has
// seen others.
func TestMissingCollection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	w.server.Set(func(s *azuretest.Server) { s.MissingIs404 = true })
	l := w.enclave()
	w.append(l)
	another := wire.AccountID{5}
	h, err := l.ReadHead(t.Context(), another, wire.Stream(w.keys.LedgerID, another), [32]byte{}, nil)
	if err != nil || h.Head != (wire.Head{}) {
		t.Fatalf("%v, %v", h, err)
	}
}

// The node asked for the receipt may not have heard of the commit, which another told.
func TestReceiptLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	var refused atomic.Int32
	w.server.Set(func(s *azuretest.Server) {
		s.Intercept = func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/receipt") || refused.Add(1) > 2 {
				return false
			}
			rw.WriteHeader(http.StatusNotAcceptable)
			io.WriteString(rw, `{"error":{"code":"UncommittedLedgerEntry","message":"not committed yet"}}`)
			return true
		}
	})
	w.append(w.enclave())
	if n := refused.Load(); n != 3 {
		t.Fatalf("asked for the receipt %d times", n)
	}
}

// A ledger that is full says so by its code, which stands in the error.
func TestFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	w.server.Set(func(s *azuretest.Server) { s.Collections = 0 })
	_, err := w.write(w.enclave(), wire.Head{})
	want(t, err, wire.CodeUnavailable)
	if !strings.Contains(err.Error(), "CollectionCapacityExceeded") {
		t.Fatal(err)
	}
}

// A transaction of an older view is no entry, and no conflict either.
func TestLostOnViewChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	at := w.append(l)
	w.once(azuretest.Lost)
	_, err := w.write(l, at)
	want(t, err, wire.CodeUnavailable)
	if !errors.Is(err, azure.ErrLost) {
		t.Fatal(err)
	}
	if got := w.read(l); got != at || w.settled() != at {
		t.Fatalf("read %v, host has %v, want %v", got, w.settled(), at)
	}
	w.append(l)
}

// patience is a context that ends at the n-th request.
func (w *world) patience(n int32) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	var requests atomic.Int32
	w.server.Set(func(s *azuretest.Server) {
		s.Intercept = func(http.ResponseWriter, *http.Request) bool {
			if requests.Add(1) == n {
				cancel()
			}
			return false
		}
	})
	return ctx
}

// What is pending is nothing yet: neither for its writer, nor for others; and running
// out of time proves nothing.
func TestTentativeAppend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l, other := w.enclave(), w.enclave()
	at := w.append(l)
	w.server.Set(func(s *azuretest.Server) { s.Pending = 1 << 30 })
	c, head := w.keys.Entry(w.account, at)
	_, err := l.CompareAndAppend(w.patience(3), c) // sent, asked twice
	want(t, err, wire.CodeUnavailable)
	if got := w.read(other); got != at {
		t.Fatalf("a pending entry was read: %v", got)
	}
	w.server.Put("others", "x") // commits what is before it
	if got := w.read(other); got != head || w.settled() != head {
		t.Fatalf("read %v, host has %v, want %v", got, w.settled(), head)
	}
}

func TestAnswerLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	at := w.append(l)
	w.once(azuretest.Dropped)
	head, err := w.write(l, at)
	want(t, err, wire.CodeUnavailable)
	if w.settled() != at {
		t.Fatal("settled without proof")
	}
	if got := w.read(l); got != head || w.settled() != head {
		t.Fatalf("read %v, host has %v, want %v", got, w.settled(), head)
	}
}

// failing is a host that fails in one of the two steps.
type failing struct {
	*ledgertest.Store
	stage, settle error
}

func (f failing) Stage(ctx context.Context, c *wire.Commit) error {
	return errors.Join(f.Store.Stage(ctx, c), f.stage)
}

func (f failing) Settle(ctx context.Context, a wire.AccountID, d wire.Digest) error {
	if f.settle != nil {
		return f.settle
	}
	return f.Store.Settle(ctx, a, d)
}

// A host that keeps what it says that it refused could send it: no error of it says
// that nothing was appended.
func TestHostRefuses(t *testing.T) {
	t.Parallel()
	for _, code := range []wire.Code{wire.CodeConflict, wire.CodeStorageFull, wire.CodeRateLimited, wire.CodeUnavailable} {
		w := newWorld(t, ledgertest.NewKeys(t))
		s, err := azure.New(w.config())
		if err != nil {
			t.Fatal(err)
		}
		c, head := w.keys.Entry(w.account, wire.Head{})
		_, err = s.Over(failing{w.store, wire.Errorf(code, "said by the host"), nil}).CompareAndAppend(context.Background(), c)
		want(t, err, wire.CodeUnavailable)
		if n := len(w.server.Entries()); n != 0 {
			t.Fatalf("%d entries of a commit that was not staged", n)
		}
		_, err = s.Over(failing{w.store, nil, wire.Errorf(code, "said by the host")}).CompareAndAppend(context.Background(), c)
		want(t, err, wire.CodeUnavailable)
		if got := w.read(w.enclave()); got != head || w.settled() != head {
			t.Fatalf("%s: read %v, host has %v, want %v", code, got, w.settled(), head)
		}
	}
}

// Position decides, whatever racing enclaves think.
func TestRacingEnclaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	w.server.Set(func(s *azuretest.Server) { s.Pending = 1 })
	enclaves := []*azure.Ledger{w.enclave(), w.enclave(), w.enclave()}
	for range 4 {
		at := w.read(enclaves[0])
		var wins atomic.Int32
		var wait sync.WaitGroup
		for _, l := range enclaves {
			wait.Go(func() {
				switch _, err := w.write(l, at); wire.CodeOf(err) {
				case "":
					wins.Add(1)
				case wire.CodeConflict:
				default:
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d enclaves won one place", wins.Load())
		}
		for _, l := range enclaves {
			if got := w.read(l); got.Sequence != at.Sequence+1 || got != w.settled() {
				t.Fatalf("read %v, host has %v", got, w.settled())
			}
		}
	}
}

// A read begins where the last one ended.
func TestReadsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	l := w.enclave()
	for range 4 {
		w.append(l)
	}
	var pages atomic.Int32
	w.server.Set(func(s *azuretest.Server) {
		s.Intercept = func(http.ResponseWriter, *http.Request) bool { pages.Add(1); return false }
	})
	w.read(l)
	if pages.Load() != 1 {
		t.Fatalf("%d requests", pages.Load())
	}
	w.read(w.enclave())
	if pages.Load() < 3 {
		t.Fatalf("%d requests", pages.Load())
	}
}

// A write is followed to the primary, inside the ledger's own domain only.
func TestRedirects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	var once sync.Once
	w.server.Set(func(s *azuretest.Server) {
		s.Intercept = func(rw http.ResponseWriter, r *http.Request) (taken bool) {
			if r.Method == http.MethodPost {
				once.Do(func() { http.Redirect(rw, r, r.URL.RequestURI(), http.StatusTemporaryRedirect); taken = true })
			}
			return taken
		}
	})
	l := w.enclave()
	w.append(l)

	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan bool, 1)
	go func() {
		c, err := stranger.Accept()
		if err == nil {
			c.Close()
		}
		reached <- err == nil
	}()
	for _, to := range []string{"https://" + stranger.Addr().String(), "http://" + stranger.Addr().String(), "/again"} {
		w.server.Set(func(s *azuretest.Server) {
			s.Intercept = func(rw http.ResponseWriter, r *http.Request) bool {
				http.Redirect(rw, r, to, http.StatusTemporaryRedirect)
				return true
			}
		})
		_, err := w.tryRead(l)
		want(t, err, wire.CodeUnavailable)
	}
	stranger.Close()
	if <-reached {
		t.Fatal("followed to another host")
	}
}

// Without a token that is accepted nothing is done, and no error tells it.
func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, ledgertest.NewKeys(t))
	for _, token := range []func(context.Context) (string, error){
		func(context.Context) (string, error) { return "another-token", nil },
		func(context.Context) (string, error) { return "", errors.New("no identity") },
	} {
		c := w.config()
		c.Token = token
		l := w.with(c)
		_, err := w.tryRead(l)
		want(t, err, wire.CodeUnavailable)
		_, err = w.write(l, wire.Head{})
		want(t, err, wire.CodeUnavailable)
		if strings.Contains(err.Error(), "another-token") {
			t.Fatal(err)
		}
	}
}
