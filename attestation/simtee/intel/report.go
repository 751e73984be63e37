package intel

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Report is the body of an enclave's report (Intel SDM volume 3D, table "Layout of
// REPORT"). Its byte strings stand as they are, numbers in little-endian order,
// reserved bytes are zero.
type Report struct {
	CPUSVN       [16]byte
	MiscSelect   uint32
	ExtProductID [16]byte
	Attributes   uint64 // flags
	XFRM         uint64
	MRENCLAVE    [32]byte
	MRSIGNER     [32]byte
	ConfigID     [64]byte
	ProductID    uint16
	SVN          uint16
	ConfigSVN    uint16
	FamilyID     [16]byte
	ReportData   [64]byte
}

// Flags of an enclave's attributes.
const (
	AttributeInit         = 1 << 0
	AttributeDebug        = 1 << 1
	Attribute64Bit        = 1 << 2
	AttributeProvisionKey = 1 << 4
	AttributeKSS          = 1 << 7 // key separation and sharing: CONFIGID, CONFIGSVN and the extended IDs are in use
)

// ReportSize is the length of a report's body.
const ReportSize = 384

// Encode returns the report's 384 bytes.
func (r *Report) Encode() []byte {
	b := make([]byte, ReportSize)
	le := binary.LittleEndian
	copy(b[0:], r.CPUSVN[:])
	le.PutUint32(b[16:], r.MiscSelect)
	copy(b[32:], r.ExtProductID[:])
	le.PutUint64(b[48:], r.Attributes)
	le.PutUint64(b[56:], r.XFRM)
	copy(b[64:], r.MRENCLAVE[:])
	copy(b[128:], r.MRSIGNER[:])
	copy(b[192:], r.ConfigID[:])
	le.PutUint16(b[256:], r.ProductID)
	le.PutUint16(b[258:], r.SVN)
	le.PutUint16(b[260:], r.ConfigSVN)
	copy(b[304:], r.FamilyID[:])
	copy(b[320:], r.ReportData[:])
	return b
}

// Signer is MRSIGNER of enclaves in simulation, where nobody signs them.
var Signer = sha256.Sum256([]byte("passclave-simtee: an enclave that nobody signed"))

// Enclave returns the report of an ordinary enclave on this platform, as enclave.json
// describes it, with zero MRENCLAVE, CONFIGID and report data.
func (h *Hardware) Enclave() Report {
	return Report{
		CPUSVN: h.platform.CPUSVN, Attributes: AttributeInit | Attribute64Bit | AttributeKSS, XFRM: 0xe7,
		MRSIGNER: Signer, ProductID: 1, SVN: 1,
	}
}

// TDReport is the body of a TD's quote, version 1.0 ("Intel TDX DCAP Quote Generation
// Library and Quote Verification Library", section A.3.2). Its byte strings stand as
// they are, numbers in little-endian order.
type TDReport struct {
	TEETCBSVN      [16]byte
	MRSEAM         [48]byte
	MRSIGNERSEAM   [48]byte
	SEAMAttributes uint64
	Attributes     uint64
	XFAM           uint64
	MRTD           [48]byte
	MRCONFIGID     [48]byte
	MROWNER        [48]byte
	MROWNERCONFIG  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte
}

// Attributes of a TD.
const (
	TDDebug         = 1 << 0
	TDSEPTVEDisable = 1 << 28
)

// TDReportSize is the length of a TD quote's body.
const TDReportSize = 584

// Encode returns the body's 584 bytes.
func (r *TDReport) Encode() []byte {
	b := make([]byte, 0, TDReportSize)
	le := binary.LittleEndian
	b = append(b, r.TEETCBSVN[:]...)
	b = append(b, r.MRSEAM[:]...)
	b = append(b, r.MRSIGNERSEAM[:]...)
	b = le.AppendUint64(b, r.SEAMAttributes)
	b = le.AppendUint64(b, r.Attributes)
	b = le.AppendUint64(b, r.XFAM)
	for _, m := range [][48]byte{r.MRTD, r.MRCONFIGID, r.MROWNER, r.MROWNERCONFIG, r.RTMR[0], r.RTMR[1], r.RTMR[2], r.RTMR[3]} {
		b = append(b, m[:]...)
	}
	return append(b, r.ReportData[:]...)
}

// Module is MRSEAM of the simulated TDX module.
var Module = sha512.Sum384([]byte("passclave-simtee: a simulated TDX module"))

// moduleSVN is TEE_TCB_SVN: module SVN, module version, microcode.
var moduleSVN = [16]byte{5, 1, 7}

// TD returns the report of an ordinary TD on this platform, with zero MRTD, MRCONFIGID,
// RTMRs and report data.
func (h *Hardware) TD() TDReport {
	return TDReport{TEETCBSVN: moduleSVN, MRSEAM: Module, Attributes: TDSEPTVEDisable, XFAM: 0x61ae7}
}
