package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
)

func rsaKey(k *rsa.PublicKey) attestation.RSAKey {
	return attestation.RSAKey{KID: "1", Kty: "RSA", KeyOps: []string{"encrypt"}, N: k.N.Bytes(), E: []byte{1, 0, 1}}
}

func goodRuntime() []byte {
	return runtime(attestation.PurposeRelease, rsaKey(&enclaveRSA().PublicKey))
}

// attestBody returns the body of an attest request, from the documented format.
func attestBody(t testing.TB, b *attestation.Bundle, runtimeData []byte) azure.AttestRequest {
	t.Helper()
	report, err := json.Marshal(azure.SNPReport{Report: b.Report, Certificates: pemChain(b.Certificates)})
	if err != nil {
		t.Fatal(err)
	}
	return azure.AttestRequest{Report: report, RuntimeData: azure.RuntimeData{Data: runtimeData, DataType: "JSON"}, Nonce: "n"}
}

func (h *harness) attest(t testing.TB, ask azure.AttestRequest) (string, error) {
	t.Helper()
	body, err := json.Marshal(ask)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(context.Background(), "POST", "/attest/SevSnpVm?api-version=2022-08-01", bytes.NewReader(body))
	answer, err := h.attestSNP(&request{Request: r, log: discard().log})
	if err != nil {
		return "", err
	}
	return answer.(azure.AttestResponse).Token, nil
}

// discard is a request whose log goes nowhere.
func discard() *request {
	return &request{log: slog.New(slog.DiscardHandler), record: &audit.Record{}}
}

func (h *harness) token(t testing.TB, g guest) string {
	t.Helper()
	token, err := h.attest(t, attestBody(t, g.evidence(goodRuntime()), goodRuntime()))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAttestRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	key := rsaKey(&enclaveRSA().PublicKey)
	of := func(runtimeData []byte) azure.AttestRequest {
		return attestBody(t, good.evidence(runtimeData), runtimeData)
	}
	change := func(f func(*azure.AttestRequest)) azure.AttestRequest {
		ask := of(goodRuntime())
		f(&ask)
		return ask
	}
	other, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // must be refused
	if err != nil {
		t.Fatal(err)
	}
	keyJSON, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.attest(t, of(goodRuntime())); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ask  azure.AttestRequest
		want error
	}{
		"client evidence": {of(clientRuntime(t)), errPurpose},
		"client evidence whose nonce closes its quotes": {of(append(bytes.TrimSuffix(clientRuntime(t), []byte("}")),
			`,"nonce":"AA","keys":[`+string(keyJSON)+`],"x":"AA"}`...)), errGenuine},
		"and is of purpose release then": {of(append(bytes.TrimSuffix(clientRuntime(t), []byte("}")),
			`,"nonce":"AA","purpose":"release","keys":[`+string(keyJSON)+`]}`...)), errGenuine},
		"other runtime data": {change(func(a *azure.AttestRequest) {
			a.RuntimeData.Data = runtime(attestation.PurposeRelease, rsaKey(&testRSA().PublicKey))
		}), errGenuine},
		"two keys":              {of(runtime(attestation.PurposeRelease, key, key)), errGenuine},
		"no key":                {of(runtime(attestation.PurposeRelease)), errGenuine},
		"small key":             {of(runtime(attestation.PurposeRelease, rsaKey(&other.PublicKey))), errTokenKeys},
		"not JSON runtime data": {of([]byte("binary")), errGenuine},
		"data type":             {change(func(a *azure.AttestRequest) { a.RuntimeData.DataType = "Binary" }), errEvidenceShape},
		"report not JSON":       {change(func(a *azure.AttestRequest) { a.Report = []byte("x") }), errEvidenceShape},
		"report member twice":   {change(func(a *azure.AttestRequest) { a.Report = append([]byte(`{"SnpReport":"AA",`), a.Report[1:]...) }), errEvidenceShape},
		"endorsements not JSON": {change(func(a *azure.AttestRequest) { a.Report = append([]byte(`{"Endorsements":"AA",`), a.Report[1:]...) }), errEvidenceShape},
		"a key among the chain": {change(func(a *azure.AttestRequest) {
			a.Report = withChain(t, a.Report, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
		}), errEvidenceShape},
		"too many certificates": {change(func(a *azure.AttestRequest) {
			a.Report = withChain(t, a.Report, strings.Repeat("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 20))
		}), errEvidenceShape},
		"nonce too long": {change(func(a *azure.AttestRequest) { a.Nonce = azure.Nonce(strings.Repeat("n", maxNonce+1)) }), errEvidenceShape},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token, err := h.attest(t, c.ask); !errors.Is(err, c.want) || token != "" {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func withChain(t testing.TB, report []byte, chain string) []byte {
	t.Helper()
	var r azure.SNPReport
	if err := json.Unmarshal(report, &r); err != nil {
		t.Fatal(err)
	}
	r.Certificates = append(r.Certificates, chain...)
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTokenClaims(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	jws, err := jose.ParseSignedCompact(h.token(t, good), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"iss": h.url, "nonce": "n", "x-ms-ver": "1.0", "x-ms-attestation-type": "sevsnpvm",
		"x-ms-sevsnpvm-hostdata":          strings.Repeat("22", 32),
		"x-ms-sevsnpvm-launchmeasurement": strings.Repeat("11", 48),
		"x-ms-sevsnpvm-is-debuggable":     false,
		"x-ms-sevsnpvm-migration-allowed": false,
		"x-ms-sevsnpvm-smt-allowed":       false,
		"x-ms-sevsnpvm-vmpl":              0.0,
		"x-passclave-simulated":           true,
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	for _, name := range []string{"iat", "nbf", "exp", "jti", "x-ms-runtime", "x-ms-sevsnpvm-reportdata", "x-ms-sevsnpvm-guestsvn",
		"x-ms-sevsnpvm-bootloader-svn", "x-ms-sevsnpvm-tee-svn", "x-ms-sevsnpvm-snpfw-svn", "x-ms-sevsnpvm-microcode-svn", "x-passclave-root"} {
		if _, ok := claims[name]; !ok {
			t.Errorf("no claim %s", name)
		}
	}
	runtime := claims["x-ms-runtime"].(map[string]any)
	if runtime["purpose"] != "release" || len(runtime["keys"].([]any)) != 1 {
		t.Errorf("x-ms-runtime is %v", runtime)
	}
}

// Each SVN is the least of the four TCBs', whichever has it: a policy's floor holds
// under all of them.
func TestTokenSVNs(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]func(*attestation.Claims) *attestation.TCB{
		"reported":  func(c *attestation.Claims) *attestation.TCB { return &c.ReportedTCB },
		"committed": func(c *attestation.Claims) *attestation.TCB { return &c.CommittedTCB },
		"current":   func(c *attestation.Claims) *attestation.TCB { return &c.CurrentTCB },
		"launch":    func(c *attestation.Claims) *attestation.TCB { return &c.LaunchTCB },
	} {
		for n := range 4 {
			tcb := attestation.TCB{Bootloader: 4, TEE: 5, SNP: 24, Microcode: 213}
			c := attestation.Claims{ReportedTCB: tcb, CommittedTCB: tcb, CurrentTCB: tcb, LaunchTCB: tcb, SNP: &attestation.SNP{}}
			old := older(&c)
			*[]*uint8{&old.Bootloader, &old.TEE, &old.SNP, &old.Microcode}[n]--
			got := claimsOf(&c)
			if svns := (attestation.TCB{Bootloader: got.BootloaderSVN, TEE: got.TEESVN, SNP: got.FirmwareSVN, Microcode: got.MicrocodeSVN}); svns != *old {
				t.Errorf("%s TCB %v: the token has %v", name, *old, svns)
			}
		}
	}
}

// The tokens' key is found the way that Azure Attestation's is.
func TestTokenKeyDiscovery(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	get := func(url string, v any) {
		t.Helper()
		res, err := h.http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(v); err != nil {
			t.Fatal(err)
		}
	}
	var metadata struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	get(h.url+"/.well-known/openid-configuration", &metadata)
	var keys jose.JSONWebKeySet
	get(metadata.JWKS, &keys)
	jws, err := jose.ParseSignedCompact(h.token(t, good), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	found := keys.Key(jws.Signatures[0].Protected.KeyID)
	if metadata.Issuer != h.url || len(found) != 1 || len(found[0].Certificates) != 1 || !found[0].IsPublic() {
		t.Fatalf("%+v %+v", metadata, keys)
	}
	if _, err := jws.Verify(found[0].Certificates[0].PublicKey); err != nil {
		t.Error(err)
	}
}

func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.tokens
	now := time.Now()
	claims := func(change func(*tokenClaims)) []byte {
		c := tokenClaims{
			Issuer: a.issuer, IssuedAt: now.Unix(), NotBefore: now.Unix() - 1, Expires: now.Unix() + 60, ID: "1",
			Type: "sevsnpvm", Runtime: goodRuntime(), Simulated: true,
		}
		if change != nil {
			change(&c)
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sign := func(s jose.Signer, payload []byte) string {
		t.Helper()
		jws, err := s.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	signer := func(alg jose.SignatureAlgorithm, key any, o *jose.SignerOptions) jose.Signer {
		t.Helper()
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	mallory, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: mallory.Public(), KeyID: a.jwk.KeyID}}})
	}))
	t.Cleanup(evil.Close)
	public, err := a.public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := a.jwk.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	good := sign(a.signer, claims(nil))
	if token, err := a.read(good); err != nil || !token.rsa.Equal(&enclaveRSA().PublicKey) {
		t.Fatalf("the good token: %v", err)
	}
	parts := strings.Split(good, ".")
	key := rsaKey(&enclaveRSA().PublicKey)
	exponent3, large := key, key
	exponent3.E = []byte{3}
	large.N = bytes.Repeat([]byte{0xff}, 513)
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))

	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"empty":                {"", errTokenSignature},
		"alg none":             {none + "." + parts[1] + ".", errTokenSignature},
		"alg none, signature":  {none + "." + parts[1] + "." + parts[2], errTokenSignature},
		"no signature":         {parts[0] + "." + parts[1] + ".", errTokenSignature},
		"HS256, public point":  {sign(signer(jose.HS256, public, nil), claims(nil)), errTokenSignature},
		"HS256, public JWK":    {sign(signer(jose.HS256, jwk, nil), claims(nil)), errTokenSignature},
		"other key":            {sign(signer(jose.ES256, mallory, nil), claims(nil)), errTokenSignature},
		"other key, same kid":  {sign(signer(jose.ES256, jose.JSONWebKey{Key: mallory, KeyID: a.jwk.KeyID}, nil), claims(nil)), errTokenSignature},
		"jku of the attacker":  {sign(signer(jose.ES256, jose.JSONWebKey{Key: mallory, KeyID: a.jwk.KeyID}, (&jose.SignerOptions{}).WithHeader("jku", evil.URL)), claims(nil)), errTokenSignature},
		"embedded JWK":         {sign(signer(jose.ES256, mallory, &jose.SignerOptions{EmbedJWK: true}), claims(nil)), errTokenSignature},
		"RS256":                {sign(signer(jose.RS256, testRSA(), nil), claims(nil)), errTokenSignature},
		"payload changed":      {parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims(func(c *tokenClaims) { c.Simulated = false })) + "." + parts[2], errTokenSignature},
		"other issuer":         {sign(a.signer, claims(func(c *tokenClaims) { c.Issuer = "https://attestation.test" })), errTokenIssuer},
		"expired":              {sign(a.signer, claims(func(c *tokenClaims) { c.Expires = now.Unix() - 1 })), errTokenTime},
		"without expiry":       {sign(a.signer, claims(func(c *tokenClaims) { c.Expires = 0 })), errTokenTime},
		"not yet valid":        {sign(a.signer, claims(func(c *tokenClaims) { c.NotBefore = now.Unix() + 60 })), errTokenTime},
		"claims not an object": {sign(a.signer, []byte(`[]`)), errTokenClaims},
		"claim twice":          {sign(a.signer, append([]byte(`{"iss":"x",`), claims(nil)[1:]...)), errTokenClaims},
		"unknown claim twice":  {sign(a.signer, append([]byte(`{"z":1,"z":2,`), claims(nil)[1:]...)), errTokenClaims},
		"purpose client":       {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = runtime(attestation.PurposeClient, key) })), errTokenKeys},
		"no purpose":           {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = runtime("", key) })), errTokenKeys},
		"two keys": {sign(a.signer, claims(func(c *tokenClaims) {
			c.Runtime = runtime(attestation.PurposeRelease, key, rsaKey(&testRSA().PublicKey))
		})), errTokenKeys},
		"exponent 3":            {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = runtime(attestation.PurposeRelease, exponent3) })), errTokenKeys},
		"a key of 4104 bits":    {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = runtime(attestation.PurposeRelease, large) })), errTokenKeys},
		"no key":                {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = runtime(attestation.PurposeRelease) })), errTokenKeys},
		"no runtime data":       {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = nil })), errTokenKeys},
		"a key that is not RSA": {sign(a.signer, claims(func(c *tokenClaims) { c.Runtime = []byte(`{"keys":[` + string(jwk) + `],"purpose":"release"}`) })), errTokenKeys},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token, err := a.read(c.token); !errors.Is(err, c.want) || token != nil {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	t.Cleanup(func() {
		if asked.Load() != 0 {
			t.Error("a URL that a token named was asked")
		}
	})
}
