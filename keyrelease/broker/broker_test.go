package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// stored returns the key of a version, as the store has it.
func (h *harness) stored(t testing.TB, version string) []byte {
	t.Helper()
	c, err := h.store.Wrap(context.Background(), keyName, version, keywrap.RSAAESKeyWrap256, &testRSA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap256, testRSA(), c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRelease(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := newHarness(t)
	first := h.create(t, h.strict())
	second, err := h.store.Rotate(ctx, keyName, h.strict())
	if err != nil {
		t.Fatal(err)
	}
	off, err := h.store.Rotate(ctx, keyName, h.strict())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.SetEnabled(ctx, keyName, off.ID, false); err != nil {
		t.Fatal(err)
	}
	third, err := h.store.Rotate(ctx, keyName, h.strict())
	if err != nil {
		t.Fatal(err)
	}

	var wg sync.WaitGroup
	for range 4 { // several enclaves start at once
		wg.Go(func() {
			keks, err := h.client(good).Release(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			if len(keks) != 3 {
				t.Errorf("%d versions", len(keks))
				return
			}
			for i, want := range []string{first, second.ID, third.ID} {
				if keks[i].Version != want || !bytes.Equal(keks[i].Key, h.stored(t, want)) {
					t.Errorf("version %d is %s, or its key is another", i, keks[i].Version)
				}
				if i > 0 && keks[i].Created <= keks[i-1].Created {
					t.Error("not oldest first")
				}
			}
		})
	}
	wg.Wait()
	for _, v := range []string{first, second.ID, third.ID} {
		if leaks(h.log.Bytes(), h.stored(t, v)) {
			t.Error("the broker's log holds a key")
		}
	}
}

// On ACI the certificates come in the host's own form, with the TCB they are for, and
// the bundle has no others.
func TestCertificatesOfTheHost(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.create(t, h.strict())
	c := h.client(good)
	c.Evidence = func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
		b := good.evidence(runtimeData)
		b.HostAMD = at.HostAMD(t, b.Certificates, binary.LittleEndian.Uint64(b.Report[0x180:]))
		b.Certificates = nil
		return b, nil
	}
	if _, err := c.Release(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	for name, g := range map[string]guest{
		"measurement": {measurement: 0x12, hostData: 0x22},
		"host data":   {measurement: 0x11, hostData: 0x23},
		"debug":       {measurement: 0x11, hostData: 0x22, debug: true},
		"migration":   {measurement: 0x11, hostData: 0x22, migration: true},
		"vmpl":        {measurement: 0x11, hostData: 0x22, vmpl: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			version := h.create(t, h.strict())
			keks, err := h.client(g).Release(context.Background())
			var e *keyrelease.Error
			if !errors.As(err, &e) || e.Reason != keyrelease.ReasonForbidden || e.Step != keyrelease.StepRelease || e.Version != version || keks != nil {
				t.Fatalf("got %v, %v", keks, err)
			}
			if e.RequestID == "" || e.ClientRequestID == "" || e.Next == "" {
				t.Errorf("no request IDs or no hint: %+v", e)
			}
			if leaks(append(h.log.Bytes(), err.Error()...), h.stored(t, version)) {
				t.Error("a log or an error holds the key")
			}
		})
	}
}

// What a policy does not name is still not open: debug, migration and simulation.
func TestPolicyDefaults(t *testing.T) {
	t.Parallel()
	require := func(h *harness, extra map[string]any) []byte {
		claims := map[string]any{"x-ms-attestation-type": "sevsnpvm"}
		for k, v := range extra {
			claims[k] = v
		}
		return releasepolicy.Require(h.url, claims)
	}
	debug := good
	debug.debug = true
	migration := good
	migration.migration = true
	smt := good
	smt.smt = true
	for name, c := range map[string]struct {
		guest  guest
		claims map[string]any
		ok     bool
	}{
		"simulation not named":       {good, nil, false},
		"simulation named":           {good, map[string]any{claimSimulated: true}, true},
		"simulation named, refused":  {good, map[string]any{claimSimulated: false}, false},
		"debug not named":            {debug, map[string]any{claimSimulated: true}, false},
		"debug named":                {debug, map[string]any{claimSimulated: true, claimDebuggable: true}, true},
		"debug named, simulated not": {debug, map[string]any{claimDebuggable: true}, false},
		"migration not named":        {migration, map[string]any{claimSimulated: true}, false},
		"migration named":            {migration, map[string]any{claimSimulated: true, claimMigration: true}, true},
		"migration named, refused":   {migration, map[string]any{claimSimulated: true, claimMigration: false}, false},
		"SMT not named":              {smt, map[string]any{claimSimulated: true}, true},
		"SMT refused":                {smt, map[string]any{claimSimulated: true, "x-ms-sevsnpvm-smt-allowed": false}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.create(t, require(h, c.claims))
			_, err := h.client(c.guest).Release(context.Background())
			if c.ok && err != nil || !c.ok && !errors.Is(err, &keyrelease.Error{Reason: keyrelease.ReasonForbidden}) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A policy stands beside each version: one that refuses spoils the whole release.
func TestPolicyPerVersion(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.create(t, h.strict())
	v, err := h.store.Rotate(context.Background(), keyName, releasepolicy.Require(h.url, map[string]any{"x-ms-attestation-type": "tdxvm"}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.client(good).Release(context.Background())
	var e *keyrelease.Error
	if !errors.As(err, &e) || e.Reason != keyrelease.ReasonForbidden || e.Version != v.ID {
		t.Errorf("got %v", err)
	}
}

func TestSimulatedEvidenceNeedsItsRoot(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *Config) { c.Roots = attestation.Roots{} })
	h.create(t, h.strict())
	_, err := h.client(good).Release(context.Background())
	var e *keyrelease.Error
	if !errors.As(err, &e) || e.Step != keyrelease.StepAttest || e.Status != http.StatusBadRequest || e.Next == "" {
		t.Errorf("got %v", err)
	}
}

func TestRestartOfTheBroker(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.create(t, h.strict())
	b := h.Broker
	attested := 0
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == azure.AttestSNPPath {
			attested++
		} else if attested == 1 && strings.HasSuffix(r.URL.Path, "/release") {
			h.restart(t) // the token of the first attestation is void now
			h.Broker.ServeHTTP(w, r)
			return
		}
		b.ServeHTTP(w, r)
	})
	h.handler.Store(&handler)
	keks, err := h.client(good).Release(context.Background())
	if err != nil || len(keks) != 1 || attested != 1 {
		t.Errorf("got %v, %v, attested %d times at the first broker", keks, err, attested)
	}
}

// post sends a body as it is and returns status and error code.
func (h *harness) post(t testing.TB, path, body string) (int, string) {
	t.Helper()
	res, err := h.http.Post(h.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.Header.Get("x-ms-request-id") == "" {
		t.Errorf("%s: no request ID", path)
	}
	var e struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal(data, &e); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return res.StatusCode, e.Error.Code
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	version := h.create(t, h.strict())
	token := h.token(t, good)
	ask := func(target, enc string) string {
		b, err := json.Marshal(azure.ReleaseRequest{Target: target, Enc: enc})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	release := "/keys/" + keyName + "/" + version + "/release?api-version=7.4"
	if status, code := h.post(t, release, ask(token, "RSA_AES_KEY_WRAP_256")); status != http.StatusOK {
		t.Fatalf("the good request: %d %s", status, code)
	}
	for name, c := range map[string]struct {
		path, body string
		status     int
		code       string
	}{
		"no api-version":        {"/keys/" + keyName + "/" + version + "/release", ask(token, ""), 400, "BadParameter"},
		"attest no api-version": {"/attest/SevSnpVm", "{}", 400, "BadParameter"},
		"not JSON":              {release, "{", 400, "BadParameter"},
		"target twice":          {release, `{"target":"a","target":"` + token + `"}`, 400, "BadParameter"},
		"unknown enc":           {release, ask(token, "RSA1_5"), 400, "BadParameter"},
		"too large":             {release, ask(strings.Repeat("a", maxBody), ""), 413, "RequestEntityTooLarge"},
		"nonce too long":        {release, `{"target":"` + token + `","nonce":"` + strings.Repeat("a", maxNonce+1) + `"}`, 400, "BadParameter"},
		"no token":              {release, ask("", ""), 401, "Unauthorized"},
		"other key":             {"/keys/other/" + version + "/release?api-version=7.4", ask(token, ""), 404, "KeyNotFound"},
		"other version":         {"/keys/" + keyName + "/00/release?api-version=7.4", ask(token, ""), 404, "KeyNotFound"},
		"no such endpoint":      {"/keys/" + keyName + "/backup", "{}", 404, "NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if status, code := h.post(t, c.path, c.body); status != c.status || code != c.code {
				t.Errorf("got %d %s, want %d %s", status, code, c.status, c.code)
			}
		})
	}
}

func TestDisabledVersion(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	version := h.create(t, h.strict())
	if err := h.store.SetEnabled(context.Background(), keyName, version, false); err != nil {
		t.Fatal(err)
	}
	body := `{"target":"` + h.token(t, good) + `"}`
	if status, code := h.post(t, "/keys/"+keyName+"/"+version+"/release?api-version=7.4", body); status != 403 || code != "KeyDisabled" {
		t.Errorf("got %d %s", status, code)
	}
	if _, err := h.client(good).Release(context.Background()); !errors.Is(err, &keyrelease.Error{Reason: keyrelease.ReasonNoVersion}) {
		t.Errorf("got %v, want no-version", err)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *Config) { c.Rate, c.Burst = 1e-9, 1 })
	h.post(t, "/attest/SevSnpVm?api-version=2022-08-01", "{}")
	if status, code := h.post(t, "/attest/SevSnpVm?api-version=2022-08-01", "{}"); status != 429 || code != "Throttled" {
		t.Errorf("got %d %s", status, code)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	elliptic256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"http":           func(c *Config) { c.URL = "http://127.0.0.1" },
		"a path":         func(c *Config) { c.URL = "https://127.0.0.1/broker" },
		"other host":     func(c *Config) { c.URL = "https://vault.test" },
		"no certificate": func(c *Config) { c.Certificate.Certificate = nil },
		"not an RSA key": func(c *Config) { c.Certificate = issueCertificate(t, elliptic256, "127.0.0.1") },
		"no store":       func(c *Config) { c.Store = nil },
		"no log":         func(c *Config) { c.Log = nil },
		"no audit log":   func(c *Config) { c.Audit = nil },
	} {
		c := h.config
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
