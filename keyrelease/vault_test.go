package keyrelease

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/wire"
)

// authority is a certificate authority of the tests.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &authority{key, c}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw}))
}

// issue returns a certificate for a host, in DER.
func (a *authority) issue(key crypto.PublicKey, host string, change ...func(*x509.Certificate)) []byte {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{host}
	}
	for _, f := range change {
		f(t)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.certificate, key, a.key)
	if err != nil {
		panic(err)
	}
	return der
}

var (
	trusted   = sync.OnceValue(newAuthority)
	stranger  = sync.OnceValue(newAuthority)
	vaultRSA  = sync.OnceValue(newRSA)
	rsaOfTEE  = sync.OnceValue(newRSA)
	vaultCert = sync.OnceValue(func() []byte { return trusted().issue(vaultRSA().Public(), "127.0.0.1") })
)

func newRSA() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}

// answer is what the vault sends for one release; a test changes a part of it.
type answer struct {
	alg     jose.SignatureAlgorithm
	signer  any
	x5c     [][]byte
	headers map[jose.HeaderKey]any

	kid, requestKid, enc, kty string
	nonce                     any // nil leaves it out
	created                   uint64
	key                       []byte
	wrapTo                    *rsa.PublicKey
	ciphertext                func([]byte) []byte
	payload                   func([]byte) []byte
	compact                   func(string) string
}

// vault is attestation service and vault, written from the wire format and not
// from the client: JSON by hand, maps instead of this module's types.
type vault struct {
	t        testing.TB
	url      string
	keys     map[string][]byte // by version
	versions []string
	change   func(version string, a *answer)               // may be nil
	before   func(http.ResponseWriter, *http.Request) bool // true: answered
	lacks    map[string]string                             // algorithms that it refuses, and the code with which
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

const testKey = "passclave-kek"

func newVault(t testing.TB, versions ...string) *vault {
	t.Helper()
	v := &vault{t: t, keys: map[string][]byte{}, versions: versions}
	for _, id := range versions {
		k := make([]byte, 32)
		rand.Read(k)
		v.keys[id] = k
	}
	s := httptest.NewUnstartedServer(v)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{vaultCert()}, PrivateKey: vaultRSA()}}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	v.url = "https://" + s.Listener.Addr().String()
	s.StartTLS()
	t.Cleanup(s.Close)
	return v
}

// asked returns how many requests came whose path ends so.
func (v *vault) asked(suffix string) (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.requests {
		if strings.HasSuffix(r.URL.Path, suffix) {
			n++
		}
	}
	return n
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		v.t.Error(err)
	}
	v.mu.Lock()
	v.requests = append(v.requests, r)
	v.bodies = append(v.bodies, string(body))
	v.mu.Unlock()
	if v.before != nil && v.before(w, r) {
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.Method == "POST" && (r.URL.Path == "/attest/SevSnpVm" || r.URL.Path == "/attest/OpenEnclave") && r.URL.Query().Get("api-version") == "2022-08-01",
		r.Method == "POST" && r.URL.Path == "/attest/TdxVm" && r.URL.Query().Get("api-version") == "2025-06-01":
		send(w, map[string]any{"token": "header.payload.signature"})
	case r.Method == "GET" && len(parts) == 3 && parts[2] == "versions" && r.URL.Query().Get("api-version") == "7.4":
		v.list(w)
	case r.Method == "POST" && len(parts) == 4 && parts[3] == "release" && r.URL.Query().Get("api-version") == "7.4":
		var ask map[string]string
		if err := json.Unmarshal(body, &ask); err != nil {
			v.t.Error(err)
		}
		if ask["target"] != "header.payload.signature" || ask["enc"] != "RSA_AES_KEY_WRAP_256" && v.lacks == nil || len(ask) != 3 {
			v.t.Errorf("release request %s", body)
		}
		if code := v.lacks[ask["enc"]]; code != "" {
			w.WriteHeader(400)
			send(w, map[string]any{"error": map[string]any{"code": code, "message": "ask for another"}})
			return
		}
		v.release(w, parts[2], ask["enc"], ask["nonce"])
	default:
		w.WriteHeader(404)
		send(w, map[string]any{"error": map[string]any{"code": "KeyNotFound", "message": "not here"}})
	}
}

func send(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Write(b)
}

func (v *vault) kid(version string) string { return v.url + "/keys/" + testKey + "/" + version }

// list has the newest version first: the order is not the client's to rely on.
func (v *vault) list(w http.ResponseWriter) {
	value := []any{map[string]any{"kid": v.kid("disabled"), "attributes": map[string]any{"enabled": false, "created": 1}}}
	for i, id := range v.versions {
		item := map[string]any{"kid": v.kid(id), "attributes": map[string]any{"enabled": true, "created": 100 + i, "recoveryLevel": "Purgeable"}}
		value = append([]any{item}, value...)
	}
	send(w, map[string]any{"value": value, "nextLink": nil})
}

func (v *vault) release(w http.ResponseWriter, version, enc, nonce string) {
	a := &answer{
		alg: jose.RS256, signer: vaultRSA(), x5c: [][]byte{vaultCert()}, headers: map[jose.HeaderKey]any{},
		kid: v.kid(version), requestKid: v.kid(version), enc: enc, kty: "oct-HSM",
		nonce: nonce, key: v.keys[version], wrapTo: &rsaOfTEE().PublicKey,
	}
	for i, id := range v.versions {
		if id == version {
			a.created = uint64(100 + i)
		}
	}
	if v.change != nil {
		v.change(version, a)
	}
	ciphertext, err := keywrap.Wrap(keywrap.Algorithm(enc), a.wrapTo, a.key)
	if err != nil {
		panic(err)
	}
	if a.ciphertext != nil {
		ciphertext = a.ciphertext(ciphertext)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	hsm := `{"schema_version":"1.0","header":{"kid":"TokenKey","alg":"dir","enc":"` + a.enc + `"},"ciphertext":"` + b64(ciphertext) + `"}`
	request := map[string]any{"api-version": "7.4", "enc": a.enc, "kid": a.requestKid}
	if a.nonce != nil {
		request["nonce"] = a.nonce
	}
	payload, err := json.Marshal(map[string]any{
		"request": request,
		"response": map[string]any{"key": map[string]any{
			"attributes":     map[string]any{"enabled": true, "exportable": true, "created": a.created},
			"key":            map[string]any{"kid": a.kid, "kty": a.kty, "key_ops": []string{"wrapKey"}, "key_hsm": b64([]byte(hsm))},
			"release_policy": map[string]any{"contentType": "application/json; charset=utf-8", "data": "e30", "immutable": false},
		}},
	})
	if err != nil {
		panic(err)
	}
	if a.payload != nil {
		payload = a.payload(payload)
	}
	o := &jose.SignerOptions{}
	if a.x5c != nil {
		var x5c []string
		for _, der := range a.x5c {
			x5c = append(x5c, base64.StdEncoding.EncodeToString(der))
		}
		o = o.WithHeader("x5c", x5c)
	}
	for k, h := range a.headers {
		o = o.WithHeader(k, h)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: a.alg, Key: a.signer}, o)
	if err != nil {
		panic(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		panic(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	if a.compact != nil {
		compact = a.compact(compact)
	}
	send(w, map[string]any{"value": compact})
}

// client returns a client of the vault that pauses without waiting.
func (v *vault) client() *Client {
	return &Client{
		Service: wire.KeyService{Attestation: v.url, Vault: v.url, Key: testKey, Roots: trusted().pem()},
		Evidence: func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: bytes.Repeat([]byte{1}, 1184), Certificates: [][]byte{vaultCert()}, RuntimeData: runtimeData}, nil
		},
		RSA:   func() (*rsa.PrivateKey, error) { return rsaOfTEE(), nil },
		pause: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}
