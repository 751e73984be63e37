package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

func TestRates(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *api.Options, _ *api.Timeouts) {
		o.AccountRate = api.Rate{PerSecond: 1, Burst: 2}
		o.AddressRate = api.Rate{PerSecond: 1, Burst: 5}
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	one, two := envelope(t, wire.AccountID{1}, nil), envelope(t, wire.AccountID{2}, nil)
	for range 2 {
		h.do(t, "POST", "/v1/request", one)
	}
	h.refused(t, 429, wire.CodeRateLimited, "POST", "/v1/request", one)
	if status, _ := h.do(t, "POST", "/v1/request", two); status != 200 {
		t.Fatalf("another account: %d", status)
	}
	h.set(func() { h.now = h.now.Add(time.Second) })
	if status, _ := h.do(t, "POST", "/v1/request", one); status != 200 {
		t.Fatalf("a second later: %d", status)
	}

	// Behind a trusted proxy the last address counts, whatever stands before it.
	for n := range 5 {
		if status, _ := h.do(t, "GET", "/v1/attestation", nil, "X-Forwarded-For", fmt.Sprintf("10.0.0.%d, 192.0.2.1", n)); status != 200 {
			t.Fatal(status)
		}
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", "/v1/attestation", nil, "X-Forwarded-For", "10.0.0.9, 192.0.2.1")
	h.refused(t, 429, wire.CodeRateLimited, "GET", "/v1/status", nil, "X-Forwarded-For", "192.0.2.1, 127.0.0.5")
	if status, _ := h.do(t, "GET", "/v1/attestation", nil, "X-Forwarded-For", "192.0.2.2"); status != 200 {
		t.Fatal(status)
	}
	// IPv6: a network of 64 bits is one.
	for n := range 5 {
		h.do(t, "GET", "/v1/attestation", nil, "X-Forwarded-For", fmt.Sprintf("2001:db8::%x", n))
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", "/v1/attestation", nil, "X-Forwarded-For", "2001:db8::ffff")
	if status, _ := h.do(t, "GET", "/v1/attestation", nil, "X-Forwarded-For", "2001:db8:0:1::1"); status != 200 {
		t.Fatal(status)
	}
}

// A proxy that is not trusted is not believed, and not exempt for being on loopback.
func TestUntrustedProxyOnLoopback(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *api.Options, _ *api.Timeouts) { o.AddressRate = api.Rate{PerSecond: 1, Burst: 1} })
	for range 3 {
		if status, _ := h.do(t, "GET", "/v1/attestation", nil); status != 200 {
			t.Fatalf("loopback itself: %d", status)
		}
	}
	if status, _ := h.do(t, "GET", "/v1/attestation", nil, forwardedFor, "192.0.2.1"); status != 200 {
		t.Fatal(status)
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", "/v1/attestation", nil, forwardedFor, "192.0.2.2")
}

// behindProxy is a change that trusts loopback as a proxy, on top of another.
func behindProxy(change func(*api.Options)) func(*api.Options, *api.Timeouts) {
	return func(o *api.Options, _ *api.Timeouts) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		change(o)
	}
}

const forwardedFor = "X-Forwarded-For"

// What stands for one caller in X-Forwarded-For, and what for another.
func TestForwardedForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		one, same, other string
	}{
		"with a port":          {"192.0.2.1:567", "192.0.2.1", "192.0.2.2:567"},
		"IPv6 with a port":     {"[2001:db8::1]:567", "2001:db8::2", "[2001:db8:0:1::1]:567"},
		"IPv6 in brackets":     {"[2001:db8::1]", "2001:db8::2", "[2001:db8:0:1::1]"},
		"IPv4 in IPv6":         {"::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"},
		"unreadable":           {"unknown", "192.0.2.1, _hidden", "192.0.2.1"},
		"unreadable, then us":  {"192.0.2.1, x, 127.0.0.2", "unknown", "192.0.2.1, 127.0.0.2"},
		"nobody but the proxy": {"127.0.0.2", "127.0.0.2", "127.0.0.3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, behindProxy(func(o *api.Options) { o.AddressRate = api.Rate{PerSecond: 1, Burst: 1} }))
			if status, _ := h.do(t, "GET", "/v1/status", nil, forwardedFor, c.one); status != 200 {
				t.Fatal(status)
			}
			h.refused(t, 429, wire.CodeRateLimited, "GET", "/v1/status", nil, forwardedFor, c.same)
			if status, _ := h.do(t, "GET", "/v1/status", nil, forwardedFor, c.other); status != 200 {
				t.Fatalf("another: %d", status)
			}
		})
	}
}

// One stranger does not take all the evidence there is.
func TestEvidenceOfOneAddress(t *testing.T) {
	t.Parallel()
	h := start(t, behindProxy(func(o *api.Options) { o.EvidenceRate = api.Rate{PerSecond: 8, Burst: 16} }))
	const path = "/v1/attestation?nonce=AAAA"
	for range 2 { // an eighth
		if status, _ := h.do(t, "GET", path, nil, forwardedFor, "192.0.2.1"); status != 200 {
			t.Fatal(status)
		}
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", path, nil, forwardedFor, "192.0.2.1")
	if status, _ := h.do(t, "GET", "/v1/attestation", nil, forwardedFor, "192.0.2.1"); status != 200 {
		t.Fatalf("from memory: %d", status)
	}
	for range 14 { // the rest
		if status, _ := h.do(t, "GET", path, nil); status != 200 {
			t.Fatal(status)
		}
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", path, nil)
}

// Who only names an account uses up nothing of its owner's.
func TestStrangersDoNotUseUpAnAccountsRate(t *testing.T) {
	t.Parallel()
	h := start(t, behindProxy(func(o *api.Options) { o.AccountRate = api.Rate{PerSecond: 1, Burst: 2} }))
	a := storetest.NewAccount(h.keys, "a")
	if _, err := h.store.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	request := envelope(t, a.ID, nil)
	feed := "/v1/feed?account=" + a.ID.String()
	for range 2 {
		h.do(t, "POST", "/v1/request", request, forwardedFor, "192.0.2.1")
		h.refused(t, 403, wire.CodeUnknownDevice, "GET", feed, nil, "Authorization", "Bearer AAAA", forwardedFor, "192.0.2.1")
	}
	h.refused(t, 429, wire.CodeRateLimited, "POST", "/v1/request", request, forwardedFor, "192.0.2.1")
	token, _ := wire.Base64(a.Token()).MarshalText()
	for range 2 {
		if status, _ := h.do(t, "POST", "/v1/request", request, forwardedFor, "192.0.2.2"); status != 200 {
			t.Fatalf("the owner's request: %d", status)
		}
		if status, _ := h.do(t, "GET", feed, nil, "Authorization", "Bearer "+string(token), forwardedFor, "192.0.2.2"); status != 200 {
			t.Fatalf("the owner's feed: %d", status)
		}
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", feed, nil, "Authorization", "Bearer "+string(token), forwardedFor, "192.0.2.3")
}

func TestTooManyCalls(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *api.Options, _ *api.Timeouts) { o.Concurrent = 1 })
	arrived, release := make(chan struct{}), make(chan struct{})
	h.set(func() {
		h.forward = func(*linktest.Conn, *wire.Forward) *wire.Result {
			close(arrived)
			<-release
			return linktest.Value(wire.Reply{Response: []byte("sealed")})
		}
	})
	done := make(chan int, 1)
	raw := envelope(t, wire.AccountID{1}, nil)
	go func() { status, _ := h.do(t, "POST", "/v1/request", raw); done <- status }()
	<-arrived
	h.refused(t, 503, wire.CodeUnavailable, "GET", "/v1/attestation", nil)
	close(release)
	if status := <-done; status != 200 {
		t.Fatal(status)
	}
}

// slowBody begins a request of a length and returns when the host waits for its body.
func (h *host) slowBody(t *testing.T, length int, from string) {
	t.Helper()
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "POST /v1/request HTTP/1.1\r\nHost: h\r\nContent-Type: application/cbor\r\nExpect: 100-continue\r\n"+
		forwardedFor+": %s\r\nContent-Length: %d\r\n\r\n", from, length)
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || answer.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v", answer, err)
	}
}

// A body that does not come keeps nobody from the calls under way.
func TestSlowBodyTakesNoPlace(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *api.Options, _ *api.Timeouts) { o.Concurrent = 1 })
	h.slowBody(t, 1000, "192.0.2.1")
	if status, _ := h.do(t, "GET", "/v1/attestation", nil); status != 200 {
		t.Fatal(status)
	}
	if status, _ := h.do(t, "POST", "/v1/request", envelope(t, wire.AccountID{1}, nil)); status != 200 {
		t.Fatal(status)
	}
}

// The bodies of one address are bounded, by what they claim, and so are all together.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	h := start(t, behindProxy(func(*api.Options) {}))
	request := envelope(t, wire.AccountID{1}, nil)
	for n := range 8 {
		from := fmt.Sprintf("192.0.2.%d", n)
		for range 32 {
			h.slowBody(t, wire.MaxEnvelope, from)
		}
		h.refused(t, 503, wire.CodeUnavailable, "POST", "/v1/request", request, forwardedFor, from)
		if n == 0 {
			if status, _ := h.do(t, "POST", "/v1/request", request, forwardedFor, "192.0.2.9"); status != 200 {
				t.Fatalf("another address: %d", status)
			}
		}
	}
	h.refused(t, 503, wire.CodeUnavailable, "POST", "/v1/request", request)
	if status, _ := h.do(t, "GET", "/v1/attestation", nil); status != 200 {
		t.Fatalf("what has no body: %d", status)
	}
}

// One address has a part of the calls under way.
func TestCallsOfOneAddress(t *testing.T) {
	t.Parallel()
	h := start(t, behindProxy(func(o *api.Options) { o.Concurrent = 16 }))
	arrived, release := make(chan struct{}), make(chan struct{})
	h.set(func() {
		h.forward = func(*linktest.Conn, *wire.Forward) *wire.Result {
			close(arrived)
			<-release
			return linktest.Value(wire.Reply{Response: []byte("sealed")})
		}
	})
	done := make(chan int, 1)
	raw := envelope(t, wire.AccountID{1}, nil)
	go func() { status, _ := h.do(t, "POST", "/v1/request", raw, forwardedFor, "192.0.2.1"); done <- status }()
	<-arrived
	h.refused(t, 503, wire.CodeUnavailable, "GET", "/v1/feed", nil, forwardedFor, "192.0.2.1")
	h.refused(t, 400, wire.CodeArgument, "GET", "/v1/feed", nil, forwardedFor, "192.0.2.2")
	close(release)
	if status := <-done; status != 200 {
		t.Fatal(status)
	}
	h.refused(t, 400, wire.CodeArgument, "GET", "/v1/feed", nil, forwardedFor, "192.0.2.1")
}

// street is a listener whose connections come from where the test says.
type street struct {
	conns  chan net.Conn
	closed chan struct{}
}

type from struct {
	net.Conn
	address string
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.address))
}

func (s *street) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}
func (s *street) Close() error   { close(s.closed); return nil }
func (s *street) Addr() net.Addr { return &net.TCPAddr{} }

// call connects from an address, asks once and returns the connection; nil: it was closed.
func (s *street) call(t *testing.T, address string) (net.Conn, *http.Response) {
	t.Helper()
	here, there := net.Pipe()
	s.conns <- from{there, address}
	if _, err := io.WriteString(here, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return nil, nil
	}
	answer, err := http.ReadResponse(bufio.NewReader(here), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Fatal(err)
	}
	return here, answer
}

func TestConnections(t *testing.T) {
	t.Parallel()
	s := api.New(api.Options{
		Store: storetest.NewMemory(), Enclave: &counting{}, Log: quiet,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")},
	})
	l := &street{make(chan net.Conn), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, nil, api.DefaultTimeouts()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	const each, total = 64, 4096
	for n := range each {
		if c, _ := l.call(t, fmt.Sprintf("[2001:db8::%x]:1", n)); c == nil {
			t.Fatalf("connection %d of one network was closed", n)
		}
	}
	if c, _ := l.call(t, "[2001:db8::ffff]:1"); c != nil {
		t.Fatal("one network has more connections than its part")
	}
	// Others do, and a proxy and loopback may have more than a part.
	for n := each; n < total/4*3; n++ {
		c, answer := l.call(t, []string{"198.51.100.1:1", "127.0.0.1:1"}[n%2])
		if c == nil || answer.Close {
			t.Fatalf("connection %d", n)
		}
	}
	for range total { // nearly full: answered and ended
		c, answer := l.call(t, "192.0.2.1:1")
		if c == nil || !answer.Close {
			t.Fatal("nearly full, and a connection stays")
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
	}
	for range total / 4 { // full of connections that say nothing
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close() })
		l.conns <- from{there, "198.51.100.1:1"}
	}
	if c, _ := l.call(t, "192.0.2.1:1"); c != nil {
		t.Fatal("there are more connections than there may be")
	}
}
