package intel

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
)

// TCBInfo is the statement about a platform's TCB levels, version 3 (Intel PCS API,
// version 4, "Get TCB Info"). Numbers in hex are strings; members stand in Intel's order.
type TCBInfo struct {
	ID                      string           `json:"id"` // "TDX" or "SGX"
	Version                 int              `json:"version"`
	IssueDate               time.Time        `json:"issueDate"`
	NextUpdate              time.Time        `json:"nextUpdate"`
	FMSPC                   string           `json:"fmspc"`
	PCEID                   string           `json:"pceId"`
	TCBType                 int              `json:"tcbType"`
	TCBEvaluationDataNumber int              `json:"tcbEvaluationDataNumber"`
	TDXModule               *TDXModule       `json:"tdxModule,omitempty"`
	TDXModuleIdentities     []ModuleIdentity `json:"tdxModuleIdentities,omitempty"`
	TCBLevels               []TCBLevel       `json:"tcbLevels"`
}

// TDXModule says which TDX modules are Intel's.
type TDXModule struct {
	MRSigner       string `json:"mrsigner"`
	Attributes     string `json:"attributes"`
	AttributesMask string `json:"attributesMask"`
}

// ModuleIdentity is [TDXModule] for one major version of the module.
type ModuleIdentity struct {
	ID string `json:"id"` // "TDX_" and two hex digits, the module's version
	TDXModule
	TCBLevels []TCBLevel `json:"tcbLevels"`
}

// TCBLevel is one level, of a platform, a module or a quoting enclave.
type TCBLevel struct {
	TCB         TCB       `json:"tcb"`
	TCBDate     time.Time `json:"tcbDate"`
	TCBStatus   string    `json:"tcbStatus"`
	AdvisoryIDs []string  `json:"advisoryIDs,omitempty"`
}

// TCB has the components of a platform, or the SVN of a module or quoting enclave.
type TCB struct {
	SGXComponents []Component `json:"sgxtcbcomponents,omitempty"`
	PCESVN        *uint16     `json:"pcesvn,omitempty"`
	TDXComponents []Component `json:"tdxtcbcomponents,omitempty"`
	ISVSVN        *uint16     `json:"isvsvn,omitempty"`
}

// Component is one component's security version number.
type Component struct {
	SVN      uint8  `json:"svn"`
	Category string `json:"category,omitempty"`
	Type     string `json:"type,omitempty"`
}

// evaluation is tcbEvaluationDataNumber of all simulated statements.
const evaluation = 17

// The dates of the simulated TCB recoveries.
var (
	tcbDate = time.Date(2024, 3, 13, 0, 0, 0, 0, time.UTC)
	oldDate = time.Date(2023, 2, 15, 0, 0, 0, 0, time.UTC)
)

// Lifetime of TCB info, identities and the PCKs' revocation list, as Intel has it.
const collateralLife = 30 * 24 * time.Hour

// Statuses in Intel's words, as far as the simulation uses them itself.
const (
	UpToDate  = "UpToDate"
	OutOfDate = "OutOfDate"
)

// TCBInfo returns the statement for a platform of Intel's, in which this hardware is
// up to date, and one step behind is not.
func (h *Hardware) TCBInfo(p attestation.Platform, now time.Time) TCBInfo {
	issued := now.UTC().Truncate(time.Second).Add(-backdated)
	i := TCBInfo{
		ID: strings.ToUpper(string(p)), Version: 3, IssueDate: issued, NextUpdate: issued.Add(collateralLife),
		FMSPC: upper(h.platform.FMSPC[:]), PCEID: upper(h.platform.PCEID[:]),
		TCBEvaluationDataNumber: evaluation,
	}
	current := TCB{SGXComponents: sgxComponents(components), PCESVN: new(uint16(pceSVN))}
	older := components
	older[0]--
	old := TCB{SGXComponents: sgxComponents(older), PCESVN: new(uint16(pceSVN - 2))}
	if p == attestation.PlatformTDX {
		i.TDXModule = &TDXModule{strings.Repeat("0", 96), strings.Repeat("0", 16), strings.Repeat("F", 16)}
		i.TDXModuleIdentities = []ModuleIdentity{{"TDX_01", *i.TDXModule, []TCBLevel{
			{TCB{ISVSVN: new(uint16(moduleSVN[0]))}, tcbDate, UpToDate, nil},
			{TCB{ISVSVN: new(uint16(moduleSVN[0] - 1))}, oldDate, OutOfDate, []string{"INTEL-SA-01036"}},
		}}}
		current.TDXComponents, old.TDXComponents = tdxComponents(), tdxComponents()
	}
	i.TCBLevels = []TCBLevel{
		{current, tcbDate, UpToDate, nil},
		{old, oldDate, OutOfDate, []string{"INTEL-SA-00960", "INTEL-SA-00982"}},
	}
	return i
}

// sgxComponents names the components as Intel does for this family.
func sgxComponents(svns [16]byte) []Component {
	list := make([]Component, 16)
	copy(list, []Component{
		{0, "BIOS", "Early Microcode Update"}, {0, "OS/VMM", "SGX Late Microcode Update"}, {0, "OS/VMM", "TXT SINIT"},
		{0, "BIOS", ""}, {0, "BIOS", ""}, {0, "BIOS", ""}, {}, {0, "OS/VMM", "SEAMLDR ACM"},
	})
	for i, svn := range svns {
		list[i].SVN = svn
	}
	return list
}

// tdxComponents leaves the module's SVN and version to the module's identity.
func tdxComponents() []Component {
	list := make([]Component, 16)
	list[0] = Component{moduleSVN[0], "OS/VMM", "TDX Module"}
	list[1] = Component{0, "OS/VMM", "TDX Module"}
	list[2] = Component{moduleSVN[2], "OS/VMM", "TDX Late Microcode Update"}
	return list
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
