package api_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// counting is an enclave that answers everything and notes what reached it.
type counting struct{ envelopes [][]byte }

func (c *counting) Forward(_ context.Context, f *wire.Forward) (wire.Reply, error) {
	c.envelopes = append(c.envelopes, f.Envelope)
	return wire.Reply{}, nil
}
func (c *counting) Attest(context.Context, wire.Attest) (wire.Attestation, error) {
	return wire.Attestation{}, nil
}
func (c *counting) Status(context.Context) (wire.Status, error) { return wire.Status{}, nil }
func (c *counting) Rewrap(context.Context, wire.Rewrap) (wire.Rewrapped, error) {
	return wire.Rewrapped{}, nil
}
func (c *counting) Connection() uint64 { return 1 }

// Whatever comes as a body, only what parses as an envelope reaches the enclave, unchanged.
func FuzzRequest(f *testing.F) {
	good := envelope(f, wire.AccountID{1}, &wire.Head{Sequence: 3}, wire.Handle{1})
	for _, seed := range [][]byte{good, good[:100], {}, {0xa0}, bytes.Repeat([]byte{0x9f}, 64)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &counting{}
		s := api.New(api.Options{Store: storetest.NewMemory(), Enclave: c, Log: quiet})
		r := httptest.NewRequest("POST", "/v1/request", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/cbor")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		_, err := wire.ParseEnvelope(body)
		if parsed := err == nil; parsed != (w.Code == http.StatusOK) || parsed != (len(c.envelopes) == 1) {
			t.Fatalf("status %d, %d forwarded, parse: %v", w.Code, len(c.envelopes), err)
		}
		if err == nil && !bytes.Equal(c.envelopes[0], body) {
			t.Fatal("forwarded something else")
		}
	})
}

// Nothing in a header or query makes the host panic or answer another's feed.
func FuzzFeed(f *testing.F) {
	f.Add("account=00&after=1", "Bearer AAAA", "192.0.2.1, 10.0.0.1")
	f.Add("account="+wire.AccountID{}.String()+"&after=18446744073709551615", "Bearer", "::1%eth0")
	f.Add("after=%zz", "bearer x", ",,,")
	f.Fuzz(func(t *testing.T, query, authorization, forwarded string) {
		s := api.New(api.Options{
			Store: storetest.NewMemory(), Enclave: &counting{}, Log: quiet,
			AddressRate: api.Rate{PerSecond: 1, Burst: 1}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
		})
		r := httptest.NewRequest("GET", "/v1/feed", nil)
		r.URL.RawQuery = query
		r.Header["Authorization"], r.Header["X-Forwarded-For"] = []string{authorization}, []string{forwarded}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code < 400 {
			t.Fatalf("status %d", w.Code)
		}
	})
}
