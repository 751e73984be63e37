package azuretest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/azuretest"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

const keyName = "passclave-kek"

var enclaveRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// platforms are what an enclave shows of itself, and the claims that name it.
var platforms = map[attestation.Platform]struct {
	bundle func(t testing.TB, r attestation.RuntimeData, file []byte) *attestation.Bundle
	claims map[string]any
	wrong  string // a claim that another enclave would not have
}{
	attestation.PlatformSEVSNP: {func(t testing.TB, r attestation.RuntimeData, file []byte) *attestation.Bundle {
		return at.Bundle(t, r, file)
	}, map[string]any{"x-ms-attestation-type": "sevsnpvm", "x-ms-sevsnpvm-is-debuggable": "false", "x-ms-runtime.purpose": "release"}, "x-ms-sevsnpvm-launchmeasurement"},
	attestation.PlatformTDX: {func(t testing.TB, r attestation.RuntimeData, file []byte) *attestation.Bundle {
		return at.TDXBundle(t, r, file)
	},
		map[string]any{"x-ms-attestation-type": "tdxvm", "tdx_mrtd": strings.Repeat("4d", 48), "tdx_td_attributes_debug": false}, "tdx_rtmr3"},
	attestation.PlatformSGX: {func(t testing.TB, r attestation.RuntimeData, file []byte) *attestation.Bundle {
		return at.SGXBundle(t, r, file)
	},
		map[string]any{"x-ms-attestation-type": "sgx", "x-ms-sgx-mrenclave": strings.Repeat("4d", 32), "x-ms-sgx-is-debuggable": false}, "x-ms-sgx-mrsigner"},
}

// evidence makes evidence of a platform over any runtime data of ours.
func evidence(t testing.TB, p attestation.Platform) func(context.Context, []byte) (*attestation.Bundle, error) {
	file := at.Configuration(t)
	return func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
		r, err := attestation.ParseRuntimeData(runtimeData)
		if err != nil {
			return nil, err
		}
		return platforms[p].bundle(t, *r, file), nil
	}
}

// world is the emulator and a client of its own platform.
type world struct {
	*azuretest.Azure
	client *keyrelease.Client
}

func newWorld(t *testing.T, p attestation.Platform) *world {
	t.Helper()
	a := azuretest.New(t, at.Roots(at.NewMachine(t)))
	service := wire.KeyService{Attestation: a.Attestation, Vault: a.Vault, Key: keyName, Roots: a.Roots, Identity: wire.IdentitySystem}
	return &world{a, &keyrelease.Client{
		Service: service, Config: wire.ConfigurationHash(at.Configuration(t)), Evidence: evidence(t, p),
		Bearer:    keyrelease.Identity(service, a.Metadata),
		RSA:       func() (*rsa.PrivateKey, error) { return enclaveRSA(), nil },
		TimeLimit: 20 * time.Second,
	}}
}

func (w *world) policy(claims map[string]any) []byte {
	return releasepolicy.Require(w.Attestation, claims)
}

// The enclave's client gets every enabled version of its key from Azure's own protocol, on
// every platform, over more pages than one.
func TestRelease(t *testing.T) {
	t.Parallel()
	for p, c := range platforms {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, p)
			var want []string
			for range 5 {
				id, plain := w.Put(keyName, "oct-HSM", w.policy(c.claims))
				want = append(want, id+" "+hex.EncodeToString(plain))
			}
			w.Enable(keyName, want[1][:32], false)
			want = append(want[:1], want[2:]...)
			keks, err := w.client.Release(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range keks {
				got = append(got, k.Version+" "+hex.EncodeToString(k.Key))
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got %v, want %v", keks, want)
			}
		})
	}
}

// A key that is released as PKCS#8 becomes the same KEK each time.
func TestReleaseRSA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, attestation.PlatformSEVSNP)
	_, plain := w.Put(keyName, "RSA-HSM", w.policy(platforms[attestation.PlatformSEVSNP].claims))
	for _, algorithm := range []jose.SignatureAlgorithm{jose.RS256, jose.PS256} {
		w.Answer = func(r *azuretest.Release) { r.Algorithm = algorithm }
		keks, err := w.client.Release(t.Context())
		if err != nil || !bytes.Equal(keks[0].Key, wire.Derive(plain, "kek from rsa", keyName)) {
			t.Fatalf("%v, %v", keks, err)
		}
	}
}

// Whatever the vault refuses comes back with its request ID and what to look at next.
func TestRefusals(t *testing.T) {
	t.Parallel()
	snp := platforms[attestation.PlatformSEVSNP]
	for name, c := range map[string]struct {
		spoil  func(*world)
		step   keyrelease.Step
		reason keyrelease.Reason
		status int
		next   string
	}{
		"token for another audience": {func(w *world) { w.Audience = "https://vault.azure.net" }, keyrelease.StepList, keyrelease.ReasonUnauthorized, 401, "audience"},
		"no role to list":            {func(w *world) { w.Roles["list"] = false }, keyrelease.StepList, keyrelease.ReasonForbidden, 403, "role"},
		"no role to release":         {func(w *world) { w.Roles["release"] = false }, keyrelease.StepRelease, keyrelease.ReasonForbidden, 403, "role"},
		"another measurement": {func(w *world) {
			w.Put(keyName, "oct-HSM", w.policy(map[string]any{snp.wrong: strings.Repeat("00", 48)}))
		}, keyrelease.StepRelease, keyrelease.ReasonForbidden, 403, "release policy"},
		"another authority": {func(w *world) {
			w.Put(keyName, "oct-HSM", releasepolicy.Require("https://other.attest.azure.net", snp.claims))
		}, keyrelease.StepRelease, keyrelease.ReasonForbidden, 403, "key_service.attestation"},
		"another key's name": {func(w *world) { w.client.Service.Key = "other" }, keyrelease.StepList, keyrelease.ReasonNotFound, 404, "key_service.key"},
		"not activated": {func(w *world) {
			w.Refuse = func(r *http.Request) (int, string, http.Header) {
				if strings.HasPrefix(r.URL.Path, "/keys/") {
					return 404, "NotFound", nil
				}
				return 0, "", nil
			}
		}, keyrelease.StepList, keyrelease.ReasonNotFound, 404, "security domain"},
		"throttled": {func(w *world) {
			w.Refuse = func(*http.Request) (int, string, http.Header) { return 429, "Throttled", nil }
		}, keyrelease.StepAttest, keyrelease.ReasonThrottled, 429, "fewer"},
		"evidence of a stranger": {func(w *world) {
			w.client.Evidence = func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
				b, err := evidence(t, attestation.PlatformSEVSNP)(t.Context(), runtimeData)
				if err == nil {
					b.Report = bytes.Clone(b.Report)
					b.Report[0x90]++
				}
				return b, err
			}
		}, keyrelease.StepAttest, keyrelease.ReasonService, 400, "certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, attestation.PlatformSEVSNP)
			w.Put(keyName, "oct-HSM", w.policy(snp.claims))
			c.spoil(w)
			_, err := w.client.Release(t.Context())
			var e *keyrelease.Error
			if !errors.As(err, &e) || e.Reason != c.reason || e.Step != c.step || e.Status != c.status || e.RequestID == "" || e.ClientRequestID == "" {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(e.Next, c.next) {
				t.Errorf("next is %q, want something of %q", e.Next, c.next)
			}
		})
	}
}

// A service that limits is asked again after as long as it says, and one that fails for a
// moment after a moment.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, attestation.PlatformSEVSNP)
	w.Put(keyName, "oct-HSM", w.policy(platforms[attestation.PlatformSEVSNP].claims))
	failed := map[string]int{}
	w.Refuse = func(r *http.Request) (int, string, http.Header) {
		failed[r.URL.Path]++
		switch failed[r.URL.Path] {
		case 1:
			return 429, "Throttled", http.Header{"Retry-After": {"0"}}
		case 2:
			return 503, "ServiceUnavailable", nil
		}
		return 0, "", nil
	}
	if keks, err := w.client.Release(t.Context()); err != nil || len(keks) != 1 {
		t.Fatalf("%v, %v", keks, err)
	}
}

// What stands in for the vault, or for another vault of the same maker, gives no key.
func TestHostileVault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*azuretest.Release)
		reason keyrelease.Reason
	}{
		"another vault's certificate": {func(r *azuretest.Release) { r.Host = "other.managedhsm.azure.net" }, keyrelease.ReasonCertificate},
		"another version":             {func(r *azuretest.Release) { r.KID = r.KID[:len(r.KID)-1] + "0" }, keyrelease.ReasonVersion},
		"asked for another version":   {func(r *azuretest.Release) { r.RequestKID = r.RequestKID[:len(r.RequestKID)-1] + "0" }, keyrelease.ReasonVersion},
		"another nonce":               {func(r *azuretest.Release) { r.Nonce = "other" }, keyrelease.ReasonNonce},
		"to another key":              {func(r *azuretest.Release) { r.To = strangersRSA() }, keyrelease.ReasonUnwrap},
		"weaker wrapping":             {func(r *azuretest.Release) { r.Enc = "CKM_RSA_AES_KEY_WRAP" }, keyrelease.ReasonAnswer},
		"a short key":                 {func(r *azuretest.Release) { r.Plain = r.Plain[:16] }, keyrelease.ReasonKeyType},
		"an EC key's kind":            {func(r *azuretest.Release) { r.Kty = "EC-HSM" }, keyrelease.ReasonKeyType},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, attestation.PlatformSEVSNP)
			w.Put(keyName, "oct-HSM", w.policy(platforms[attestation.PlatformSEVSNP].claims))
			if _, err := w.client.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.Answer = func(r *azuretest.Release) {
				if !strings.HasSuffix(r.KID, "0") || !strings.HasSuffix(name, "version") {
					c.change(r)
				} else {
					r.KID, r.RequestKID = r.KID[:len(r.KID)-1]+"1", r.RequestKID[:len(r.RequestKID)-1]+"1"
				}
			}
			_, err := w.client.Release(t.Context())
			if !errors.Is(err, &keyrelease.Error{Reason: c.reason}) {
				t.Errorf("%v, want %s", err, c.reason)
			}
		})
	}
}

var strangersRSA = sync.OnceValue(func() *rsa.PublicKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return &k.PublicKey
})

// The emulator is not written from the client's code, nor does it use it: two that share a
// mistake would agree.
func TestWrittenFromTheDocuments(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.FieldsSeq(string(out)) {
		if strings.Contains(p, "passclave/keyrelease") && !strings.HasSuffix(p, "/azuretest") {
			t.Errorf("the emulator uses %s", p)
		}
	}
}
