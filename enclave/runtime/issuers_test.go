package runtime

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
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
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	var url string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/keys":
			w.Write([]byte(`{"keys":[]}`))
		case p.asked.Add(1) > 0 && p.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		default:
			json.NewEncoder(w).Encode(map[string]string{"issuer": url, "jwks_uri": url + "/keys"})
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
