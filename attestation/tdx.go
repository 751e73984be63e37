package attestation

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/verify"
)

// VerifyTDX verifies a TDX quote of version 4 over a TD report 1.0 or 1.5 (Intel TDX
// DCAP Quoting Library API, appendix A.3), with the PCK certificate chain in it. It is
// the hardware's half of [Genuine], for those who have a quote but no bundle.
//
// collateral may be empty; what there is must hold ([CheckTCBInfo],
// [CheckQEIdentity], [CheckRevocation]), and without it the claims have no TCB
// status. Names that it does not know are passed over.
//
// It does not look into REPORTDATA, and does not judge: neither measurements nor debug
// mode or TCB status. A quote alone does not show whether a paravisor asked for it, as
// on Azure's TDX machines: [Genuine] refuses those, by their runtime data.
func VerifyTDX(quote []byte, collateral []Collateral, roots Roots, now time.Time) (*Claims, error) {
	return (*Cache)(nil).VerifyTDX(quote, collateral, roots, now)
}

func (known *Cache) verifyTDX(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	c, err := known.VerifyTDX(b.Report, b.Collateral, roots, now)
	if err != nil {
		return nil, err
	}
	if c.ReportData == ReportData(b.RuntimeData) && isHCL(b.RuntimeData) {
		return nil, refuse(CheckPlatform, errParavisor)
	}
	return c, nil
}

// VerifyTDX is the function of that name; it remembers.
func (known *Cache) VerifyTDX(data []byte, collateral []Collateral, roots Roots, now time.Time) (*Claims, error) {
	if err := checkIsQuote(data); err != nil {
		return nil, err
	}
	q, err := parseQuote(data, formatTDX)
	if err != nil {
		return nil, err
	}
	body := tdBody(q.body)
	// No claim shows it; only a TDX module in debug mode sets it.
	if !zero(body.seamAttributes()) {
		return nil, refuse(CheckReport, errors.New("SEAMATTRIBUTES are set"))
	}
	c, err := known.verifyQuote(q, formatTDX, collateral, roots, now)
	if err != nil {
		return nil, err
	}
	tdBody(bytes.Clone(body)).claim(c) // claims outlive the bundle
	return c, nil
}

// tdBody is the TD quote body 1.0, 584 bytes.
type tdBody []byte

func (b tdBody) teeTCBSVN() []byte      { return b[:16] }
func (b tdBody) mrSignerSEAM() []byte   { return b[64:112] }
func (b tdBody) seamAttributes() []byte { return b[112:120] }

// Bits of the TD attributes (Intel TDX Module ABI, ATTRIBUTES).
const (
	tdUnderDebug = 0xff // any of them: the TD is untrusted; only bit 0, DEBUG, is in use
	tdMigratable = 1 << 29
)

func (b tdBody) claim(c *Claims) {
	t := &TDX{
		TEETCBSVN: b.teeTCBSVN(), MRSEAM: b[16:64], MRSignerSEAM: b.mrSignerSEAM(),
		Attributes: binary.LittleEndian.Uint64(b[120:]), XFAM: binary.LittleEndian.Uint64(b[128:]),
		MROwner: b[232:280], MROwnerConfig: b[280:328],
	}
	for i := range t.RTMRs {
		t.RTMRs[i] = b[328+48*i:][:48]
	}
	c.Platform, c.TDX = PlatformTDX, t
	c.Measurement, c.HostData = b[136:184], b[184:232]
	c.Debug, c.Migration = t.Attributes&tdUnderDebug != 0, t.Attributes&tdMigratable != 0
	copy(c.ReportData[:], b[520:584])
}

var errParavisor = errors.New("this comes from a TDX machine of Azure: its TD report describes Microsoft's paravisor, " +
	"which speaks for the machine by a virtual TPM, and not what runs in it; that is not supported yet")

// checkIsQuote tells apart what people mistake for a quote.
func checkIsQuote(data []byte) error {
	const tdReport = 1024
	switch {
	case bytes.HasPrefix(data, []byte("HCLA")): // the header of the report in Azure's vTPM, NV index 0x01400001
		return refuse(CheckPlatform, errParavisor)
	case len(data) == tdReport && bytes.HasPrefix(data, []byte{0x81, 0, 0, 0}), len(data) == tdReport && bytes.HasPrefix(data, []byte{0x81, 0, 1, 0}):
		return differ(CheckReport, "a quote", "a TD report, which only the same machine can verify")
	}
	return nil
}

// isHCL reports whether runtime data is what Azure's paravisor binds in REPORTDATA: the
// keys of the virtual TPM that it runs.
func isHCL(runtimeData []byte) bool {
	var hcl struct {
		Keys []struct {
			KID string `json:"kid"`
		} `json:"keys"`
	}
	if json.Unmarshal(runtimeData, &hcl) != nil {
		return false
	}
	for _, k := range hcl.Keys {
		if strings.HasPrefix(k.KID, "HCL") {
			return true
		}
	}
	return false
}

// noNetwork is what go-tdx-guest would fetch collateral by. It is not asked to.
type noNetwork struct{}

func (noNetwork) Get(string) (map[string][]string, []byte, error) {
	return nil, nil, errors.New("verifying opens no connection")
}

// verifyByLibrary lets go-tdx-guest verify chain, quoting enclave and signature. Of
// collateral it knows only whether everything is up to date, and takes a TDX module's
// status for the whole platform's: that is not asked of it.
func (q *quote) verifyByLibrary(chain *pckChain, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AddCert(chain.root)
	return verify.RawTdxQuote(q.whole, &verify.Options{
		Getter:       noNetwork{},
		Now:          &verify.TimeSet{PckCertChain: now},
		TrustedRoots: roots,
	})
}
