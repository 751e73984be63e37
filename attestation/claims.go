package attestation

import (
	"time"

	"github.com/passclave/passclave/wire"
)

// Roots are the roots of trust that a verifier adds to the hardware makers' own,
// which are compiled in and always count. The zero value adds none.
type Roots struct {
	// Simulation holds the SHA-256 of simulation root certificates (DER). Evidence
	// that ends at one of them is genuine, with Claims.Simulated set: it was made by
	// who holds that root's key, and no hardware protects anything.
	Simulation []wire.Digest

	// AttestationServices are the services of Azure Attestation's kind whose tokens
	// are believed. Without any, every token is refused.
	AttestationServices []AttestationService
}

// AttestationService is who verified evidence in the verifier's stead.
type AttestationService struct {
	Issuer string // its endpoint, https://…, exactly as tokens name it
	Keys   []byte // its JSON Web Key Set, had from that very endpoint over TLS
}

// Claims are what genuine evidence says. Byte strings have the length that the
// platform gives them; those that a platform does not have are nil.
type Claims struct {
	Platform      Platform
	Simulated     bool        // the chain ends at a simulation root
	Root          wire.Digest // SHA-256 of the root certificate (DER)
	Time          time.Time   // what Genuine took for now
	ReportVersion uint32
	Product       string // SNP: "Milan", "Genoa", "Turin"; empty elsewhere
	Signer        string // SNP: SignerVCEK or SignerVLEK; empty elsewhere

	// The certificates were looked up in stapled revocation lists of the maker. False:
	// none came along, and nothing is known.
	RevocationChecked bool

	Measurement []byte   // SNP: launch digest, 48 bytes. TDX: MRTD, 48 bytes. SGX: MRENCLAVE, 32 bytes
	HostData    []byte   // declared by the host at launch, fixed since. SNP: HOST_DATA, 32 bytes. TDX: MRCONFIGID, 48 bytes. SGX: CONFIGID, 64 bytes
	ReportData  [64]byte // chosen by the guest

	Debug      bool // the host may read the guest's memory
	Migration  bool // the guest may move, by a migration agent
	SMT        bool // the guest may run beside another thread of its core
	SMTEnabled bool // SNP, PLATFORM_INFO: the machine has SMT on
	VMPL       uint32
	GuestSVN   uint32

	ReportedTCB  TCB // equal to the certificate's: the one that the signing key is derived from
	CommittedTCB TCB // the host cannot go back behind it
	CurrentTCB   TCB
	LaunchTCB    TCB

	ChipID          []byte // SNP: 64 bytes; nil with SignerVLEK, whose certificate vouches for no chip
	FamilyID        []byte // SNP: 16 bytes, from the ID block
	ImageID         []byte // SNP: 16 bytes, from the ID block
	IDKeyDigest     []byte // SNP: 48 bytes, SHA-384 of the key that signed the ID block
	AuthorKeyDigest []byte // SNP: 48 bytes

	SNP   *SNP   // nil elsewhere
	TDX   *TDX   // nil elsewhere
	SGX   *SGX   // nil elsewhere
	Intel *Intel // TDX and SGX; nil elsewhere
	UVM   *UVM   // nil: no endorsement of the launch measurement came along
	Token *Token // nil: the evidence itself was verified, not somebody's word for it

	SecurityPolicy []byte // what HOST_DATA is the SHA-256 of, where the bundle has it: ACI's CCE policy (Rego)

	RuntimeData       *RuntimeData
	ConfigurationHash wire.Digest         // as the runtime data has it
	Configuration     *wire.Configuration // nil where the bundle has none, or an endorser's
}

// Keys that sign SNP reports (AMD 56860, SIGNING_KEY).
const (
	SignerVCEK = "vcek" // one chip's own
	SignerVLEK = "vlek" // shared by the machines of one cloud: who reads it out of one of them speaks for all
)

// TCB holds the security patch levels of SNP's firmware (AMD 56860, TCB_VERSION).
type TCB struct {
	FMC        uint8 `json:"fmc,omitempty"` // Turin; 0 elsewhere
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// AtLeast reports whether no part of t lies under that of least.
func (t TCB) AtLeast(least TCB) bool {
	return t.FMC >= least.FMC && t.Bootloader >= least.Bootloader && t.TEE >= least.TEE && t.SNP >= least.SNP && t.Microcode >= least.Microcode
}

// SNP is what a SEV-SNP report says beside what all platforms have (AMD 56860,
// ATTESTATION_REPORT). Numbers are little-endian in the report.
type SNP struct {
	Policy            uint64 // guest policy; Claims.Debug, Migration and SMT are bits of it
	PlatformInfo      uint64 // PLATFORM_INFO; bit 0 is Claims.SMTEnabled
	ReportID          []byte // 32 bytes
	ReportIDMA        []byte // of the migration agent, 32 bytes; all ones without one
	AuthorKey         bool   // AuthorKeyDigest is of a key that signed the ID key
	Current           Firmware
	Committed         Firmware
	LaunchMitigation  uint64 // LAUNCH_MIT_VECTOR, version 5
	CurrentMitigation uint64 // CURRENT_MIT_VECTOR, version 5
	CSP               string // the cloud whose VLEK it is, as AMD knows it; empty with SignerVCEK
}

// Firmware is a version of SNP's firmware.
type Firmware struct{ Major, Minor, Build uint8 }

// TDX is what a TD report says beside what all platforms have (Intel TDX Module
// Base Architecture Specification, TDREPORT; quote version 4, TD quote body 1.0).
type TDX struct {
	RTMRs         [4][]byte // run-time measurement registers, 48 bytes each
	MRSEAM        []byte    // the TDX module, 48 bytes
	MRSignerSEAM  []byte    // 48 bytes; zero for Intel's own modules
	MROwner       []byte    // 48 bytes
	MROwnerConfig []byte    // 48 bytes
	Attributes    uint64    // TD attributes, little-endian as in the report; any of bits 0 to 7 is Claims.Debug, bit 29 Claims.Migration
	XFAM          uint64    // extended features that the TD may use
	TEETCBSVN     []byte    // security version numbers of TDX module and SEAM loader, 16 bytes
}

// SGX is what an enclave's report says beside what all platforms have (Intel SDM
// volume 3D, REPORT).
type SGX struct {
	MRSigner   []byte // SHA-256 of the key that signed the enclave, 32 bytes
	ProductID  uint16 // ISVPRODID, by the signer
	SVN        uint16 // ISVSVN, by the signer
	ConfigSVN  uint16
	MiscSelect uint32
	Attributes uint64 // flags; bit 1 is Claims.Debug
	XFRM       uint64
	CPUSVN     []byte // 16 bytes
}

// Intel is what Intel's certificates and collateral say about the machine.
type Intel struct {
	FMSPC  []byte // family, model, stepping, platform, custom SKU: 6 bytes
	PCESVN uint16 // of the PCK certificate

	// Of stapled collateral. The zero values mean that none came along: nothing is
	// known then about the platform's firmware.
	TCBStatus        string    // of platform and quoting enclave together, the worse one, in Intel's words: "UpToDate", …
	TCBDate          time.Time // of the TCB level that the platform has reached
	Advisories       []string  // Intel's security advisories that apply, sorted
	EvaluationNumber uint32    // tcbEvaluationDataNumber, the least of the collateral's
}

// UVM is an endorsement of a launch measurement: ACI's reference info.
type UVM struct {
	Issuer string    // did:x509
	Feed   string    // "ContainerPlat-AMD-UVM"
	SVN    uint64    // guest SVN that its payload names
	Signed time.Time // its own signing time, at which its certificates were valid
}

// Token is the word of an attestation service, where it stands for the evidence.
type Token struct {
	Issuer     string
	Compliance string // x-ms-compliance-status; empty where it has none
	Expires    time.Time
}
