package policy

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/passclave/passclave/attestation"
)

// SNP is what a policy demands of SEV-SNP alone. Lists that may be left out narrow
// where an enclave runs or who launched it; measurement and host data hold without.
type SNP struct {
	Products            []Product        `json:"products"`
	ReportSigners       []string         `json:"report_signers,omitzero"`       // attestation.SignerVCEK, SignerVLEK; nil: VCEK alone
	VLEKProviders       []string         `json:"vlek_providers,omitzero"`       // clouds whose VLEKs are accepted, as AMD's certificates name them; with "vlek" only
	ChipIDs             []Hex            `json:"chip_ids,omitzero"`             // 64 bytes each; nil: every genuine chip of Products
	IDKeyDigests        []Hex            `json:"id_key_digests,omitzero"`       // 48 bytes each; nil: whoever signed the ID block, if anybody
	AuthorKeyDigests    []Hex            `json:"author_key_digests,omitzero"`   // 48 bytes each; nil: as above
	FamilyIDs           []Hex            `json:"family_ids,omitzero"`           // 16 bytes each; nil: any
	ImageIDs            []Hex            `json:"image_ids,omitzero"`            // 16 bytes each; nil: any
	GuestPolicy         *Flags           `json:"guest_policy,omitempty"`        // of the launch, without the least ABI version, and the bits that debug, migration and smt judge; nil: any
	PlatformInfo        *Flags           `json:"platform_info,omitempty"`       // of the machine; nil: any
	RequiredMitigations Bits             `json:"required_mitigations,omitzero"` // bits of both mitigation vectors (report version 5)
	MinimumGuestSVN     uint32           `json:"minimum_guest_svn"`
	Migration           Rule[Permission] `json:"migration"` // Forbidden, or waived
	SMT                 Permission       `json:"smt"`
	MaximumVMPL         uint32           `json:"maximum_vmpl"` // 0 to 3; 0 is the most privileged
}

// Product is a product line of processors with the least firmware it must run.
// Security version numbers of two product lines cannot be compared.
type Product struct {
	Name       string                `json:"name"`        // "Milan", "Genoa", "Turin"
	MinimumTCB Rule[attestation.TCB] `json:"minimum_tcb"` // none of a report's four TCBs may lie under it
}

// hasFMC is the one product line whose TCB has a level of the FMC.
const hasFMC = "Turin"

// MarshalJSON implements [json.Marshaler]: the file has a Turin's "fmc" also where it is
// zero.
func (p Product) MarshalJSON() ([]byte, error) {
	type plain Product
	if t := p.MinimumTCB; p.Name == hasFMC && t.Waived == "" {
		type tcb struct {
			FMC uint8 `json:"fmc"`
			attestation.TCB
		}
		return json.Marshal(struct {
			plain
			MinimumTCB tcb `json:"minimum_tcb"`
		}{plain(p), tcb{t.Want.FMC, t.Want}})
	}
	return json.Marshal(plain(p))
}

// Intel is what a policy demands of a machine with TDX or SGX, by Intel's stapled
// collateral.
type Intel struct {
	TCBStatus               Rule[[]string] `json:"tcb_status"`                // Intel's words that are accepted; unknown is refused
	MinimumEvaluationNumber uint32         `json:"minimum_evaluation_number"` // tcbEvaluationDataNumber of the collateral
	FMSPCs                  []Hex          `json:"fmspcs,omitzero"`           // 6 bytes each; nil: every genuine machine
	Advisories              []string       `json:"advisories,omitzero"`       // the only ones that may apply, perhaps none; nil: any that TCBStatus lets through
}

// TDX is what a policy demands of a TD beside its measurements.
type TDX struct {
	MRSEAM           Rule[[]Hex] `json:"mrseam"`              // TDX modules, 48 bytes each
	MRSignerSEAM     Rule[Hex]   `json:"mrsignerseam"`        // 48 bytes; zero: Intel's own module
	MROwner          Rule[Hex]   `json:"mrowner"`             // 48 bytes
	MROwnerConfig    Rule[Hex]   `json:"mrownerconfig"`       // 48 bytes
	Attributes       Rule[Flags] `json:"attributes"`          // without bit 0, which "debug" judges
	XFAM             Rule[Flags] `json:"xfam"`                // extended features
	MinimumTEETCBSVN Rule[Hex]   `json:"minimum_tee_tcb_svn"` // 16 bytes, each of which is a floor
}

// SGX is what a policy demands of an enclave beside what it is.
type SGX struct {
	Attributes       Rule[Flags] `json:"attributes"` // without bit 1, which "debug" judges
	XFRM             Rule[Flags] `json:"xfrm"`
	MiscSelect       Rule[Flags] `json:"miscselect"`
	MinimumConfigSVN uint16      `json:"minimum_config_svn"`
}

// Flags bound a set of bits: all of Required must be set, and none outside Allowed.
type Flags struct {
	Required Bits `json:"required"`
	Allowed  Bits `json:"allowed"` // includes Required
}

// Bits is a number of 64 bits that the file carries as "0x" and hexadecimal digits.
type Bits uint64

func (b Bits) String() string { return fmt.Sprintf("%#x", uint64(b)) }

// MarshalText implements [encoding.TextMarshaler].
func (b Bits) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (f Flags) String() string { return f.Required.String() + " within " + f.Allowed.String() }

func (f Flags) accepts(v uint64) bool {
	return Bits(v)&f.Required == f.Required && Bits(v)&^f.Allowed == 0
}

// Bits that other fields judge: they stand in no rule.
const (
	tdxDebug Bits = 1 << 0
	sgxDebug Bits = 1 << 1

	policyElsewhere Bits = 0xffff | 1<<16 | 1<<18 | 1<<19 // least ABI version, a number; SMT; migration; debug (AMD 56860, table 10)
)

// Bits of SEV-SNP's PLATFORM_INFO (AMD 56860, table 24).
const (
	platformSMT   Bits = 1 << 0
	platformAlias Bits = 1 << 5 // memory was checked for aliases, as they stand in BadRAM

	// TSME, ECC memory, RAPL off, ciphertext hiding, alias check: none makes a machine weaker.
	platformGood = 1<<1 | 1<<2 | 1<<3 | 1<<4 | platformAlias
)

// Intel's words for a TCB's status (PCS v4, tcbStatus). "Revoked" is none that a
// policy can name.
var knownStatus = []string{
	"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
	"OutOfDate", "OutOfDateConfigurationNeeded",
}

var (
	knownProducts = []string{"Milan", "Genoa", "Turin"}
	knownSigners  = []string{attestation.SignerVCEK, attestation.SignerVLEK}
)

// signers are the kinds of keys that are accepted.
func (s *SNP) signers() []string {
	if s.ReportSigners == nil {
		return []string{attestation.SignerVCEK}
	}
	return s.ReportSigners
}

// atLeastEach reports whether no byte of v lies under that of floor.
func atLeastEach(v, floor []byte) bool {
	if len(v) != len(floor) {
		return false
	}
	for i := range v {
		if v[i] < floor[i] {
			return false
		}
	}
	return true
}

// Sizes of what a launch declares, in bytes.
var (
	measurementSize = map[attestation.Platform]int{attestation.PlatformSEVSNP: 48, attestation.PlatformTDX: 48, attestation.PlatformSGX: 32}
	hostDataSize    = map[attestation.Platform]int{attestation.PlatformSEVSNP: 32, attestation.PlatformTDX: 48, attestation.PlatformSGX: 64}
)

// pad fills a hash up with zeros to what a platform has for host data.
func pad(hash []byte, p attestation.Platform) Hex {
	return append(bytes.Clone(hash), make([]byte, max(0, hostDataSize[p]-len(hash)))...)
}
