package runtime

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/wire"
)

// provider is an issuer that counts who asks for its discovery document.
type provider struct {
	wire.Issuer
	asked atomic.Int64
	down  atomic.Bool
	// change makes the discovery document another, or answers in its place; nil does nothing.
	change func(w http.ResponseWriter, r *http.Request, document map[string]string) (answered bool)
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	var url string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		document := map[string]string{"issuer": url, "jwks_uri": url + "/keys"}
		switch {
		case p.change != nil && p.change(w, r, document):
		case r.URL.Path == "/keys", r.URL.Path == "/elsewhere":
			w.Write([]byte(`{"keys":[]}`))
		case p.asked.Add(1) > 0 && p.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		default:
			json.NewEncoder(w).Encode(document)
		}
	}))
	t.Cleanup(server.Close)
	url = server.URL
	p.Issuer.Issuer = url
	p.Roots = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return p
}

// While an issuer is down, requests that need its keys do not queue for it: one of them
// asks, and for a while nobody else does.
func TestIssuerDown(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	s := newIssuers(func() time.Duration { return time.Duration(now.Load()) })
	p := newProvider(t)
	p.down.Store(true)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := s.keys(t.Context(), &p.Issuer, true); err == nil {
				t.Error("keys of an issuer that is down")
			}
		})
	}
	all.Wait()
	if n := p.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}

	now.Store(int64(keysRefresh))
	p.down.Store(false)
	if _, err := s.keys(t.Context(), &p.Issuer, false); err != nil {
		t.Fatal(err)
	}
	// Keys at hand serve while a refresh fails, as long as they live.
	p.down.Store(true)
	now.Store(int64(3 * keysRefresh))
	if _, err := s.keys(t.Context(), &p.Issuer, true); err == nil {
		t.Error("a refresh that failed")
	}
	if _, err := s.keys(t.Context(), &p.Issuer, true); err != nil {
		t.Errorf("keys at hand: %v", err)
	}
	if n := p.asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}

// What an issuer's discovery may say, and what its answers may be.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	set := func(member string, value func(string) string) func(http.ResponseWriter, *http.Request, map[string]string) bool {
		return func(_ http.ResponseWriter, _ *http.Request, document map[string]string) bool {
			document[member] = value(document[member])
			return false
		}
	}
	at := func(path string, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request, map[string]string) bool {
		return func(w http.ResponseWriter, r *http.Request, _ map[string]string) bool {
			if r.URL.Path != path {
				return false
			}
			answer(w, r)
			return true
		}
	}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"keys":[]}`)) }))
	t.Cleanup(plain.Close)
	redirect := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }
	const discovery = "/.well-known/openid-configuration"
	for name, c := range map[string]struct {
		change func(http.ResponseWriter, *http.Request, map[string]string) bool
		ok     bool
	}{
		"as it is":                {nil, true},
		"keys under another path": {set("jwks_uri", func(u string) string { return strings.Replace(u, "/keys", "/elsewhere", 1) }), true},
		"another issuer":          {set("issuer", func(u string) string { return u + "/other" }), false},
		"issuer with a slash":     {set("issuer", func(u string) string { return u + "/" }), false},
		"no issuer":               {set("issuer", func(string) string { return "" }), false},
		"keys without TLS":        {set("jwks_uri", func(string) string { return plain.URL }), false},
		"no keys":                 {set("jwks_uri", func(string) string { return "" }), false},
		"discovery redirects": {at(discovery, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/document", http.StatusFound)
		}), false},
		"keys redirect": {at("/keys", redirect), false},
		"keys not found": {at("/keys", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"keys":[]}`))
		}), false},
		"keys not JSON": {at("/keys", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }), false},
		"keys of too many bytes": {at("/keys", func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"keys":[]}` + strings.Repeat(" ", maxKeys)))
		}), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			p.change = c.change
			var clock time.Duration
			s := newIssuers(func() time.Duration { return clock })
			if _, err := s.keys(t.Context(), &p.Issuer, false); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The roots are the configured ones, and those compiled in only where none are.
func TestIssuerRoots(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.Roots = ""
	s := newIssuers(func() time.Duration { return 0 })
	if _, err := s.keys(t.Context(), &p.Issuer, false); err == nil {
		t.Error("an issuer under no root that is compiled in")
	}
	if p.asked.Load() != 0 {
		t.Error("it was asked all the same")
	}
}

// Keys are fetched anew when they are old, or asked for anew, but an issuer's not more
// often than once in ten seconds: anybody can send a token that names an unknown key.
func TestRefreshLimit(t *testing.T) {
	t.Parallel()
	var now time.Duration
	s := newIssuers(func() time.Duration { return now })
	p := newProvider(t)
	for _, step := range []struct {
		after   time.Duration
		refresh bool
		asked   int64
	}{
		{0, false, 1},
		{0, true, 1},
		{keysRefresh - 1, true, 1},
		{1, false, 1},
		{0, true, 2},
		{keysRefresh - 1, true, 2},
		{keysLife - keysRefresh, false, 2},
		{1, false, 3},
		{0, true, 3},
	} {
		now += step.after
		if _, err := s.keys(t.Context(), &p.Issuer, step.refresh); err != nil {
			t.Fatal(err)
		}
		if n := p.asked.Load(); n != step.asked {
			t.Fatalf("at %s, refresh %v: asked %d times, want %d", now, step.refresh, n, step.asked)
		}
	}
}
