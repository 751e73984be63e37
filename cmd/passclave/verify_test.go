package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// service answers with evidence made for nonce(asked).
func service(t *testing.T, nonce func([]byte) []byte, options ...attestationtest.Option) string {
	t.Helper()
	configuration := attestationtest.Configuration(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("nonce"))
		if err != nil || r.URL.Path != "/v1/attestation" {
			t.Errorf("asked for %s", r.URL)
		}
		data := attestationtest.ClientData(t, configuration)
		data.Nonce = nonce(asked)
		b := attestationtest.Bundle(t, data, configuration, options...)
		w.Write(wire.Marshal(wire.Attestation{Evidence: b.Encode(), Challenge: []byte("challenge")}))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// answering is a server that has nothing but an HTTP status for everybody.
func answering(t *testing.T, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	return server.URL
}

func honest(asked []byte) []byte { return asked }

// strict is the policy that accepts attestationtest's ordinary evidence.
func strict(t *testing.T) *policy.TrustPolicy {
	t.Helper()
	configuration := attestationtest.Configuration(t)
	c, err := wire.ParseConfiguration(configuration)
	if err != nil {
		t.Fatal(err)
	}
	roots := attestationtest.Roots(attestationtest.NewMachine(t)).Simulation
	p := policy.ForDevelopment(roots[0], wire.ConfigurationHash(configuration), c.Ledger)
	p.Releases[0].Measurement = policy.Require(policy.Hex(bytes.Repeat([]byte{0x4d}, 48)))
	if c.PIN.Argon2id.MemoryKiB < policy.ProductionArgon2id.MemoryKiB || c.PIN.Argon2id.Time < policy.ProductionArgon2id.Time {
		p.MinimumArgon2id = policy.Waive[policy.Argon2id]("test")
	}
	return p
}

// verify runs the command and returns its exit code and what was refused.
func verify(t *testing.T, url string, p *policy.TrustPolicy) (int, []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, p.Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code := run(t.Context(), []string{"verify", url, "--policy", file, "--json"}, os.Stdin, &out, os.Stderr)
	var v verification
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	var refused []string
	for _, l := range v.Findings {
		if l.Verdict == string(policy.Refused) {
			refused = append(refused, l.Of+":"+l.Name)
		}
	}
	return code, refused
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		nonce   func([]byte) []byte
		options []attestationtest.Option
		policy  func(*policy.TrustPolicy)
		exit    int
		refused string
	}{
		"accepted": {exit: exitDone},
		"another measurement": {
			options: []attestationtest.Option{attestationtest.Measurement(make([]byte, 48))},
			exit:    exitPolicy, refused: "policy:" + string(policy.FieldMeasurement),
		},
		"debug": {
			options: []attestationtest.Option{attestationtest.Debug()},
			exit:    exitPolicy, refused: "policy:" + string(policy.FieldDebug),
		},
		"a simulation that the policy does not name": {
			policy: func(p *policy.TrustPolicy) { p.Simulation = nil },
			exit:   exitEvidence, refused: "evidence:" + string(attestation.CheckRoot),
		},
		"made for another question": {
			nonce: func([]byte) []byte { return make([]byte, 32) },
			exit:  exitEvidence, refused: "evidence:" + checkNonce,
		},
		"made for no question": {
			nonce: func([]byte) []byte { return nil },
			exit:  exitEvidence, refused: "evidence:" + checkNonce,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.nonce == nil {
				c.nonce = honest
			}
			p := strict(t)
			if c.policy != nil {
				c.policy(p)
			}
			code, refused := verify(t, service(t, c.nonce, c.options...), p)
			if code != c.exit {
				t.Errorf("exit code %d, not %d", code, c.exit)
			}
			if c.refused == "" && len(refused) > 0 || c.refused != "" && (len(refused) != 1 || refused[0] != c.refused) {
				t.Errorf("refused %v, not %q", refused, c.refused)
			}
		})
	}
}

// What cannot be told is exit code 1, what is no evidence at all is not genuine.
func TestVerifyCannotTell(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, strict(t).Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		exit   int
	}{
		"an error":      {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, exitError},
		"no CBOR":       {func(w http.ResponseWriter) { w.Write([]byte("hello")) }, exitEvidence},
		"no bundle":     {func(w http.ResponseWriter) { w.Write(wire.Marshal(wire.Attestation{Evidence: []byte("hello")})) }, exitEvidence},
		"too much":      {func(w http.ResponseWriter) { w.Write(make([]byte, maxEvidence+1)) }, exitEvidence},
		"an empty page": {func(http.ResponseWriter) {}, exitEvidence},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) }))
			defer server.Close()
			var out bytes.Buffer
			if code := run(t.Context(), []string{"verify", server.URL, "--policy", file, "--json"}, os.Stdin, &out, os.Stderr); code != c.exit {
				t.Errorf("exit code %d, not %d: %s", code, c.exit, out.Bytes())
			}
		})
	}
}

// A danger is counted whether the policy refuses it or not.
func TestDangers(t *testing.T) {
	t.Parallel()
	for want, options := range map[int][]attestationtest.Option{0: nil, 1: {attestationtest.Debug()}} {
		p := strict(t)
		p.Debug = policy.Waive[policy.Permission]("test")
		var out bytes.Buffer
		code := run(t.Context(), []string{"verify", service(t, honest, options...), "--policy", write(t, p.Encode()), "--json"}, os.Stdin, &out, os.Stderr)
		var v verification
		if err := json.Unmarshal(out.Bytes(), &v); err != nil || code != exitDone || v.Dangers != want {
			t.Errorf("exit code %d, %d dangers, not %d (%v)", code, v.Dangers, want, err)
		}
	}
}

// A variable of a script that is not set must not become what the profile has.
func TestEmptyNames(t *testing.T) {
	t.Parallel()
	file := write(t, strict(t).Encode())
	for _, args := range [][]string{{"verify", "", "--policy", file}, {"verify", file, "--policy", ""}, {"verify", "--policy="}} {
		var out bytes.Buffer
		if code := run(t.Context(), append(args, "--json"), os.Stdin, &out, os.Stderr); code != exitUsage {
			t.Errorf("%q: exit code %d: %s", args, code, out.Bytes())
		}
	}
}
