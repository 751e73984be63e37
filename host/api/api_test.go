package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/link"
	"github.com/passclave/passclave/host/link/linktest"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/ledger/ledgertest"
	"github.com/passclave/passclave/wire"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// host is a whole host on loopback before an enclave that the test plays.
type host struct {
	url      string
	address  string
	store    *storetest.Memory
	server   *api.Server
	enclave  *linktest.Enclave
	keys     *ledgertest.Keys
	attests  atomic.Int64
	forwards atomic.Int64

	mu      sync.Mutex
	status  wire.Status
	forward func(*linktest.Conn, *wire.Forward) *wire.Result
	other   func(wire.Frame) *wire.Result // for other calls; nil: they are forwards, too
	now     time.Time
	facts   api.EvidenceFacts // of the evidence
}

// start starts a host. change may alter its options.
func start(t *testing.T, change func(*api.Options, *api.Timeouts)) *host {
	t.Helper()
	h := &host{store: storetest.NewMemory(), keys: ledgertest.NewKeys(t), now: time.Unix(1_800_000_000, 0), facts: api.EvidenceFacts{Ledger: []byte("ledger"), Signers: 1}}
	h.status = wire.Status{Ready: true, KEK: "1", Backend: "local", Freshness: wire.FreshnessLocal}
	h.forward = func(_ *linktest.Conn, f *wire.Forward) *wire.Result {
		return linktest.Value(wire.Reply{Response: []byte("sealed")})
	}
	h.enclave = linktest.Start(t, h.handle)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	l := link.New(h.enclave.Dial, h.store, quiet)
	running.Go(func() { l.Run(ctx) })
	if err := l.Connected(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := api.Options{
		Store: h.store, Enclave: l, Log: quiet, Now: h.clock,
		ReadEvidence: func([]byte) (api.EvidenceFacts, error) { h.mu.Lock(); defer h.mu.Unlock(); return h.facts, nil },
	}
	timeouts := api.DefaultTimeouts()
	if change != nil {
		change(&o, &timeouts)
	}
	h.server = api.New(o)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.address = listener.Addr().String()
	h.url = "http://" + h.address
	running.Go(func() { h.server.Serve(ctx, listener, nil, timeouts) })
	return h
}

func (h *host) clock() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now }

func (h *host) set(f func()) { h.mu.Lock(); defer h.mu.Unlock(); f() }

func (h *host) handle(c *linktest.Conn, f wire.Frame) *wire.Result {
	switch f.Kind {
	case wire.FrameAttest:
		n := h.attests.Add(1)
		var a wire.Attest
		if err := wire.Unmarshal(f.Body, &a); err != nil {
			return linktest.Refusal(wire.CodeMalformed)
		}
		return linktest.Value(wire.Attestation{Evidence: append([]byte("evidence"), a.Nonce...), Challenge: fmt.Append(nil, n)})
	case wire.FrameStatus:
		h.mu.Lock()
		defer h.mu.Unlock()
		return linktest.Value(h.status)
	}
	h.mu.Lock()
	other := h.other
	h.mu.Unlock()
	if f.Kind != wire.FrameRequest && other != nil {
		return other(f)
	}
	h.forwards.Add(1)
	var forward wire.Forward
	if err := wire.Unmarshal(f.Body, &forward); err != nil {
		return linktest.Refusal(wire.CodeMalformed)
	}
	h.mu.Lock()
	answer := h.forward
	h.mu.Unlock()
	return answer(c, &forward)
}

// do makes one call and returns status and body.
func (h *host) do(t testing.TB, method, path string, body []byte, header ...string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, h.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/cbor")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, b
}

// refused expects a refusal with a code and nothing else in it.
func (h *host) refused(t testing.TB, status int, code wire.Code, method, path string, body []byte, header ...string) {
	t.Helper()
	got, b := h.do(t, method, path, body, header...)
	var e wire.Error
	if err := wire.Unmarshal(b, &e); err != nil || got != status || e.Code != code || e.Command != nil || e.AttemptsLeft != nil {
		t.Fatalf("%s %s: %d %q (%v), want %d %s", method, path, got, e.Code, err, status, code)
	}
}

// envelope seals a request to an enclave that nobody is.
func envelope(t testing.TB, account wire.AccountID, known *wire.Head, handles ...wire.Handle) []byte {
	t.Helper()
	key, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := wire.NewSealer(key.PublicKey(), wire.Header{Account: account, Known: known, Handles: handles})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Seal([]byte("request"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestIsForwardedWithItsState(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	a := storetest.NewAccount(h.keys, "a")
	first := a.Change(2)
	known := a.At
	second := a.Reserve()
	for _, c := range []*wire.Commit{first, second} {
		if _, err := h.store.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan *wire.Forward, 1)
	h.set(func() {
		h.forward = func(_ *linktest.Conn, f *wire.Forward) *wire.Result {
			got <- f
			return linktest.Value(wire.Reply{Response: []byte("sealed")})
		}
	})
	raw := envelope(t, a.ID, &known, a.Handles()[1])
	status, body := h.do(t, "POST", "/v1/request", raw)
	if status != http.StatusOK || string(body) != "sealed" {
		t.Fatalf("%d %q", status, body)
	}
	f := <-got
	want := wire.State{Newest: second.Append.Entry, Entries: [][]byte{second.Append.Entry}, Head: first.Head, Wraps: first.Wraps, Records: first.Records[1:]}
	if !bytes.Equal(f.Envelope, raw) || !bytes.Equal(wire.Marshal(f.State), wire.Marshal(want)) || f.Now != uint64(h.clock().Unix()) {
		t.Fatalf("forwarded %+v", f)
	}
}

func TestBadRequestsDoNotReachTheEnclave(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	good := envelope(t, wire.AccountID{1}, nil)
	for name, c := range map[string]struct {
		status int
		code   wire.Code
		body   []byte
		header []string
	}{
		"empty":             {400, wire.CodeMalformed, []byte{}, nil},
		"truncated":         {400, wire.CodeMalformed, good[:len(good)-1], nil},
		"trailing byte":     {400, wire.CodeMalformed, append(good[:len(good):len(good)], 0), nil},
		"not CBOR":          {400, wire.CodeMalformed, []byte("<html>"), nil},
		"other type":        {400, wire.CodeMalformed, good, []string{"Content-Type", "text/plain"}},
		"oversized":         {413, wire.CodeTooLarge, make([]byte, wire.MaxEnvelope+1), nil},
		"version":           {400, wire.CodeVersion, version(t, good), nil},
		"too many handles":  {413, wire.CodeTooLarge, envelope(t, wire.AccountID{1}, nil, make([]wire.Handle, wire.MaxHandles+1)...), nil},
		"short encapsulate": {400, wire.CodeMalformed, shortEnc(t, good), nil},
	} {
		t.Run(name, func(t *testing.T) {
			h.refused(t, c.status, c.code, "POST", "/v1/request", c.body, c.header...)
		})
	}
	t.Run("oversized, of unknown length", func(t *testing.T) {
		answer, err := http.Post(h.url+"/v1/request", "application/cbor", io.MultiReader(bytes.NewReader(make([]byte, wire.MaxEnvelope+1))))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatal(answer.Status)
		}
	})
	if n := h.forwards.Load(); n != 0 {
		t.Fatalf("%d were forwarded", n)
	}
}

// A length that is only claimed is refused before anything is read or allocated.
func TestClaimedLength(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "POST /v1/request HTTP/1.1\r\nHost: h\r\nContent-Type: application/cbor\r\nContent-Length: 1099511627776\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("%v, %v", answer, err)
	}
}

func version(t *testing.T, raw []byte) []byte {
	var e wire.Envelope
	if err := wire.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	e.Header.Version++
	return wire.Marshal(e)
}

func shortEnc(t *testing.T, raw []byte) []byte {
	var e wire.Envelope
	if err := wire.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	e.Enc = e.Enc[1:]
	return wire.Marshal(e)
}

func TestRefusalsOfTheEnclave(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	for code, status := range map[wire.Code]int{
		wire.CodeUnknownKey: 409, wire.CodeReplayed: 409, wire.CodeMalformed: 400, wire.CodeSealed: 503, wire.CodeUnavailable: 503,
		wire.CodeInternal: 500, wire.CodeStorageFull: 507,
	} {
		h.set(func() { h.forward = func(*linktest.Conn, *wire.Forward) *wire.Result { return linktest.Refusal(code) } })
		h.refused(t, status, code, "POST", "/v1/request", envelope(t, wire.AccountID{1}, nil))
	}
}

// A request whose connection breaks is answered as unavailable, and not sent again.
func TestConnectionLostMidCall(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.set(func() {
		h.forward = func(c *linktest.Conn, _ *wire.Forward) *wire.Result { c.Close(); return nil }
	})
	h.refused(t, 503, wire.CodeUnavailable, "POST", "/v1/request", envelope(t, wire.AccountID{1}, nil))
	if n := h.forwards.Load(); n != 1 {
		t.Fatalf("sent %d times", n)
	}
}

// What the enclave refuses of the store's data reaches the metrics; the client gets
// the sealed answer.
func TestRefusedDataIsCounted(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.set(func() {
		h.forward = func(*linktest.Conn, *wire.Forward) *wire.Result {
			return linktest.Value(wire.Reply{Response: []byte("sealed"), Refusal: wire.CodeRollback})
		}
	})
	if status, body := h.do(t, "POST", "/v1/request", envelope(t, wire.AccountID{1}, nil)); status != 200 || string(body) != "sealed" {
		t.Fatalf("%d %q", status, body)
	}
	h.refused(t, 400, wire.CodeMalformed, "POST", "/v1/request", []byte{1})
	metrics := h.scrape(t)
	for _, line := range []string{
		`passclave_data_refusals_total{code="rollback"} 1`,
		`passclave_refusals_total{code="malformed"} 1`,
		`passclave_answers_total{endpoint="POST /v1/request",status="200"} 1`,
		`passclave_call_seconds_count{endpoint="POST /v1/request"} 2`,
		`passclave_enclave_connections_total 1`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("no line %s in\n%s", line, metrics)
		}
	}
}

func (h *host) scrape(t *testing.T) string {
	t.Helper()
	w := &recorder{header: http.Header{}}
	h.server.Metrics().ServeHTTP(w, nil)
	return w.String()
}

type recorder struct {
	bytes.Buffer
	header http.Header
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(int)     {}

func TestFeed(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	a := storetest.NewAccount(h.keys, "a")
	c := a.Change(3)
	if _, err := h.store.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	token, _ := wire.Base64(a.Token()).MarshalText()
	path := "/v1/feed?account=" + a.ID.String() + "&after="
	status, body := h.do(t, "GET", path+"0", nil, "Authorization", "Bearer "+string(token))
	var page wire.FeedPage
	if err := wire.Unmarshal(body, &page); err != nil || status != 200 || len(page.Records) != 3 || page.Next != 1 || !bytes.Equal(page.Manifest, c.Manifest) {
		t.Fatalf("%d %+v %v", status, page, err)
	}
	h.refused(t, 403, wire.CodeUnknownDevice, "GET", path+"0", nil)
	h.refused(t, 403, wire.CodeUnknownDevice, "GET", path+"0", nil, "Authorization", string(token))
	h.refused(t, 403, wire.CodeUnknownDevice, "GET", path+"0", nil, "Authorization", "Bearer "+string(token)+"=")
	h.refused(t, 403, wire.CodeUnknownDevice, "GET", path+"0", nil, "Authorization", "Bearer AAAA")
	h.refused(t, 403, wire.CodeUnknownDevice, "GET", "/v1/feed?account="+hex.EncodeToString(make([]byte, 32)), nil, "Authorization", "Bearer "+string(token))
	for _, bad := range []string{"/v1/feed", "/v1/feed?account=00", "/v1/feed?account=" + strings.Repeat("x", 64), path + "-1", path + "x"} {
		h.refused(t, 400, wire.CodeArgument, "GET", bad, nil, "Authorization", "Bearer "+string(token))
	}
}

func TestNoSuchEndpoint(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	for _, c := range [][2]string{{"GET", "/"}, {"GET", "/v1/request"}, {"POST", "/v1/feed"}, {"GET", "/metrics"}, {"GET", "/debug/pprof/"}} {
		h.refused(t, 404, wire.CodeNotFound, c[0], c[1], nil)
	}
}

// A body that dribbles in is cut, and takes no more time than it may.
func TestSlowBodyIsCut(t *testing.T) {
	t.Parallel()
	h := start(t, func(_ *api.Options, o *api.Timeouts) { o.Header, o.Read = 50*time.Millisecond, 100*time.Millisecond })
	for name, text := range map[string]string{
		"body":   "POST /v1/request HTTP/1.1\r\nHost: h\r\nContent-Type: application/cbor\r\nContent-Length: 1000\r\n\r\nxx",
		"header": "POST /v1/request HTTP/1.1\r\nHost: h\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", h.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c) // ends when the host closes
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				t.Fatalf("%s", answer)
			}
		})
	}
	if h.forwards.Load() != 0 {
		t.Fatal("forwarded")
	}
}

func TestLargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	if status, _ := h.do(t, "GET", "/healthz", nil, "X-Large", strings.Repeat("x", 4<<10)); status != 200 {
		t.Fatal(status)
	}
	r, err := http.NewRequest("GET", h.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return // cut before it was read to its end
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatal(answer.Status)
	}
}

func TestEvidenceIsCachedWithoutANonce(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *api.Options, _ *api.Timeouts) { o.EvidenceRate = api.Rate{PerSecond: 1, Burst: 2} })
	get := func(path string) (a wire.Attestation) {
		t.Helper()
		status, b := h.do(t, "GET", path, nil)
		if err := wire.Unmarshal(b, &a); err != nil || status != 200 {
			t.Fatalf("%d %v", status, err)
		}
		return a
	}
	first := get("/v1/attestation")
	if again := get("/v1/attestation"); !bytes.Equal(again.Challenge, first.Challenge) || h.attests.Load() != 1 {
		t.Fatal("not cached")
	}
	if note, _ := h.store.Note(t.Context(), store.NoteEvidence); !bytes.Equal(note, first.Evidence) {
		t.Fatalf("noted %q", note)
	}
	h.set(func() { h.now = h.now.Add(30 * time.Second) })
	if later := get("/v1/attestation"); bytes.Equal(later.Challenge, first.Challenge) {
		t.Fatal("the challenge is 30 seconds old")
	}

	a, b := get("/v1/attestation?nonce=AAEC"), get("/v1/attestation?nonce=AAEC")
	if string(a.Evidence) != "evidence\x00\x01\x02" || bytes.Equal(a.Challenge, b.Challenge) {
		t.Fatal("evidence with a nonce must be made anew")
	}
	h.refused(t, 429, wire.CodeRateLimited, "GET", "/v1/attestation?nonce=AAEC", nil)
	for _, bad := range []string{"", "A", "AAB", "AAEC=", "AA+C", "AAED" + strings.Repeat("A", 84)} { // AAB: the encoding of no bytes
		h.refused(t, 400, wire.CodeArgument, "GET", "/v1/attestation?nonce="+bad, nil)
	}
	if cached := get("/v1/attestation"); string(cached.Evidence) != "evidence" {
		t.Fatalf("%q came from the cache", cached.Evidence)
	}
}

// No cache on the way gives one client's evidence to another.
func TestEvidenceIsKeptByNobody(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	for _, path := range []string{"/v1/attestation", "/v1/attestation?nonce=AAEC", "/v1/attestation?nonce="} {
		answer, err := http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if got := answer.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
	}
}

// Evidence from before the enclave had its KEK is neither handed out twice nor kept.
func TestEvidenceWithoutLedgerKeys(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.set(func() { h.facts.Signers = 0 })
	for n := range 2 {
		if status, _ := h.do(t, "GET", "/v1/attestation", nil); status != 200 || h.attests.Load() != int64(n+1) {
			t.Fatalf("%d, asked %d times", status, h.attests.Load())
		}
	}
	if note, _ := h.store.Note(t.Context(), store.NoteEvidence); note != nil {
		t.Fatalf("noted %q", note)
	}
}

// When the enclave no longer knows its key, or is another one, what is cached is old.
func TestEvidenceIsForgotten(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.do(t, "GET", "/v1/attestation", nil)
	h.set(func() {
		h.forward = func(*linktest.Conn, *wire.Forward) *wire.Result { return linktest.Refusal(wire.CodeUnknownKey) }
	})
	h.refused(t, 409, wire.CodeUnknownKey, "POST", "/v1/request", envelope(t, wire.AccountID{1}, nil))
	h.do(t, "GET", "/v1/attestation", nil)
	if n := h.attests.Load(); n != 2 {
		t.Fatalf("after unknown-key: asked %d times, want 2", n)
	}
	h.enclave.Break()
	for { // until the link has dialled again
		if status, _ := h.do(t, "GET", "/v1/attestation", nil); status == 200 && h.attests.Load() > 2 {
			return
		}
	}
}
