package keyrelease

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1", "b2", "c3")
	keks, err := v.client().Release(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(keks) != 3 {
		t.Fatalf("%d versions", len(keks))
	}
	for i, id := range v.versions {
		if keks[i].Version != id || keks[i].Created != uint64(100+i) || !bytes.Equal(keks[i].Key, v.keys[id]) {
			t.Errorf("version %d is %v", i, keks[i])
		}
	}
	printed := fmt.Sprintf("%v %+v %#v %s", keks, keks, keks, keks)
	j, err := json.Marshal(keks)
	if err != nil {
		t.Fatal(err)
	}
	if shows([]byte(printed), keks[0].Key) || shows(j, keks[0].Key) {
		t.Error("a printed KEK shows its key")
	}
}

// Private keys are made and used within Do, and another RSA key is asked for at each Release.
func TestDo(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1", "b2")
	var wrappedTo *rsa.PublicKey
	v.change = func(_ string, a *answer) { a.wrapTo = wrappedTo }
	c := v.client()
	var within, asked int
	c.Do = func(f func()) {
		within++
		f()
		within++
	}
	c.RSA = func() (*rsa.PrivateKey, error) {
		key, err := makeRSA(c.Do)
		if within != 6*asked+2 {
			t.Error("a key made outside")
		}
		asked++
		wrappedTo = &key.PublicKey
		return key, err
	}
	for n := 1; n <= 2; n++ {
		if _, err := c.Release(context.Background()); err != nil {
			t.Fatal(err)
		}
		if asked != n || within != 6*n { // one key made, two opened
			t.Errorf("release %d: asked %d times, %d steps", n, asked, within)
		}
	}
}

func shows(text, secret []byte) bool {
	for _, s := range []string{
		string(secret), hex.EncodeToString(secret), fmt.Sprint(secret),
		base64.RawStdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
	} {
		if bytes.Contains(text, []byte(s)) {
			return true
		}
	}
	return false
}

// The body of the attest request is the documented one, three layers deep.
func TestAttestBody(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1")
	c := v.client()
	c.Config = wire.Digest{7}
	if _, err := c.Release(context.Background()); err != nil {
		t.Fatal(err)
	}
	unb64 := func(s any) []byte {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(s.(string))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	parse := func(b []byte) (m map[string]any) {
		t.Helper()
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	body := parse([]byte(v.bodies[0]))
	report := parse(unb64(body["report"]))
	if !bytes.Equal(unb64(report["SnpReport"]), bytes.Repeat([]byte{1}, 1184)) {
		t.Error("SnpReport is another")
	}
	block, rest := pem.Decode(unb64(report["VcekCertChain"]))
	if block == nil || len(rest) > 0 || !bytes.Equal(block.Bytes, vaultCert()) {
		t.Error("VcekCertChain is another")
	}
	data := body["runtimeData"].(map[string]any)
	if data["dataType"] != "JSON" || body["nonce"] == "" {
		t.Errorf("body is %v", body)
	}
	runtime := parse(unb64(data["data"]))
	key := runtime["keys"].([]any)[0].(map[string]any)
	if runtime["purpose"] != "release" || len(runtime["keys"].([]any)) != 1 || key["kty"] != "RSA" || key["e"] != "AQAB" ||
		!bytes.Equal(unb64(key["n"]), rsaOfTEE().N.Bytes()) || fmt.Sprint(key["key_ops"]) != "[encrypt]" ||
		!bytes.Equal(unb64(runtime["config"]), append([]byte{7}, make([]byte, 31)...)) {
		t.Errorf("runtime data is %v", runtime)
	}
	parsed, err := attestation.ParseRuntimeData(unb64(data["data"]))
	if err != nil || parsed.Purpose != attestation.PurposeRelease {
		t.Errorf("package attestation reads it as %+v, %v", parsed, err)
	}
}

// Evidence of Intel's platforms goes to the endpoint of its platform, the quote as it is,
// and nothing beside it.
func TestAttestBodyOfIntel(t *testing.T) {
	t.Parallel()
	for p, c := range map[attestation.Platform]struct{ path, member string }{
		attestation.PlatformTDX: {"/attest/TdxVm", "quote"},
		attestation.PlatformSGX: {"/attest/OpenEnclave", "report"},
	} {
		v := newVault(t, "a1")
		client := v.client()
		client.Evidence = func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return &attestation.Bundle{Platform: p, Report: []byte{1, 2, 3}, RuntimeData: runtimeData,
				Collateral: []attestation.Collateral{{Name: "tcb-info", Data: []byte{4}}}}, nil
		}
		if _, err := client.Release(t.Context()); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		var body map[string]json.RawMessage
		if err := json.Unmarshal([]byte(v.bodies[0]), &body); err != nil {
			t.Fatal(err)
		}
		if v.requests[0].URL.Path != c.path || string(body[c.member]) != `"AQID"` || body["nonce"] == nil || body["runtimeData"] == nil || len(body) != 3 {
			t.Errorf("%s: %s has %s", p, v.requests[0].URL, v.bodies[0])
		}
	}
}

func TestAnswerRefused(t *testing.T) {
	t.Parallel()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := newRSA()
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(vaultRSA().Public())
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) func([]byte) []byte {
		return func(c []byte) []byte { c[(at+len(c))%len(c)] ^= 1; return c }
	}
	part := func(n int, f func(string) string) func(string) string {
		return func(s string) string {
			parts := strings.Split(s, ".")
			parts[n] = f(parts[n])
			return strings.Join(parts, ".")
		}
	}
	empty := func(string) string { return "" }
	none := func(string) string { return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) }

	for name, c := range map[string]struct {
		change func(v *vault, version string, a *answer)
		want   Reason
	}{
		"HS256 under the public key": {func(_ *vault, _ string, a *answer) { a.alg, a.signer = jose.HS256, public }, ReasonSignature},
		"ES256":                      {func(_ *vault, _ string, a *answer) { a.alg, a.signer = jose.ES256, p256 }, ReasonSignature},
		"RS512":                      {func(_ *vault, _ string, a *answer) { a.alg = jose.RS512 }, ReasonSignature},
		"alg none":                   {func(_ *vault, _ string, a *answer) { a.compact = part(0, none) }, ReasonSignature},
		"no signature":               {func(_ *vault, _ string, a *answer) { a.compact = part(2, empty) }, ReasonSignature},
		"not a JWS":                  {func(_ *vault, _ string, a *answer) { a.compact = func(string) string { return "{}" } }, ReasonSignature},
		"signed by another key":      {func(_ *vault, _ string, a *answer) { a.signer = other }, ReasonSignature},
		"payload of another answer": {func(_ *vault, _ string, a *answer) {
			a.compact = part(1, func(p string) string { return p[:len(p)-4] + "AAAA" })
		}, ReasonSignature},
		"certificate ES256, alg RS256": {func(_ *vault, _ string, a *answer) { a.x5c = [][]byte{trusted().issue(p256.Public(), "127.0.0.1")} }, ReasonSignature},

		"no certificate": {func(_ *vault, _ string, a *answer) { a.x5c = nil }, ReasonCertificate},
		"another vault's": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{trusted().issue(vaultRSA().Public(), "other.vault.test")}
		}, ReasonCertificate},
		"another address": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{trusted().issue(vaultRSA().Public(), "127.0.0.2")}
		}, ReasonCertificate},
		"a stranger's CA": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{stranger().issue(vaultRSA().Public(), "127.0.0.1")}
		}, ReasonCertificate},
		"a stranger's chain": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{stranger().issue(vaultRSA().Public(), "127.0.0.1"), stranger().certificate.Raw}
		}, ReasonCertificate},
		"a stranger, embedded JWK": {func(_ *vault, _ string, a *answer) {
			a.x5c = nil
			a.headers["jwk"] = jose.JSONWebKey{Key: vaultRSA().Public()}
		}, ReasonCertificate},
		"expired": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{trusted().issue(vaultRSA().Public(), "127.0.0.1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}
		}, ReasonCertificate},
		"not yet valid": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{trusted().issue(vaultRSA().Public(), "127.0.0.1", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}
		}, ReasonCertificate},
		"not for servers": {func(_ *vault, _ string, a *answer) {
			a.x5c = [][]byte{trusted().issue(vaultRSA().Public(), "127.0.0.1", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}
		}, ReasonCertificate},

		"an older version":         {func(v *vault, _ string, a *answer) { a.kid, a.requestKid, a.created = v.kid("a1"), v.kid("a1"), 100 }, ReasonVersion},
		"an older version's key":   {func(v *vault, _ string, a *answer) { a.kid = v.kid("a1") }, ReasonVersion},
		"asked for an older":       {func(v *vault, _ string, a *answer) { a.requestKid = v.kid("a1") }, ReasonVersion},
		"no kid":                   {func(_ *vault, _ string, a *answer) { a.requestKid = "" }, ReasonVersion},
		"another time of creation": {func(_ *vault, _ string, a *answer) { a.created = 5 }, ReasonVersion},
		"another nonce":            {func(_ *vault, _ string, a *answer) { a.nonce = "other" }, ReasonNonce},
		"another wrapping":         {func(_ *vault, _ string, a *answer) { a.enc = "CKM_RSA_AES_KEY_WRAP" }, ReasonAnswer},
		"payload not an object":    {func(_ *vault, _ string, a *answer) { a.payload = func([]byte) []byte { return []byte("[]") } }, ReasonAnswer},
		"payload with double names": {func(_ *vault, _ string, a *answer) {
			a.payload = func(p []byte) []byte { return append([]byte(`{"request":{},`), p[1:]...) }
		}, ReasonAnswer},

		"ciphertext cut":            {func(_ *vault, _ string, a *answer) { a.ciphertext = func(c []byte) []byte { return c[:len(c)-8] } }, ReasonUnwrap},
		"ciphertext cut to nothing": {func(_ *vault, _ string, a *answer) { a.ciphertext = func(c []byte) []byte { return nil } }, ReasonUnwrap},
		"ciphertext extended": {func(_ *vault, _ string, a *answer) {
			a.ciphertext = func(c []byte) []byte { return append(c, make([]byte, 8)...) }
		}, ReasonUnwrap},
		"ciphertext flipped, OAEP":   {func(_ *vault, _ string, a *answer) { a.ciphertext = flip(10) }, ReasonUnwrap},
		"ciphertext flipped, KWP":    {func(_ *vault, _ string, a *answer) { a.ciphertext = flip(-1) }, ReasonUnwrap},
		"wrapped to another RSA key": {func(_ *vault, _ string, a *answer) { a.wrapTo = &other.PublicKey }, ReasonUnwrap},

		"a key of 128 bits":        {func(_ *vault, _ string, a *answer) { a.key = make([]byte, 16) }, ReasonKeyType},
		"a key of 264 bits":        {func(_ *vault, _ string, a *answer) { a.key = make([]byte, 33) }, ReasonKeyType},
		"EC-HSM":                   {func(_ *vault, _ string, a *answer) { a.kty, a.key = "EC-HSM", pkcs8(p256) }, ReasonKeyType},
		"no kty":                   {func(_ *vault, _ string, a *answer) { a.kty = "" }, ReasonKeyType},
		"RSA-HSM without PKCS#8":   {func(_ *vault, _ string, a *answer) { a.kty = "RSA-HSM" }, ReasonKeyType},
		"RSA-HSM with an EC key":   {func(_ *vault, _ string, a *answer) { a.kty, a.key = "RSA-HSM", pkcs8(p256) }, ReasonKeyType},
		"RSA-HSM with a small key": {func(_ *vault, _ string, a *answer) { a.kty, a.key = "RSA-HSM", pkcs8(small) }, ReasonKeyType},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, "a1", "b2")
			v.change = func(version string, a *answer) {
				if version == "b2" {
					c.change(v, version, a)
				}
			}
			keks, err := v.client().Release(context.Background())
			var e *Error
			if !errors.As(err, &e) || e.Reason != c.want || e.Step != StepRelease || e.Version != "b2" || keks != nil {
				t.Fatalf("got %v, %v, want %s", keks, err, c.want)
			}
			for _, k := range v.keys {
				if shows([]byte(err.Error()), k) || shows(fmt.Appendf(nil, "%+v", e), k) {
					t.Error("the error holds a key")
				}
			}
		})
	}
}

func TestAnswerAccepted(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*answer){
		"PS256":           func(a *answer) { a.alg = jose.PS256 },
		"nonce left out":  func(a *answer) { a.nonce = nil },
		"kty oct":         func(a *answer) { a.kty = "oct" },
		"no created":      func(a *answer) { a.created = 0 },
		"jku is ignored":  func(a *answer) { a.headers["jku"] = "https://evil.test/certs" },
		"chain with root": func(a *answer) { a.x5c = append(a.x5c, trusted().certificate.Raw) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, "a1")
			v.change = func(_ string, a *answer) { change(a) }
			keks, err := v.client().Release(context.Background())
			if err != nil || len(keks) != 1 || !bytes.Equal(keks[0].Key, v.keys["a1"]) {
				t.Errorf("got %v, %v", keks, err)
			}
		})
	}
}

// A KEK derived from an RSA key is the same whatever the encoding, and bound to the key's name.
func TestKEKFromRSA(t *testing.T) {
	t.Parallel()
	source := newRSA()
	der, err := x509.MarshalPKCS8PrivateKey(source)
	if err != nil {
		t.Fatal(err)
	}
	v := newVault(t, "a1")
	v.change = func(_ string, a *answer) { a.kty, a.key = "RSA-HSM", der }
	keks, err := v.client().Release(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if want := wire.Derive(der, "kek from rsa", testKey); len(keks) != 1 || !bytes.Equal(keks[0].Key, want) {
		t.Error("not the documented derivation")
	}
	if h := sha256.Sum256(der); bytes.Equal(keks[0].Key, h[:]) {
		t.Error("a bare hash")
	}
}

func TestConfigurationRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Client){
		"http vault":       func(c *Client) { c.Service.Vault = strings.Replace(c.Service.Vault, "https", "http", 1) },
		"http attestation": func(c *Client) { c.Service.Attestation = "http://127.0.0.1" },
		"vault with query": func(c *Client) { c.Service.Vault += "?a=b" },
		"user in URL":      func(c *Client) { c.Service.Vault = "https://u@127.0.0.1" },
		"no key":           func(c *Client) { c.Service.Key = "" },
		"key with a slash": func(c *Client) { c.Service.Key = "a/../b" },
		"roots not PEM":    func(c *Client) { c.Service.Roots = "roots" },
		"roots with a key": func(c *Client) { c.Service.Roots += "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" },
		"roots of another type": func(c *Client) {
			c.Service.Roots += strings.ReplaceAll(c.Service.Roots, "CERTIFICATE", "TRUSTED CERTIFICATE")
		},
		"roots cut":   func(c *Client) { c.Service.Roots = c.Service.Roots[:len(c.Service.Roots)-30] },
		"no evidence": func(c *Client) { c.Evidence = nil },
		"no RSA key":  func(c *Client) { c.RSA = func() (*rsa.PrivateKey, error) { return nil, errors.New("no") } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, "a1")
			c := v.client()
			change(c)
			if _, err := c.Release(context.Background()); !errors.Is(err, &Error{Reason: ReasonConfiguration}) || v.asked("") != 0 {
				t.Errorf("got %v, %d requests", err, v.asked(""))
			}
		})
	}
}

func TestEvidenceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("no TEE")
	for name, f := range map[string]func(context.Context, []byte) (*attestation.Bundle, error){
		"error": func(context.Context, []byte) (*attestation.Bundle, error) { return nil, broken },
		"nil":   func(context.Context, []byte) (*attestation.Bundle, error) { return nil, nil },
		"empty": func(context.Context, []byte) (*attestation.Bundle, error) { return &attestation.Bundle{}, nil },
		"no chain": func(context.Context, []byte) (*attestation.Bundle, error) {
			return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: []byte{1}}, nil
		},
		"a token": func(context.Context, []byte) (*attestation.Bundle, error) {
			return &attestation.Bundle{Platform: attestation.PlatformAzureAttestation, Report: []byte{1}}, nil
		},
	} {
		v := newVault(t, "a1")
		c := v.client()
		c.Evidence = f
		_, err := c.Release(context.Background())
		if !errors.Is(err, &Error{Reason: ReasonEvidence}) || v.asked("") != 0 || name == "error" && !errors.Is(err, broken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
