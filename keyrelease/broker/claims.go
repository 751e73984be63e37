package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// Platforms, by Azure Attestation's names.
const (
	typeSNP = "sevsnpvm"
	typeTDX = "tdxvm"
	typeSGX = "sgx"
)

// Claims of a token, by Azure Attestation's names; those with passclave are ours.
const (
	claimType          = "x-ms-attestation-type"
	claimReport        = "x-ms-sevsnpvm-reportid"
	claimChip          = "x-passclave-chip"
	claimDebuggable    = "x-ms-sevsnpvm-is-debuggable"
	claimMigration     = "x-ms-sevsnpvm-migration-allowed"
	claimVLEK          = "x-passclave-vlek" // a cloud's key has signed the report, which any of its machines may have
	claimTDXDebuggable = "tdx_td_attributes_debug"
	claimTDXMigration  = "x-passclave-tdx-migration-allowed"
	claimSGXDebuggable = "x-ms-sgx-is-debuggable"
	claimSimulated     = "x-passclave-simulated"
)

// neverOpen are the claims, by platform, that a policy has to name before it releases
// where they are true.
var neverOpen = map[string][]string{
	typeSNP: {claimDebuggable, claimMigration, claimVLEK, claimSimulated},
	typeTDX: {claimTDXDebuggable, claimTDXMigration, claimSimulated},
	typeSGX: {claimSGXDebuggable, claimSimulated},
}

// measured are the claims, by platform, that say what runs there: measurement and host data.
var measured = map[string][2]string{
	typeSNP: {"x-ms-sevsnpvm-launchmeasurement", "x-ms-sevsnpvm-hostdata"},
	typeTDX: {"tdx_mrtd", "tdx_mrconfigid"},
	typeSGX: {"x-ms-sgx-mrenclave", "x-ms-sgx-config-id"},
}

// tokenClaims is what the payload of every token has. Hex is lower case.
type tokenClaims struct {
	Issuer    string      `json:"iss"`
	IssuedAt  int64       `json:"iat"`
	NotBefore int64       `json:"nbf"`
	Expires   int64       `json:"exp"`
	ID        string      `json:"jti"`
	Nonce     azure.Nonce `json:"nonce,omitempty"`

	Version         string          `json:"x-ms-ver"`
	Type            string          `json:"x-ms-attestation-type"`
	Runtime         json.RawMessage `json:"x-ms-runtime"`
	Simulated       bool            `json:"x-passclave-simulated"`
	RootCertificate string          `json:"x-passclave-root"`               // SHA-256 of the root's DER
	Revocation      bool            `json:"x-passclave-revocation-checked"` // by the maker's lists, which revoke none of its certificates
}

// platformClaims is a whole payload: of the three, the platform's is there.
type platformClaims struct {
	tokenClaims
	*snpClaims
	*tdxClaims
	*sgxClaims
}

// snpClaims are SEV-SNP's. The SVNs are those of [leastTCB].
type snpClaims struct {
	HostData      string `json:"x-ms-sevsnpvm-hostdata"`
	Measurement   string `json:"x-ms-sevsnpvm-launchmeasurement"`
	ReportData    string `json:"x-ms-sevsnpvm-reportdata"`
	Debuggable    bool   `json:"x-ms-sevsnpvm-is-debuggable"`
	Migration     bool   `json:"x-ms-sevsnpvm-migration-allowed"`
	SMT           bool   `json:"x-ms-sevsnpvm-smt-allowed"`
	VMPL          uint32 `json:"x-ms-sevsnpvm-vmpl"`
	GuestSVN      uint32 `json:"x-ms-sevsnpvm-guestsvn"`
	BootloaderSVN uint8  `json:"x-ms-sevsnpvm-bootloader-svn"`
	TEESVN        uint8  `json:"x-ms-sevsnpvm-tee-svn"`
	FirmwareSVN   uint8  `json:"x-ms-sevsnpvm-snpfw-svn"`
	MicrocodeSVN  uint8  `json:"x-ms-sevsnpvm-microcode-svn"`
	VLEK          bool   `json:"x-passclave-vlek"`
	ReportID      string `json:"x-ms-sevsnpvm-reportid"`
	Chip          string `json:"x-passclave-chip,omitempty"` // SHA-256 of CHIP_ID, where the certificate is a chip's
}

// tdxClaims are TDX's (Azure Attestation EAT profile for TDX). Numbers of the quote are
// hex of their bytes there, so in little-endian order.
type tdxClaims struct {
	MRTD          string `json:"tdx_mrtd"`
	RTMR0         string `json:"tdx_rtmr0"`
	RTMR1         string `json:"tdx_rtmr1"`
	RTMR2         string `json:"tdx_rtmr2"`
	RTMR3         string `json:"tdx_rtmr3"`
	MRConfigID    string `json:"tdx_mrconfigid"`
	MROwner       string `json:"tdx_mrowner"`
	MROwnerConfig string `json:"tdx_mrownerconfig"`
	MRSEAM        string `json:"tdx_mrseam"`
	MRSignerSEAM  string `json:"tdx_mrsignerseam"`
	TEETCBSVN     string `json:"tdx_tee_tcb_svn"`
	XFAM          string `json:"tdx_xfam"`
	Attributes    string `json:"tdx_td_attributes"`
	ReportDataTDX string `json:"tdx_report_data"`
	DebuggableTDX bool   `json:"tdx_td_attributes_debug"`
	MigrationTDX  bool   `json:"x-passclave-tdx-migration-allowed"`
	StatusTDX     string `json:"attester_tcb_status,omitempty"` // in Intel's words; missing: nobody knows
}

// sgxClaims are SGX's.
type sgxClaims struct {
	MREnclave     string `json:"x-ms-sgx-mrenclave"`
	MRSigner      string `json:"x-ms-sgx-mrsigner"`
	ProductID     uint16 `json:"x-ms-sgx-product-id"`
	SVN           uint16 `json:"x-ms-sgx-svn"`
	ConfigID      string `json:"x-ms-sgx-config-id"`
	ConfigSVN     uint16 `json:"x-ms-sgx-config-svn"`
	ReportDataSGX string `json:"x-ms-sgx-report-data"`
	DebuggableSGX bool   `json:"x-ms-sgx-is-debuggable"`
	StatusSGX     string `json:"x-passclave-tcb-status,omitempty"` // as TDX's; Azure has no such claim
}

// Claims returns the claims that a token of a broker has for genuine evidence and its runtime
// data (nil: none), but for the token's own: issuer, times, ID.
func Claims(c *attestation.Claims, runtimeData []byte) (releasepolicy.Claims, error) {
	say := claimsOf(c)
	say.Runtime = runtimeData
	payload, err := json.Marshal(say)
	if err != nil {
		return releasepolicy.Claims{}, err
	}
	return releasepolicy.ParseClaims(payload)
}

// claimsOf returns what a token says of genuine evidence, but for its runtime data.
func claimsOf(c *attestation.Claims) platformClaims {
	say := platformClaims{tokenClaims: tokenClaims{Simulated: c.Simulated, Revocation: c.RevocationChecked, RootCertificate: hex.EncodeToString(c.Root[:])}}
	switch c.Platform {
	case attestation.PlatformTDX:
		say.Type, say.tdxClaims = typeTDX, tdxClaimsOf(c)
	case attestation.PlatformSGX:
		say.Type, say.sgxClaims = typeSGX, sgxClaimsOf(c)
	default:
		say.Type, say.snpClaims = typeSNP, snpClaimsOf(c)
	}
	return say
}

func snpClaimsOf(c *attestation.Claims) *snpClaims {
	least := leastTCB(c)
	chip := ""
	if len(c.ChipID) > 0 {
		sum := sha256.Sum256(c.ChipID)
		chip = hex.EncodeToString(sum[:])
	}
	return &snpClaims{
		HostData:      hex.EncodeToString(c.HostData),
		Measurement:   hex.EncodeToString(c.Measurement),
		ReportData:    hex.EncodeToString(c.ReportData[:]),
		Debuggable:    c.Debug,
		Migration:     c.Migration,
		SMT:           c.SMT,
		VMPL:          c.VMPL,
		GuestSVN:      c.GuestSVN,
		BootloaderSVN: least.Bootloader,
		TEESVN:        least.TEE,
		FirmwareSVN:   least.SNP,
		MicrocodeSVN:  least.Microcode,
		VLEK:          c.Signer == attestation.SignerVLEK,
		ReportID:      hex.EncodeToString(c.SNP.ReportID),
		Chip:          chip,
	}
}

func tdxClaimsOf(c *attestation.Claims) *tdxClaims {
	d := c.TDX
	return &tdxClaims{
		MRTD:          hex.EncodeToString(c.Measurement),
		RTMR0:         hex.EncodeToString(d.RTMRs[0]),
		RTMR1:         hex.EncodeToString(d.RTMRs[1]),
		RTMR2:         hex.EncodeToString(d.RTMRs[2]),
		RTMR3:         hex.EncodeToString(d.RTMRs[3]),
		MRConfigID:    hex.EncodeToString(c.HostData),
		MROwner:       hex.EncodeToString(d.MROwner),
		MROwnerConfig: hex.EncodeToString(d.MROwnerConfig),
		MRSEAM:        hex.EncodeToString(d.MRSEAM),
		MRSignerSEAM:  hex.EncodeToString(d.MRSignerSEAM),
		TEETCBSVN:     hex.EncodeToString(d.TEETCBSVN),
		XFAM:          hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, d.XFAM)),
		Attributes:    hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, d.Attributes)),
		ReportDataTDX: hex.EncodeToString(c.ReportData[:]),
		DebuggableTDX: c.Debug,
		MigrationTDX:  c.Migration,
		StatusTDX:     c.Intel.TCBStatus,
	}
}

func sgxClaimsOf(c *attestation.Claims) *sgxClaims {
	return &sgxClaims{
		MREnclave:     hex.EncodeToString(c.Measurement),
		MRSigner:      hex.EncodeToString(c.SGX.MRSigner),
		ProductID:     c.SGX.ProductID,
		SVN:           c.SGX.SVN,
		ConfigID:      hex.EncodeToString(c.HostData),
		ConfigSVN:     c.SGX.ConfigSVN,
		ReportDataSGX: hex.EncodeToString(c.ReportData[:]),
		DebuggableSGX: c.Debug,
		StatusSGX:     c.Intel.TCBStatus,
	}
}
