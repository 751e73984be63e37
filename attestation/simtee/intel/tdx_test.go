package intel_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	pb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/verify"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

var founded = sync.OnceValues(func() (*intel.Hardware, error) { return intel.Found(now) })

func hardware(t *testing.T) *intel.Hardware {
	t.Helper()
	h, err := founded()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// service answers as Intel's does, from stapled collateral.
type service []attestation.Collateral

func (s service) Get(address string) (map[string][]string, []byte, error) {
	for _, a := range []struct{ part, name, header string }{
		{"/tdx/certification/v4/tcb?fmspc=00806f050000", intel.NameTCBInfo, "TCB-Info-Issuer-Chain"},
		{"/tdx/certification/v4/qe/identity", intel.NameIdentity, "SGX-Enclave-Identity-Issuer-Chain"},
		{"/sgx/certification/v4/pckcrl?ca=platform&encoding=der", intel.NamePCKCRL, "SGX-PCK-CRL-Issuer-Chain"},
		{"/IntelSGXRootCA.der", intel.NameRootCRL, "None"},
	} {
		if !strings.HasSuffix(address, a.part) {
			continue
		}
		for _, c := range s {
			if c.Name == a.name {
				var chain bytes.Buffer
				for _, der := range c.Issuer {
					pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
				}
				return map[string][]string{http.CanonicalHeaderKey(a.header): {url.QueryEscape(chain.String())}}, c.Data, nil
			}
		}
	}
	return nil, nil, fmt.Errorf("no such resource: %s", address)
}

// verifyTDX has go-tdx-guest verify a quote with all its collateral, at a time.
func verifyTDX(t *testing.T, h *intel.Hardware, quote []byte, collateral []attestation.Collateral, at time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate(intel.Root))
	return verify.RawTdxQuote(quote, &verify.Options{
		CheckRevocations: true, GetCollateral: true, Getter: service(collateral), TrustedRoots: roots,
		Now: &verify.TimeSet{PckCertChain: at, TcbInfo: at, QeIdentity: at, PckCrl: at, RootCaCrl: at},
	})
}

func tdQuote(t *testing.T, h *intel.Hardware, change func(*intel.TDReport)) []byte {
	t.Helper()
	r := h.TD()
	change(&r)
	quote, err := h.Sign(h.TDQuote(r))
	if err != nil {
		t.Fatal(err)
	}
	return quote
}

// What the simulation makes for TDX passes another's verifier: chain, quoting enclave,
// signature, TCB info, identity and revocation lists.
func TestTDX(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	quote := tdQuote(t, h, func(*intel.TDReport) {})
	collateral, err := h.Collateral(attestation.PlatformTDX, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now.Add(-time.Minute), now, now.AddDate(0, 0, 29)} {
		if err := verifyTDX(t, h, quote, collateral, at); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
	}
	if err := verifyTDX(t, h, quote, collateral, now.AddDate(0, 0, 31)); err == nil {
		t.Error("accepted with expired collateral")
	}
}

// Every member of a TD's report stands where the library reads it.
func TestTDReport(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	fill := func(b []byte, with byte) {
		for i := range b {
			b[i] = with
		}
	}
	quote := tdQuote(t, h, func(r *intel.TDReport) {
		fill(r.TEETCBSVN[:], 1)
		fill(r.MRSEAM[:], 2)
		fill(r.MRSIGNERSEAM[:], 3)
		r.SEAMAttributes, r.Attributes, r.XFAM = 0x0102030405060708, 0x1112131415161718, 0x2122232425262728
		fill(r.MRTD[:], 4)
		fill(r.MRCONFIGID[:], 5)
		fill(r.MROWNER[:], 6)
		fill(r.MROWNERCONFIG[:], 7)
		for i := range r.RTMR {
			fill(r.RTMR[i][:], byte(8+i))
		}
		fill(r.ReportData[:], 12)
	})
	parsed, err := abi.QuoteToProto(quote)
	if err != nil {
		t.Fatal(err)
	}
	q := parsed.(*pb.QuoteV4)
	b := q.GetTdQuoteBody()
	for name, c := range map[string]struct {
		got    []byte
		with   byte
		length int
	}{
		"TEE_TCB_SVN": {b.TeeTcbSvn, 1, 16}, "MRSEAM": {b.MrSeam, 2, 48}, "MRSIGNERSEAM": {b.MrSignerSeam, 3, 48},
		"MRTD": {b.MrTd, 4, 48}, "MRCONFIGID": {b.MrConfigId, 5, 48}, "MROWNER": {b.MrOwner, 6, 48},
		"MROWNERCONFIG": {b.MrOwnerConfig, 7, 48}, "RTMR0": {b.Rtmrs[0], 8, 48}, "RTMR1": {b.Rtmrs[1], 9, 48},
		"RTMR2": {b.Rtmrs[2], 10, 48}, "RTMR3": {b.Rtmrs[3], 11, 48}, "report data": {b.ReportData, 12, 64},
	} {
		if !bytes.Equal(c.got, bytes.Repeat([]byte{c.with}, c.length)) {
			t.Errorf("%s is %x", name, c.got)
		}
	}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"SEAMATTRIBUTES": {b.SeamAttributes, "\x08\x07\x06\x05\x04\x03\x02\x01"},
		"TDATTRIBUTES":   {b.TdAttributes, "\x18\x17\x16\x15\x14\x13\x12\x11"},
		"XFAM":           {b.Xfam, "\x28\x27\x26\x25\x24\x23\x22\x21"},
	} {
		if string(c.got) != c.want {
			t.Errorf("%s is %x", name, c.got)
		}
	}
	if len(q.ExtraBytes) != 0 {
		t.Errorf("%d bytes after the quote", len(q.ExtraBytes))
	}
}

// The extension of the PCK certificate says what the platform is, as another reads it.
func TestPCKExtension(t *testing.T) {
	t.Parallel()
	h := hardware(t)
	e, err := pcs.PckCertificateExtensions(h.Certificate(intel.PCK))
	if err != nil {
		t.Fatal(err)
	}
	p := h.Platform()
	if e.PPID != fmt.Sprintf("%x", p.PPID) || e.FMSPC != fmt.Sprintf("%x", p.FMSPC) || e.PCEID != fmt.Sprintf("%x", p.PCEID) ||
		e.TCB.PCESvn != p.PCESVN || !bytes.Equal(e.TCB.CPUSvn, p.CPUSVN[:]) || !bytes.Equal(e.TCB.CPUSvnComponents, p.Components[:]) {
		t.Errorf("%+v of %+v", e, p)
	}
}
