package keyrelease

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A passing fault is tried again, at each step.
func TestRetry(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"/SevSnpVm", "/versions", "/release"} {
		for _, status := range []int{429, 500, 503, 0} { // 0: the connection breaks
			v := newVault(t, "a1")
			var failed atomic.Int32
			v.before = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, step) || failed.Add(1) > attempts-1 {
					return false
				}
				if status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(status)
				return true
			}
			if keks, err := v.client().Release(context.Background()); err != nil || len(keks) != 1 || v.asked(step) != attempts {
				t.Errorf("%s, %d: got %v, %v after %d requests", step, status, keks, err, v.asked(step))
			}
		}
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		suffix   string
		status   int
		step     Step
		reason   Reason
		requests int
		next     string // words of what to check next, parted by commas
	}{
		{"/SevSnpVm", 400, StepAttest, ReasonService, 1, "certificates,simulat"},
		{"/SevSnpVm", 403, StepAttest, ReasonForbidden, 1, "key_service.attestation"},
		{"/SevSnpVm", 404, StepAttest, ReasonNotFound, 1, "key_service.attestation"},
		{"/SevSnpVm", 429, StepAttest, ReasonThrottled, attempts, "wait,fewer enclaves"},
		{"/SevSnpVm", 500, StepAttest, ReasonService, attempts, ""},
		{"/SevSnpVm", 302, StepAttest, ReasonService, 1, ""},
		{"/versions", 401, StepList, ReasonUnauthorized, 1, "bearer token's audience,https://vault.azure.net,https://managedhsm.azure.net"},
		{"/versions", 403, StepList, ReasonForbidden, 1, "role,list"},
		{"/versions", 404, StepList, ReasonNotFound, 1, "key_service.key,key_service.vault,activated,security domain"},
		{"/versions", 429, StepList, ReasonThrottled, attempts, "wait,fewer enclaves"},
		{"/release", 401, StepRelease, ReasonUnauthorized, 2, "attestation token,clock,authority,bearer token's audience,https://managedhsm.azure.net"}, // once more with a new token
		{"/release", 403, StepRelease, ReasonForbidden, 1, "release policy,host data,measurement,key_service.attestation,role"},
		{"/release", 404, StepRelease, ReasonNotFound, 1, "key_service.key,activated"},
		{"/release", 429, StepRelease, ReasonThrottled, attempts, "wait,fewer enclaves"},
		{"/release", 307, StepRelease, ReasonService, 1, ""},
	} {
		v := newVault(t, "a1")
		v.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, c.suffix) {
				return false
			}
			w.Header().Set("x-ms-request-id", "service-id")
			w.Header().Set("Location", v.url+"/elsewhere")
			w.WriteHeader(c.status)
			w.Write([]byte(`{"error":{"code":"Code","message":"` + strings.Repeat("m", 5000) + `"}}`))
			return true
		}
		_, err := v.client().Release(context.Background())
		var e *Error
		if !errors.As(err, &e) || e.Reason != c.reason || e.Step != c.step || e.Status != c.status {
			t.Errorf("%s %d: got %v", c.suffix, c.status, err)
			continue
		}
		if e.RequestID != "service-id" || e.ClientRequestID == "" || e.Code != "Code" || len(e.Message) > 1000 {
			t.Errorf("%s %d: %+v", c.suffix, c.status, e)
		}
		for _, words := range strings.Split(c.next, ",") {
			if !strings.Contains(e.Next, words) {
				t.Errorf("%s %d: next is %q, without %q", c.suffix, c.status, e.Next, words)
			}
		}
		for _, said := range []string{"service-id", e.ClientRequestID, e.Next} { // what a person reads
			if !strings.Contains(err.Error(), said) {
				t.Errorf("%s %d: %q is not in %v", c.suffix, c.status, said, err)
			}
		}
		if n := v.asked(c.suffix); n != c.requests || v.asked("/elsewhere") != 0 {
			t.Errorf("%s %d: %d requests, want %d; %d to where it redirects", c.suffix, c.status, n, c.requests, v.asked("/elsewhere"))
		}
	}
}

// The pauses grow, have jitter, and are at least what the service asks for.
func TestPauses(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	v.before = func(w http.ResponseWriter, _ *http.Request) bool {
		if v.asked("") == 2 {
			w.Header().Set("Retry-After", "7")
		}
		w.WriteHeader(503)
		return true
	}
	c := v.client()
	var pauses []time.Duration
	c.pause = func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return nil
	}
	if _, err := c.Release(context.Background()); !errors.Is(err, &Error{Reason: ReasonService}) {
		t.Fatal(err)
	}
	if len(pauses) != attempts-1 {
		t.Fatalf("%v", pauses)
	}
	wait := firstPause
	for i, d := range pauses {
		if i == 1 {
			if d != 7*time.Second {
				t.Errorf("pause %v, the service asked for 7 s", d)
			}
		} else if d < wait/2 || d >= wait {
			t.Errorf("pause %d is %v, want %v to %v", i, d, wait/2, wait)
		}
		wait *= 2
	}
}

func TestTimeLimit(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	v.before = func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	}
	c := v.client()
	c.TimeLimit = 20 * time.Millisecond
	if _, err := c.Release(context.Background()); !errors.Is(err, &Error{Reason: ReasonTimeLimit}) {
		t.Errorf("got %v, want time-limit", err)
	}
}

func TestCancelledBetweenAttempts(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	v.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(503)
		return true
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := v.client()
	c.pause = func(context.Context, time.Duration) error {
		cancel()
		return context.Canceled
	}
	var e *Error
	_, err := c.Release(ctx)
	if !errors.As(err, &e) || e.Reason != ReasonTimeLimit || v.asked("") != 1 || !errors.Is(e.Unwrap(), &Error{Reason: ReasonService}) {
		t.Errorf("got %v after %d requests", err, v.asked(""))
	}
}

// The bearer token goes to the vault alone.
func TestBearer(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	c := v.client()
	c.Bearer = func(context.Context) (string, error) { return "managed-identity", nil }
	if _, err := c.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, r := range v.requests {
		want := "Bearer managed-identity"
		if strings.HasPrefix(r.URL.Path, "/attest") {
			want = ""
		}
		if got := r.Header.Get("Authorization"); got != want {
			t.Errorf("%s: authorization %q, want %q", r.URL.Path, got, want)
		}
	}
	broken := errors.New("no identity")
	c.Bearer = func(context.Context) (string, error) { return "", broken }
	if _, err := c.Release(context.Background()); !errors.Is(err, &Error{Reason: ReasonUnauthorized}) || !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	for name, roots := range map[string]string{"a stranger's root": stranger().pem(), "the compiled-in roots": ""} {
		c := v.client()
		c.Service.Roots = roots
		if _, err := c.Release(context.Background()); !errors.Is(err, &Error{Reason: ReasonUnreachable}) {
			t.Errorf("%s: got %v, want unreachable", name, err)
		}
	}
	p, err := pool("")
	if err != nil || p.Equal(nil) {
		t.Errorf("no compiled-in roots: %v", err)
	}
	transport := newTransport(p, v.client()).http.Transport.(*http.Transport)
	if transport.Proxy != nil {
		t.Error("a proxy may come from the environment")
	}
}

// Certificates are judged by the given clock: on the way, and in the answer.
func TestClock(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	v.change = func(_ string, a *answer) {
		a.x5c = [][]byte{trusted().issue(vaultRSA().Public(), "127.0.0.1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(20 * time.Minute) })}
	}
	for ahead, want := range map[time.Duration]error{
		0:                nil,
		40 * time.Minute: &Error{Reason: ReasonCertificate}, // of the answer's signer
		2 * time.Hour:    &Error{Reason: ReasonUnreachable}, // of the server
	} {
		c := v.client()
		c.Clock = func() time.Time { return time.Now().Add(ahead) }
		if _, err := c.Release(context.Background()); !errors.Is(err, want) {
			t.Errorf("%s ahead: got %v, want %v", ahead, err, want)
		}
	}
}

func TestGenerateRSA(t *testing.T) {
	t.Parallel()
	source := GenerateRSA(nil)
	a, err := source()
	if err != nil || a.N.BitLen() != 2048 || a.E != 65537 {
		t.Fatal(err)
	}
	if b, err := source(); err != nil || b.Equal(a) {
		t.Error("the same key at the second call")
	}
}
