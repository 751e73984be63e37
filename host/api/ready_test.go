package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/host/api"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/storetest"
	"github.com/passclave/passclave/wire"
)

// ready asks for readiness and returns the stable words; none: it is ready.
func (h *host) ready(t *testing.T) []string {
	t.Helper()
	status, b := h.do(t, "GET", "/readyz", nil)
	words := strings.Fields(string(b))
	if status == 200 && slices.Equal(words, []string{"ready"}) {
		return nil
	}
	if status != 503 || len(words) == 0 {
		t.Fatalf("%d %q", status, b)
	}
	return words
}

func (h *host) notReady(t *testing.T, want ...string) {
	t.Helper()
	if got := h.ready(t); !slices.Equal(got, want) {
		t.Fatalf("%q, want %q", got, want)
	}
}

// logged is a log to look into.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }

// drain returns what was logged since the last time.
func (l *logged) drain() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// Strangers get stable words; what the enclave says, and which KEK the store needs,
// is for the log, once.
func TestReadiness(t *testing.T) {
	t.Parallel()
	var log logged
	h := start(t, func(o *api.Options, _ *api.Timeouts) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	h.notReady(t)
	if note, _ := h.store.Note(t.Context(), store.NoteKEK); string(note) != "1" {
		t.Fatalf("KEK noted: %q", note)
	}
	const inner = "dial unix /run/secret.sock"
	h.set(func() { h.status.Ready, h.status.Reason = false, inner })
	h.notReady(t, "enclave-sealed")
	if got := log.drain(); !strings.Contains(got, inner) || !strings.Contains(got, `version \"1\"`) {
		t.Fatalf("the log must say what the enclave says, and that the store needs its KEK: %s", got)
	}
	for _, path := range []string{"/readyz", "/v1/status"} {
		if _, b := h.do(t, "GET", path, nil); bytes.Contains(b, []byte(inner)) || bytes.Contains(b, []byte("version")) {
			t.Fatalf("%s tells anybody: %s", path, b)
		}
	}
	if again := log.drain(); again != "" {
		t.Fatalf("strangers fill the log: %s", again)
	}
	if status, _ := h.do(t, "GET", "/healthz", nil); status != 200 {
		t.Fatal("the process is healthy all the same")
	}
	h.set(func() { h.status.Ready = true })
	h.notReady(t)
	if log.drain() == "" {
		t.Fatal("the log must say that it is ready again")
	}
}

// A service that starts is not ready yet: the log says so only where it takes long.
func TestStartIsNoFault(t *testing.T) {
	t.Parallel()
	var log logged
	began := time.Now()
	var later atomic.Int64
	h := start(t, func(o *api.Options, _ *api.Timeouts) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		o.Now = func() time.Time { return began.Add(time.Duration(later.Load())) }
	})
	h.set(func() { h.status.Ready = false })
	h.notReady(t, "enclave-sealed")
	if got := log.drain(); got != "" {
		t.Errorf("at once: %s", got)
	}
	later.Store(int64(time.Minute))
	h.notReady(t, "enclave-sealed")
	if got := log.drain(); !strings.Contains(got, "not ready") {
		t.Errorf("after a minute: %q", got)
	}
	h.set(func() { h.status.Ready = true })
	h.notReady(t)
	if got := log.drain(); !strings.Contains(got, "ready again") {
		t.Errorf("at last: %q", got)
	}
}

// Who hangs up makes no state of readiness.
func TestGoneCallerIsNoFault(t *testing.T) {
	t.Parallel()
	var log logged
	h := start(t, func(o *api.Options, _ *api.Timeouts) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/readyz", nil))
	if w.Code != 503 || log.drain() != "" {
		t.Fatalf("%d, logged %q", w.Code, log.drain())
	}
}

// An enclave that is gone.
func TestEnclaveUnreachable(t *testing.T) {
	t.Parallel()
	s := api.New(api.Options{Store: storetest.NewMemory(), Enclave: &gone{}, Log: quiet})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	if w.Code != 503 || w.Body.String() != "enclave-unreachable\n" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
}

// gone is an enclave that does not answer.
type gone struct{ counting }

func (gone) Status(context.Context) (wire.Status, error) {
	return wire.Status{}, wire.Errorf(wire.CodeUnavailable, "dial unix /run/secret.sock")
}

// mute is an enclave that gives no evidence.
type mute struct{ counting }

func (mute) Status(context.Context) (wire.Status, error) { return wire.Status{Ready: true}, nil }
func (mute) Attest(context.Context, wire.Attest) (wire.Attestation, error) {
	return wire.Attestation{}, wire.Errorf(wire.CodeUnavailable, "no report")
}

func TestNoEvidence(t *testing.T) {
	t.Parallel()
	s := api.New(api.Options{Store: storetest.NewMemory(), Enclave: &mute{}, Log: quiet})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	if w.Code != 503 || w.Body.String() != "enclave-evidence\n" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
}

// A store of another service is noticed before a request finds out.
func TestOtherLedger(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	a := storetest.NewAccount(h.keys, "a")
	if _, err := h.store.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	h.notReady(t, "store-ledger")
	if note, _ := h.store.Note(t.Context(), store.NoteEvidence); note != nil {
		t.Fatal("the evidence of another ledger was kept for fsck")
	}
}

func TestSameLedger(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	h.set(func() { h.facts.Ledger = h.keys.LedgerID })
	a := storetest.NewAccount(h.keys, "a")
	if _, err := h.store.Commit(t.Context(), a.Change(1)); err != nil {
		t.Fatal(err)
	}
	h.notReady(t)
}

// Whoever looks whether the service is well reads that it is a simulation.
func TestSimulationIsSaid(t *testing.T) {
	t.Parallel()
	for _, simulated := range []bool{false, true} {
		h := start(t, nil)
		h.set(func() { h.facts.Simulated = simulated })
		says := func(path, yes, no string) {
			t.Helper()
			_, b := h.do(t, "GET", path, nil)
			if want := map[bool]string{true: yes, false: no}[simulated]; !strings.Contains(string(b), want) || !simulated && strings.Contains(string(b), yes) {
				t.Errorf("simulated: %v, %s says %s", simulated, path, b)
			}
		}
		says("/readyz", "ready\nSIMULATION\n", "ready\n")
		says("/v1/status", `"simulation":true`, `"simulation":false`)
		h.set(func() { h.status.Ready = false })
		says("/readyz", "enclave-sealed\nSIMULATION\n", "enclave-sealed\n")
	}
}

// stuck is a store that takes no writes.
type stuck struct {
	store.Store
	why error
}

func (s stuck) Writable(context.Context) error { return s.why }

func TestFullStoreIsToldApart(t *testing.T) {
	t.Parallel()
	for want, why := range map[string]error{
		"store-full":   wire.Errorf(wire.CodeStorageFull, "/var/lib: full"),
		"store-failed": store.ErrBroken,
	} {
		h := start(t, func(o *api.Options, _ *api.Timeouts) { o.Store = stuck{o.Store, why} })
		h.notReady(t, want)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	h := start(t, nil)
	var s struct {
		Service   string   `json:"service"`
		Protocol  int      `json:"protocol"`
		Ready     bool     `json:"ready"`
		Reasons   []string `json:"reasons"`
		Backend   string   `json:"backend"`
		Freshness string   `json:"freshness"`
	}
	read := func() {
		t.Helper()
		status, b := h.do(t, "GET", "/v1/status", nil)
		if err := json.Unmarshal(b, &s); err != nil || status != 200 {
			t.Fatalf("%d %v", status, err)
		}
	}
	read()
	if !s.Ready || s.Service != "passclave" || s.Protocol != wire.Version || s.Backend != "local" || !strings.HasPrefix(s.Freshness, "local: ") || len(s.Freshness) < 50 {
		t.Fatalf("%+v", s)
	}
	h.set(func() { h.status.Ready = false })
	if read(); s.Ready || !slices.Equal(s.Reasons, []string{"enclave-sealed"}) {
		t.Fatalf("%+v", s)
	}
}
