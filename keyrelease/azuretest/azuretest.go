// Package azuretest stands in on loopback for what key release meets of Azure: Azure
// Attestation, a Managed HSM and the instance metadata service, each a real server that
// speaks the documented wire format over TLS (metadata over plain HTTP, as there).
//
// It is written from Microsoft's REST reference (attestation 2022-08-01 and 2025-06-01,
// keys 7.4 and later) and from published samples, not from package keyrelease: bodies are
// maps, claims are read out of the evidence by offset, wrapping and policies are done
// here once more. Of this module it uses only the verifier of evidence, since it must
// refuse what is not genuine. What Azure does beyond the documents, nobody here knows: the
// statuses and words by which it refuses a release are guesses.
package azuretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
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

	"github.com/passclave/passclave/attestation"
)

// Azure is the three services. Its fields may be changed before a request and between two.
type Azure struct {
	Attestation string // base URL of the attestation service: authority of its tokens
	Vault       string // base URL of the Managed HSM
	Metadata    string // base URL of the metadata service
	Roots       string // PEM: what all certificates chain to
	Audience    string // of access tokens for the HSM

	// Refuse answers a request to the attestation service or the HSM in place of it, where
	// it returns a status; header may be nil.
	Refuse func(r *http.Request) (status int, code string, header http.Header)
	// Roles are those that the identity has: "list" and "release".
	Roles map[string]bool
	// Answer changes what a release is answered with, before it is signed.
	Answer func(*Release)

	roots    attestation.Roots
	authZ    *rsa.PrivateKey // signs attestation tokens
	mu       sync.Mutex
	keys     map[string][]*version
	access   map[string]string // bearer tokens given out, by token: their audience
	requests []string
}

// version is one version of a key.
type version struct {
	id        string
	created   int64
	enabled   bool
	kty       string
	plain     []byte // 32 bytes, or PKCS#8
	policy    []byte
	immutable bool
}

var (
	authority = sync.OnceValues(func() (*ecdsa.PrivateKey, *x509.Certificate) {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		t := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "azuretest"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		return key, must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, t, t, key.Public(), key))))
	})
	serviceKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	tokenKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// issue returns a certificate for a host, in DER.
func issue(key any, host string) []byte {
	signer, root := authority()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{host}
	}
	return must(x509.CreateCertificate(rand.Reader, t, root, key, signer))
}

// Certificate returns one for a service on 127.0.0.1, and the root that it chains to, PEM.
func Certificate() (certificate tls.Certificate, roots string) {
	_, root := authority()
	return tls.Certificate{Certificate: [][]byte{issue(serviceKey().Public(), "127.0.0.1")}, PrivateKey: serviceKey()},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))
}

// New starts the services; they end with the test. The attestation service believes the
// hardware makers and roots.
func New(t testing.TB, roots attestation.Roots) *Azure {
	t.Helper()
	_, trusted := Certificate()
	a := &Azure{
		Roots: trusted,
		Roles: map[string]bool{"list": true, "release": true},
		roots: roots, authZ: tokenKey(), keys: map[string][]*version{}, access: map[string]string{},
	}
	a.Attestation = a.serve(t, a.attestation)
	a.Vault = a.serve(t, a.vault)
	a.Audience = strings.TrimSuffix(a.Vault, a.Vault[strings.LastIndex(a.Vault, ":"):])
	metadata := httptest.NewServer(http.HandlerFunc(a.metadata))
	t.Cleanup(metadata.Close)
	a.Metadata = metadata.URL
	return a
}

// serve starts one service over TLS.
func (a *Azure) serve(t testing.TB, handle func(r *http.Request, body []byte) (any, *refusal)) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.requests = append(a.requests, r.Method+" "+r.URL.Path)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("x-ms-request-id", hex.EncodeToString(random(16)))
		if id := r.Header.Get("x-ms-client-request-id"); id != "" {
			w.Header().Set("x-ms-client-request-id", id)
		}
		var answer any
		var no *refusal
		if a.Refuse != nil {
			if status, code, header := a.Refuse(r); status != 0 {
				no = &refusal{status, code, "refused by the test", header}
			}
		}
		if no == nil {
			answer, no = handle(r, body)
		}
		if no != nil {
			for name, values := range no.header {
				w.Header()[name] = values
			}
			w.WriteHeader(no.status)
			answer = map[string]any{"error": map[string]any{"code": no.code, "message": no.message}}
		}
		w.Write(must(json.Marshal(answer)))
	}))
	certificate, _ := Certificate()
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// Requests returns what both services were asked so far, as "METHOD /path".
func (a *Azure) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.requests...)
}

// refusal is an error in the services' shape.
type refusal struct {
	status  int
	code    string
	message string
	header  http.Header
}

func refuse(status int, code, message string) *refusal {
	return &refusal{status, code, message, nil}
}

// metadata answers GET /metadata/identity/oauth2/token (Microsoft Entra, "Managed
// identities: get a token over HTTP"), for the one identity that there is.
func (a *Azure) metadata(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	q := r.URL.Query()
	if r.Header.Get("Metadata") != "true" || r.URL.Path != "/metadata/identity/oauth2/token" || q.Get("api-version") == "" || q.Get("resource") == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	token := b64(random(32))
	a.access[token] = q.Get("resource")
	json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "client_id": q.Get("client_id"), "expires_in": "86399", "ext_expires_in": "86399",
		"resource": q.Get("resource"), "token_type": "Bearer",
	})
}

// AccessToken returns an access token for an audience, as the metadata service gives it.
func (a *Azure) AccessToken(audience string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := b64(random(32))
	a.access[token] = audience
	return token
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// unb64 reads base64url with or without padding.
func unb64(v any) ([]byte, bool) {
	s, ok := v.(string)
	if !ok {
		return nil, false
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	return b, err == nil
}
