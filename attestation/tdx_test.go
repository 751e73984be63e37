package attestation_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net/url"
	"runtime"
	"testing"
	"time"

	tdxtest "github.com/google/go-tdx-guest/testing"
	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/passclave/passclave/attestation"
)

// A real machine's quote, and Intel's collateral for its family, from the summer of 2023.
var realTime = time.Date(2023, 7, 1, 12, 0, 0, 0, time.UTC)

// realQuote leaves out the text that the library's authors have put behind it.
func realQuote() []byte {
	q := testdata.RawQuote
	return bytes.Clone(q[:bytes.LastIndex(q, []byte("-----END CERTIFICATE-----\n"))+26])
}

func realCollateral(t *testing.T) []attestation.Collateral {
	t.Helper()
	chain := func(header map[string][]string) (list [][]byte) {
		for _, values := range header {
			text, err := url.QueryUnescape(values[0])
			if err != nil {
				t.Fatal(err)
			}
			for rest := []byte(text); ; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					break
				}
				list = append(list, block.Bytes)
			}
		}
		return list
	}
	return []attestation.Collateral{
		{Name: "tcb-info", Data: testdata.TcbInfoBody, Issuer: chain(tdxtest.TcbInfoHeader)},
		{Name: "qe-identity", Data: testdata.QeIdentityBody, Issuer: chain(tdxtest.QeIdentityHeader)},
		{Name: "pck-crl", Data: testdata.PckCrlBody, Issuer: chain(tdxtest.PckCrlHeader)},
		{Name: "root-crl", Data: testdata.RootCrlBody},
	}
}

func TestRealTDX(t *testing.T) {
	t.Parallel()
	known := attestation.NewCache(64)
	collateral := realCollateral(t)
	for range 2 {
		c, err := known.VerifyTDX(realQuote(), collateral[1:], attestation.Roots{}, realTime)
		if err != nil {
			t.Fatal(err)
		}
		i := c.Intel
		if c.Simulated || c.Debug || c.Platform != attestation.PlatformTDX || i.TCBStatus != "" || !c.RevocationChecked ||
			!bytes.Equal(i.FMSPC, unhex("50806f000000")) || i.PCESVN != 11 {
			t.Errorf("%+v %+v", c, i)
		}
		if !bytes.HasPrefix(c.Measurement, unhex("6363b8043668a3ad")) || !bytes.HasPrefix(c.TDX.MRSEAM, unhex("2fd279c16164a93d")) ||
			!bytes.HasPrefix(c.ReportData[:], unhex("6c62dec1b8191749")) || c.TDX.Attributes != 1<<30 || c.TDX.XFAM != 0x61ae7 {
			t.Errorf("%+v", c.TDX)
		}
	}
	// Its TDX loader is older than anything that Intel's info of that time still lists.
	_, err := attestation.VerifyTDX(realQuote(), collateral, attestation.Roots{}, realTime)
	wantCheck(t, err, attestation.CheckTCBInfo)
	if _, err := attestation.VerifyTDX(realQuote(), nil, attestation.Roots{}, intelNow); err != nil {
		t.Errorf("years later, without collateral: %v", err)
	}
	_, err = attestation.VerifyTDX(realQuote(), collateral[1:], attestation.Roots{}, intelNow)
	wantCheck(t, err, attestation.CheckQEIdentity)
	_, err = attestation.VerifyTDX(testdata.RawQuote, nil, attestation.Roots{}, realTime)
	wantCheck(t, err, attestation.CheckReport) // text behind the quote

	step := 1
	if runtime.GOOS == "js" { // where P-256 is slow
		step = 37
	}
	for i := 0; i < 48+584; i += step {
		q := realQuote()
		q[i] ^= 1 << (i % 8)
		if _, err := attestation.VerifyTDX(q, nil, attestation.Roots{}, realTime); err == nil {
			t.Errorf("byte %#x: genuine", i)
		}
	}
	// Intel's words about another machine, and for a simulated one.
	m := newIntelMachine(t, true)
	m.pck.ExtraExtensions[0] = pckExtension(t, "50806f000000", "0000", 11, 5)
	_, err = m.verifyReport(m.report(t), realCollateral(t)[:1])
	wantCheck(t, err, attestation.CheckTCBInfo)
	_, err = m.verifyReport(m.report(t), realCollateral(t)[2:3])
	wantCheck(t, err, attestation.CheckRevocation)
}

func TestTDXReservedBytes(t *testing.T) {
	t.Parallel()
	for i := 8; i < 12; i++ {
		m := newIntelMachine(t, true)
		m.header[i] = 1
		_, err := m.verify(t)
		wantCheck(t, err, attestation.CheckReport)
	}
	for i := 112; i < 120; i++ { // SEAMATTRIBUTES
		m := newIntelMachine(t, true)
		m.body[i] = 1
		_, err := m.verify(t)
		wantCheck(t, err, attestation.CheckReport)
	}
	m := newIntelMachine(t, true)
	m.raw = func(q []byte) { q[48+584+4+128] = 5 } // a chain without the quoting enclave's report
	_, err := m.verify(t)
	wantCheck(t, err, attestation.CheckReport)
}

func TestGenuineTDX(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, true)
	b := bundleOf(t, m, attestation.PlatformTDX, 520)
	known := attestation.NewCache(64)
	for range 2 {
		c, err := known.Genuine(b, m.roots(), intelNow)
		if err != nil || c.RuntimeData == nil || c.Configuration == nil || c.Intel.TCBStatus != "UpToDate" {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if _, err := attestation.Genuine(b, m.roots(), intelNow); err != nil {
		t.Error(err)
	}
	b.Collateral[0].Data[50] ^= 1
	_, err := attestation.Genuine(b, m.roots(), intelNow)
	wantCheck(t, err, attestation.CheckTCBInfo)
}

// On Azure the paravisor, not the workload, stands in the TD report.
func TestAzureTDX(t *testing.T) {
	t.Parallel()
	runtimeData := []byte(`{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"AA"},{"kid":"HCLEkPub"}],"vm-configuration":{"secure-boot":true},"user-data":"00"}`)
	m := newIntelMachine(t, true)
	digest := attestation.ReportData(runtimeData)
	copy(m.body[520:], digest[:])
	b := &attestation.Bundle{Platform: attestation.PlatformTDX, Report: m.report(t), RuntimeData: runtimeData}
	_, err := attestation.Genuine(b, m.roots(), intelNow)
	wantCheck(t, err, attestation.CheckPlatform)

	b.Report = append([]byte("HCLA\x02\x00\x00\x00"), make([]byte, 2600)...) // what the virtual TPM holds
	_, err = attestation.Genuine(b, m.roots(), intelNow)
	wantCheck(t, err, attestation.CheckPlatform)
	for _, version := range []byte{0, 1} { // what is in there: a report that no quoting enclave has signed
		b.Report = append([]byte{0x81, 0, version, 0}, make([]byte, 1020)...)
		_, err = attestation.Genuine(b, m.roots(), intelNow)
		wantCheck(t, err, attestation.CheckReport)
		var e *attestation.Error
		if !errors.As(err, &e) || e.Expected != "a quote" {
			t.Errorf("not told apart: %v", err)
		}
	}
}

func FuzzVerifyTDX(f *testing.F) {
	m := newIntelMachine(f, true)
	report := m.report(f)
	if _, err := m.verifyReport(report, m.collateral(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(report)
	f.Add(report[:700])
	f.Add(realQuote())
	known := attestation.NewCache(64)
	f.Fuzz(func(t *testing.T, data []byte) {
		sameVerdict(t, m, known, data)
	})
}
