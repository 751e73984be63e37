package attestation

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// VerifySGX verifies SGX evidence as EGo makes it: the header of Open Enclave (16
// bytes: version 1, type 2, the quote's length as 64 bits, all little-endian; Open
// Enclave SDK, oe_report_header_t), then a DCAP quote of version 3. It is the
// hardware's half of [Genuine], for those who have a report but no bundle.
//
// collateral may be empty; what there is must hold ([CheckTCBInfo],
// [CheckQEIdentity], [CheckRevocation]), and without it the claims have no TCB
// status. Names that it does not know are passed over.
//
// It does not look into REPORTDATA, and does not judge: neither measurement nor
// signer, debug mode or TCB status. Enclaves with a family or an extended product ID
// are refused: no claim would show those.
func VerifySGX(report []byte, collateral []Collateral, roots Roots, now time.Time) (*Claims, error) {
	return (*Cache)(nil).VerifySGX(report, collateral, roots, now)
}

// VerifySGX is the function of that name; it remembers.
func (known *Cache) VerifySGX(report []byte, collateral []Collateral, roots Roots, now time.Time) (*Claims, error) {
	data, err := openEnclaveQuote(report)
	if err != nil {
		return nil, err
	}
	q, err := parseQuote(data, formatSGX)
	if err != nil {
		return nil, err
	}
	r := sgxReport(q.body)
	if !r.reservedZero() {
		return nil, refuse(CheckReport, errors.New("a reserved byte, or a family or extended product ID, is set: not supported yet"))
	}
	c, err := known.verifyQuote(q, formatSGX, collateral, roots, now)
	if err != nil {
		return nil, err
	}
	r = bytes.Clone(r) // claims outlive the bundle
	c.Platform = PlatformSGX
	c.Measurement, c.HostData, c.Debug = r.mrEnclave(), r.configID(), r.debug()
	copy(c.ReportData[:], r[sgxReportData:])
	c.SGX = &SGX{
		MRSigner: r.mrSigner(), ProductID: r.product(), SVN: r.svn(), ConfigSVN: binary.LittleEndian.Uint16(r[260:]),
		MiscSelect: binary.LittleEndian.Uint32(r[16:]), Attributes: r.attributes(), XFRM: binary.LittleEndian.Uint64(r[56:]), CPUSVN: r[:16],
	}
	return c, nil
}

// openEnclaveQuote takes the header of Open Enclave off.
func openEnclaveQuote(report []byte) ([]byte, error) {
	const size, version, remote = 16, 1, 2
	if len(report) < size {
		return nil, differ(CheckReport, "a report with the header of Open Enclave", fmt.Sprintf("%d bytes", len(report)))
	}
	if v := binary.LittleEndian.Uint32(report); v != version {
		return nil, differ(CheckReport, "version 1 in the header of Open Enclave", v)
	}
	if kind := binary.LittleEndian.Uint32(report[4:]); kind != remote {
		return nil, differ(CheckReport, "a remote SGX report: type 2 in the header of Open Enclave", kind)
	}
	if n := binary.LittleEndian.Uint64(report[8:]); n != uint64(len(report)-size) {
		return nil, differ(CheckReport, fmt.Sprintf("%d bytes by the header of Open Enclave", n), len(report)-size)
	}
	return report[size:], nil
}

// sgxReport is a REPORT body without its MAC (Intel SDM volume 3D, table 38-21), 384
// bytes: of an enclave, and of the quoting enclave in every quote.
type sgxReport []byte

const (
	sgxReportSize = 384
	sgxReportData = 320
)

func (r sgxReport) attributes() uint64 { return binary.LittleEndian.Uint64(r[48:]) }
func (r sgxReport) debug() bool        { return r.attributes()&2 != 0 }
func (r sgxReport) mrEnclave() []byte  { return r[64:96] }
func (r sgxReport) mrSigner() []byte   { return r[128:160] }
func (r sgxReport) configID() []byte   { return r[192:256] }
func (r sgxReport) product() uint16    { return binary.LittleEndian.Uint16(r[256:]) }
func (r sgxReport) svn() uint16        { return binary.LittleEndian.Uint16(r[258:]) }

// reservedZero reports whether what is reserved is zero, and so are ISVEXTPRODID (at
// 32) and ISVFAMILYID (at 304).
func (r sgxReport) reservedZero() bool {
	return zero(r[20:48]) && zero(r[96:128]) && zero(r[160:192]) && zero(r[262:320])
}
