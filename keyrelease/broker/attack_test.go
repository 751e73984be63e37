package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

// A guest that began on older firmware, a host that can go back to it, and a service founded
// otherwise have no key, and read which clause says so.
func TestFloorAndConfiguration(t *testing.T) {
	t.Parallel()
	h := newHarness(t, func(c *Config) { c.Roots = at.Roots(at.NewMachine(t)) })
	file := at.Configuration(t)
	configuration := wire.ConfigurationHash(file)
	template, err := at.NewMachine(t).Template()
	if err != nil {
		t.Fatal(err)
	}
	const snp, floor, svn = 48, `x-ms-sevsnpvm-snpfw-svn`, 0xff // of a TCB, Milan's
	h.create(t, fmt.Appendf(nil, `{"version":"1.0.0","anyOf":[{"authority":%q,"allOf":[
		{"claim":"x-passclave-simulated","equals":true},
		{"claim":%q,"greaterOrEquals":%d},
		{"claim":"x-ms-sevsnpvm-hostdata","equals":%q},
		{"claim":"x-ms-runtime.config","equals":%q}]}]}`,
		h.url, floor, template.ReportedTcb>>snp&svn, configuration.String(), base64.RawURLEncoding.EncodeToString(configuration[:])))
	another := wire.Digest{1}
	for name, c := range map[string]struct {
		guest  at.Option
		config wire.Digest // in the runtime data
		missed string      // claim
	}{
		"as it must be":     {at.VMPL(0), configuration, ""},
		"launch TCB":        {at.With(func(r *sevsnp.Report) { r.LaunchTcb -= 1 << snp }), configuration, floor},
		"committed TCB":     {at.With(func(r *sevsnp.Report) { r.CommittedTcb -= 1 << snp }), configuration, floor},
		"configuration":     {at.HostData(another[:]), configuration, "x-ms-sevsnpvm-hostdata"},
		"one, says another": {at.VMPL(0), another, "x-ms-runtime.config"},
	} {
		client := h.client(good)
		client.Config = c.config
		client.Evidence = func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return at.BundleOver(t, runtimeData, file, c.guest), nil
		}
		_, err := client.Release(t.Context())
		var e *keyrelease.Error
		switch {
		case c.missed == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.missed == "":
		case !errors.As(err, &e) || e.Reason != keyrelease.ReasonForbidden || !strings.Contains(e.Message, c.missed):
			t.Errorf("%s: %v, want %s missed", name, err, c.missed)
		}
	}
}

// A token that is good for one key is not good for another, whose policy asks for other evidence.
func TestTokenForAnotherKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	version := h.create(t, h.strict())
	other, err := h.store.Create(t.Context(), "other", releasepolicy.Require(h.url, map[string]any{
		"x-passclave-simulated": true, "x-ms-sevsnpvm-launchmeasurement": strings.Repeat("12", 48),
	}), false)
	if err != nil {
		t.Fatal(err)
	}
	body := askFor(t, h.token(t, good))
	if status, code := h.post(t, h.releasePath(version), body); status != http.StatusOK {
		t.Fatalf("its own key: %d %s", status, code)
	}
	if status, code := h.post(t, "/keys/other/"+other.ID+"/release?api-version=7.4", body); status != http.StatusForbidden || code != "Forbidden" {
		t.Errorf("got %d %s", status, code)
	}
	for _, path := range []string{"/keys/other/" + version, "/keys/" + keyName + "/" + other.ID} { // one's version under the other's name
		if status, code := h.post(t, path+"/release?api-version=7.4", body); status != http.StatusNotFound || code != "KeyNotFound" {
			t.Errorf("%s: %d %s", path, status, code)
		}
	}
}

// Who has got hold of a token, and sends it with an RSA key of his own, gets what only the
// enclave opens.
func TestTokenReplayedWithAnotherKey(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	version := h.create(t, h.strict())
	token := h.token(t, good)
	thief, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk := rsaKey(&thief.PublicKey)
	his := runtime(attestation.PurposeRelease, jwk)
	for name, more := range map[string]map[string]any{
		"as it is":     {},
		"keys":         {"keys": []any{jwk}},
		"key":          {"key": jwk},
		"runtime data": {"runtimeData": azure.RuntimeData{Data: his, DataType: "JSON"}},
		"claims":       {"x-ms-runtime": json.RawMessage(his)},
	} {
		more["target"], more["enc"] = token, keywrap.RSAAESKeyWrap256
		body, err := json.Marshal(more)
		if err != nil {
			t.Fatal(err)
		}
		res, err := h.http.Post(h.url+h.releasePath(version), "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(res.Body)
		res.Body.Close()
		var answer azure.ReleaseResponse
		if err != nil || azure.Decode(data, &answer) != nil || answer.Value == "" {
			t.Fatalf("%s: %s, %v", name, data, err)
		}
		payload, err := json.Marshal(verifyJWS(t, answer.Value))
		if err != nil {
			t.Fatal(err)
		}
		var released azure.ReleasedKey
		var hsm azure.KeyHSM
		if azure.Decode(payload, &released) != nil || azure.Decode(released.Response.Key.Key.KeyHSM, &hsm) != nil {
			t.Fatalf("%s: %s", name, payload)
		}
		if _, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap256, thief, hsm.Ciphertext); !errors.Is(err, keywrap.ErrUnwrap) {
			t.Errorf("%s: the thief has the key, or %v", name, err)
		}
		if key, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap256, enclaveRSA(), hsm.Ciphertext); err != nil || !bytes.Equal(key, h.stored(t, version)) {
			t.Errorf("%s: not the enclave's: %v", name, err)
		}
	}
}

// What strangers send as a token is none, and what is signed is read only whole: neither
// panics.
func FuzzToken(f *testing.F) {
	a, err := newTokenAuthority("https://broker.test", time.Now)
	if err != nil {
		f.Fatal(err)
	}
	good, err := a.issue(platformClaims{tokenClaims: tokenClaims{Type: typeSNP, Runtime: goodRuntime()}})
	if err != nil {
		f.Fatal(err)
	}
	first, err := a.read(good)
	if err != nil {
		f.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(good, ".")[1])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, payload)
	f.Add(good[:len(good)-1], []byte(`{"iss":"https://broker.test","exp":9999999999,"x-ms-runtime":{"purpose":"release","keys":[{"kty":"RSA"}]}}`))
	f.Fuzz(func(t *testing.T, compact string, payload []byte) {
		if token, err := a.read(compact); err == nil && (token.id != first.id || !token.rsa.Equal(first.rsa)) {
			t.Fatal("a token was forged")
		}
		jws, err := a.signer.Sign(payload)
		if err != nil {
			return
		}
		signed, err := jws.CompactSerialize()
		if err != nil {
			return
		}
		if token, err := a.read(signed); err == nil && (token.issuer != a.issuer || token.rsa.N.BitLen() < 2048 || token.rsa.E != 65537) {
			t.Fatalf("%s was read as %+v", payload, token)
		}
	})
}
