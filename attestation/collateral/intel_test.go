package collateral

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	tdxtest "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/passclave/passclave/attestation"
)

// A real machine's quote, and what Intel's service answered, from the summer of 2023.
var realTime = time.Date(2023, 7, 1, 12, 0, 0, 0, time.UTC)

func realQuote() *attestation.Bundle {
	q := testdata.RawQuote
	// The library's authors have put text behind it.
	return &attestation.Bundle{Platform: attestation.PlatformTDX, Report: bytes.Clone(q[:bytes.LastIndex(q, []byte("-----END CERTIFICATE-----\n"))+26])}
}

// pcs is Intel's service on loopback.
type pcs struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	bodies map[string][]byte
}

func servePCS(t *testing.T) *pcs {
	p := &pcs{bodies: map[string][]byte{
		"/tdx/certification/v4/tcb?fmspc=50806f000000":           testdata.TcbInfoBody,
		"/tdx/certification/v4/qe/identity":                      testdata.QeIdentityBody,
		"/sgx/certification/v4/pckcrl?ca=platform&encoding=der":  testdata.PckCrlBody,
		"/sgx/certification/v4/pckcrl?ca=processor&encoding=der": testdata.PckCrlBody,
		"/IntelSGXRootCA.der":                                    testdata.RootCrlBody,
	}}
	headers := map[string]map[string][]string{
		"/tdx/certification/v4/tcb": tdxtest.TcbInfoHeader, "/tdx/certification/v4/qe/identity": tdxtest.QeIdentityHeader,
		"/sgx/certification/v4/pckcrl": tdxtest.PckCrlHeader,
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked = append(p.asked, r.URL.RequestURI())
		for name, values := range headers[r.URL.Path] {
			w.Header().Set(name, values[0])
		}
		body, ok := p.bodies[r.URL.RequestURI()]
		if !ok {
			w.Header().Set("Request-ID", "intel-1")
			w.WriteHeader(http.StatusNotFound)
		}
		w.Write(body)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pcs) source() IntelSource { return IntelSource{p.URL, p.URL + "/IntelSGXRootCA.der"} }

func real2023(o Options) *Completer {
	o.Now = func() time.Time { return realTime }
	return quick(o)
}

func TestIntelRevocation(t *testing.T) {
	t.Parallel()
	p := servePCS(t)
	store := Memory()
	c := real2023(Options{Intel: []IntelSource{p.source()}, Revocation: true, Store: store})
	for range 2 {
		b := realQuote()
		if err := c.Complete(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		claims, err := attestation.Hardware(b, attestation.Roots{}, realTime)
		if err != nil || !claims.RevocationChecked || len(b.Collateral) != 2 {
			t.Fatalf("%+v, %v", claims, err)
		}
	}
	if len(p.asked) != 2 {
		t.Errorf("asked %v", p.asked)
	}
	for name := range store.(*memory).held {
		store.Put(name, []byte("noise"))
	}
	if err := c.Complete(t.Context(), realQuote()); err != nil || len(p.asked) != 4 {
		t.Errorf("%v after %v", err, p.asked)
	}
	// A list of another authority, and one that is too old, are not used.
	p.bodies["/sgx/certification/v4/pckcrl?ca=platform&encoding=der"] = testdata.RootCrlBody
	empty := Memory()
	err := real2023(Options{Intel: []IntelSource{p.source()}, Revocation: true, Store: empty}).Complete(t.Context(), realQuote())
	wantCheck(t, err, attestation.CheckRevocation)
	if n := len(empty.(*memory).held); n != 0 {
		t.Errorf("%d things stored", n)
	}
	late := quick(Options{Intel: []IntelSource{p.source()}, Revocation: true, Now: func() time.Time { return realTime.AddDate(1, 0, 0) }})
	wantCheck(t, late.Complete(t.Context(), realQuote()), attestation.CheckRevocation)
}

func TestIntelTCB(t *testing.T) {
	t.Parallel()
	p := servePCS(t)
	b := realQuote()
	c := real2023(Options{Intel: []IntelSource{p.source()}, TCB: true})
	claims, err := c.hardware(b)
	if err != nil {
		t.Fatal(err)
	}
	items := c.intelItems(b, claims, pckCA(b.Report))
	identity, err := c.intelCollateral(t.Context(), b, nil, items[1])
	if err != nil || !bytes.Equal(identity.Data, testdata.QeIdentityBody) || len(identity.Issuer) != 2 {
		t.Fatalf("%+v, %v", identity, err)
	}
	// Stapled, it is not asked for. What holds no more is replaced, what nobody asked for stays.
	if x, err := real2023(Options{}).intelCollateral(t.Context(), b, []attestation.Collateral{*identity}, items[1]); err != nil || x.Name != "qe-identity" {
		t.Error(err)
	}
	info, err := p.source().get(t.Context(), c.fetch, items[0])
	if err != nil || !bytes.Equal(info.Data, testdata.TcbInfoBody) || len(info.Issuer) != 2 {
		t.Fatalf("%v, %v", info, err)
	}
	// The sample is of another platform than the quote: it is not used.
	err = c.Complete(t.Context(), b)
	wantCheck(t, err, attestation.CheckTCBInfo)
	if b.Collateral != nil {
		t.Error("an error changed the bundle")
	}
	delete(p.bodies, "/tdx/certification/v4/tcb?fmspc=50806f000000")
	e := (*Error)(nil)
	if err := c.Complete(t.Context(), b); !errors.As(err, &e) || e.Status != http.StatusNotFound || e.RequestID != "intel-1" {
		t.Errorf("%v", err)
	}
	if err := real2023(Options{TCB: true}).Complete(t.Context(), b); !errors.Is(err, ErrNoSource) {
		t.Errorf("nobody to ask: %v", err)
	}
	if err := real2023(Options{}).Complete(t.Context(), b); err != nil || b.Collateral != nil {
		t.Errorf("nothing asked for: %v", err)
	}
}

// Issuers that are no certificates are an answer's fault.
func TestIntelIssuers(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{"none": "", "not encoded": "%zz", "noise": "noise"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("TCB-Info-Issuer-Chain", header) }))
		item := intelItem{name: "tcb-info", header: "TCB-Info-Issuer-Chain", address: func(s IntelSource) string { return s.Base }}
		if _, err := (IntelSource{Base: s.URL}).get(t.Context(), testFetcher(), item); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}

func TestPCKCA(t *testing.T) {
	t.Parallel()
	for want, quote := range map[string][]byte{"platform": realQuote().Report} {
		if got := pckCA(quote); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for _, quote := range [][]byte{nil, []byte("-----BEGIN CERTIFICATE-----"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")} {
		if got := pckCA(quote); got != "platform" {
			t.Errorf("%q: %s", quote, got)
		}
	}
}

func FuzzStored(f *testing.F) {
	f.Add([]byte{0xa2, 1, 0x61, 'a', 2, 0x41, 1})
	if x, err := decodeCollateral([]byte{0xa2, 1, 0x61, 'a', 2, 0x41, 1}); err != nil || x.Name != "a" {
		f.Fatal(x, err)
	}
	f.Fuzz(func(t *testing.T, data []byte) { decodeCollateral(data) })
}
