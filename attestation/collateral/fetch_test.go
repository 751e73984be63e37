package collateral

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func testFetcher() *fetcher {
	f := newFetcher(&http.Client{}, time.Now)
	f.pause = time.Millisecond
	return f
}

// get asks a server that handles the n-th request, counted from 1.
func get(t *testing.T, ctx context.Context, handle func(n int32, w http.ResponseWriter, r *http.Request)) (string, int32, error) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(n.Add(1), w, r) }))
	defer s.Close()
	body, _, err := testFetcher().get(ctx, "test", s.URL+"/first", nil)
	return string(body), n.Load(), err
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 500, 502, 503, 504} {
		body, n, err := get(t, t.Context(), func(n int32, w http.ResponseWriter, _ *http.Request) {
			if n < 3 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(status)
				return
			}
			w.Write([]byte("body"))
		})
		if err != nil || body != "body" || n != 3 {
			t.Errorf("status %d: %q, %v after %d requests", status, body, err, n)
		}
	}
	for status, want := range map[int]int32{400: 1, 403: 1, 404: 1, 503: attempts} {
		_, n, err := get(t, t.Context(), func(_ int32, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if e := (*Error)(nil); !errors.As(err, &e) || e.Status != status || e.Attempts != int(want) || n != want || !errors.Is(err, ErrStatus) {
			t.Errorf("status %d: %v after %d requests", status, err, n)
		}
	}
	// A connection that breaks in the middle.
	body, n, err := get(t, t.Context(), func(n int32, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		if n == 1 {
			w.Write([]byte("bo"))
			panic(http.ErrAbortHandler)
		}
		w.Write([]byte("body"))
	})
	if err != nil || body != "body" || n != 2 {
		t.Errorf("broken off: %q, %v after %d requests", body, err, n)
	}
}

// Who asks for more time than there is gets no second request.
func TestTimeLimit(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	begin := time.Now()
	_, n, err := get(t, ctx, func(_ int32, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if !errors.Is(err, ErrStatus) || n != 1 || time.Since(begin) > 4*time.Second {
		t.Errorf("%v after %d requests", err, n)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = get(t, short, func(_ int32, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that is silent: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "7s": 0, "99999999999999": 0,
		"Thu, 26 Nov 2026 12:00:09 GMT": 9 * time.Second, "Thu, 26 Nov 2026 11:59:00 GMT": -time.Minute,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	_, n, err := get(t, t.Context(), func(_ int32, w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxAnswer+1)) })
	if !errors.Is(err, ErrTooLarge) || n != 1 {
		t.Errorf("%v after %d requests", err, n)
	}
	body, _, err := get(t, t.Context(), func(_ int32, w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxAnswer)) })
	if err != nil || len(body) != maxAnswer {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	_, n, err := get(t, t.Context(), func(_ int32, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusFound)
	})
	if !errors.Is(err, ErrRedirect) || n != 1 || elsewhere.Load() != 0 {
		t.Errorf("elsewhere: %v after %d requests", err, n)
	}
	body, n, err := get(t, t.Context(), func(n int32, w http.ResponseWriter, r *http.Request) {
		if n == 1 {
			http.Redirect(w, r, "/second", http.StatusFound)
			return
		}
		w.Write([]byte(r.URL.Path))
	})
	if err != nil || body != "/second" || n != 2 {
		t.Errorf("here: %q, %v", body, err)
	}
	_, n, err = get(t, t.Context(), func(_ int32, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/first", http.StatusFound) })
	if !errors.Is(err, ErrRedirect) || n != 1+maxRedirects {
		t.Errorf("in a circle: %v after %d requests", err, n)
	}
	// Nor to the same host without TLS.
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+"/", http.StatusFound)
	}))
	defer secure.Close()
	if _, _, err := newFetcher(secure.Client(), time.Now).get(t.Context(), "test", secure.URL, nil); !errors.Is(err, ErrRedirect) {
		t.Errorf("out of TLS: %v", err)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	header.Set("Request-ID", strings.Repeat("é", maxRequestID))
	if id := requestID(header.Get); len(id) > maxRequestID || !strings.HasPrefix(id, "é") {
		t.Errorf("%q", id)
	}
	e := &Error{Source: "s", Status: 500, RequestID: "a\x1b[31m\nb", cause: ErrStatus}
	if strings.ContainsAny(e.Error(), "\x1b\n") {
		t.Errorf("%q", e)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	f := Folder(dir)
	if _, ok := f.Get("none"); ok {
		t.Error("something out of nothing")
	}
	for _, content := range []string{"first, the longer one", "second"} {
		if err := f.Put("name", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, ok := f.Get("name"); !ok || string(got) != content {
			t.Errorf("%q, %v", got, ok)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, "name": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 2*maxAnswer+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("name", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"large", "link", "."} {
		if _, ok := f.Get(name); ok {
			t.Errorf("%s was read", name)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Put("folder", []byte("content")); err == nil {
		t.Error("a file took a folder's place")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := f.Remove("name"); err != nil {
		t.Error(err)
	}
	if _, ok := f.Get("name"); ok {
		t.Error("still there")
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := Memory()
	for i := range 2 * maxMemory {
		m.Put(strings.Repeat("x", i+1), []byte{byte(i)})
	}
	if n := len(m.(*memory).held); n != maxMemory {
		t.Errorf("%d things", n)
	}
	newest := strings.Repeat("x", 2*maxMemory)
	if got, ok := m.Get(newest); !ok || !slices.Equal(got, []byte{2*maxMemory - 1}) {
		t.Errorf("the newest: %v, %v", got, ok)
	}
	m.Remove(newest)
	if _, ok := m.Get(newest); ok {
		t.Error("still there")
	}
}
