package broker

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
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

// testCA is one certificate authority for all tests of the package.
var testCA = sync.OnceValue(func() (ca struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pem         string
}) {
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		panic(err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, ca.key.Public(), ca.key)
	if err != nil {
		panic(err)
	}
	if ca.certificate, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	ca.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return ca
})

var testRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func issueCertificate(t testing.TB, key crypto.Signer, host string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, testCA().certificate, key.Public(), testCA().key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var serverCertificate = sync.OnceValue(func() tls.Certificate { return issueCertificate(&testing.T{}, testRSA(), "127.0.0.1") })

// safeBuffer is a log that several requests write to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// harness is a broker on a real TLS listener, over the file store.
type harness struct {
	*Broker
	url     string
	store   *file.Store
	dir     string
	log     safeBuffer
	handler atomic.Pointer[http.Handler]
	config  Config
	http    *http.Client
}

const keyName = "passclave-kek"

func newHarness(t testing.TB, change ...func(*Config)) *harness {
	t.Helper()
	h := &harness{dir: t.TempDir()}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*h.handler.Load()).ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{serverCertificate()}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&h.log, nil), slog.LevelInfo)
	h.url = "https://" + server.Listener.Addr().String()
	var err error
	if h.store, err = file.Open(h.dir); err != nil {
		t.Fatal(err)
	}
	trail, err := audit.Open(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	h.config = Config{
		URL: h.url, Roots: simulationRoots(t), Store: h.store, Certificate: serverCertificate(), Audit: trail,
		Log: slog.New(slog.NewTextHandler(&h.log, nil)), Rate: 1e6, Burst: 1e6,
	}
	for _, f := range change {
		f(&h.config)
	}
	h.restart(t)
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(testCA().certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	h.http = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return h
}

// restart puts a new broker, with a new token key, behind the same address.
func (h *harness) restart(t testing.TB) {
	t.Helper()
	b, err := New(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.Broker = b
	var handler http.Handler = b
	h.handler.Store(&handler)
}

// records are what the audit log holds, but for starts.
func (h *harness) records(t testing.TB) (out []*audit.Record) {
	t.Helper()
	_, _, err := audit.VerifyFile(h.dir, h.config.Audit.PublicKey(), nil, func(r *audit.Record) error {
		if r.Kind != audit.KindStart {
			out = append(out, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// good is what the enclave of the tests is, and what policies ask for.
var good = guest{measurement: 0x11, hostData: 0x22}

// strict is a policy for good and nothing else.
func (h *harness) strict() []byte {
	return releasepolicy.Require(h.url, map[string]any{
		"x-ms-attestation-type":           "sevsnpvm",
		"x-ms-sevsnpvm-launchmeasurement": hex.EncodeToString(bytes.Repeat([]byte{good.measurement}, 48)),
		"x-ms-sevsnpvm-hostdata":          hex.EncodeToString(bytes.Repeat([]byte{good.hostData}, 32)),
		"x-ms-sevsnpvm-is-debuggable":     "false",
		"x-ms-sevsnpvm-vmpl":              0,
		"x-ms-runtime.purpose":            "release",
		"x-passclave-simulated":           true,
	})
}

func (h *harness) create(t testing.TB, policy []byte) string {
	t.Helper()
	v, err := h.store.Create(context.Background(), keyName, policy, false)
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// client is an enclave's client for the guest.
func (h *harness) client(g guest) *keyrelease.Client {
	return &keyrelease.Client{
		Service: wire.KeyService{Attestation: h.url, Vault: h.url, Key: keyName, Roots: testCA().pem},
		Config:  wire.Digest(bytes.Repeat([]byte{g.hostData}, 32)),
		Evidence: func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return g.evidence(runtimeData), nil
		},
		RSA: func() (*rsa.PrivateKey, error) { return enclaveRSA(), nil },
	}
}

// enclaveRSA is the key that the tests' enclave has wrapped to.
var enclaveRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// leaks reports whether text holds a secret in one of the encodings in use.
func leaks(text, secret []byte) bool {
	for _, s := range [][]byte{
		secret,
		[]byte(hex.EncodeToString(secret)),
		[]byte(base64.RawStdEncoding.EncodeToString(secret)),
		[]byte(base64.RawURLEncoding.EncodeToString(secret)),
	} {
		if bytes.Contains(bytes.ToLower(text), bytes.ToLower(s)) {
			return true
		}
	}
	return false
}
