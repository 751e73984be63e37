package policy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// Version is the only version of the file's format.
const Version = 1

// TrustPolicy decides which genuine evidence is accepted. Its zero value refuses
// everything. [Parse] reads one, [TrustPolicy.Encode] writes it.
type TrustPolicy struct {
	Version             int                    `json:"version"` // Version
	Name                string                 `json:"name"`    // for people
	Expires             Rule[time.Time]        `json:"expires"` // UTC, whole seconds; refused from then on
	Platforms           []attestation.Platform `json:"platforms"`
	Simulation          *Simulation            `json:"simulation,omitempty"`          // nil: simulated evidence is refused
	AttestationServices []AttestationService   `json:"attestation_services,omitzero"` // nil: tokens are refused
	RuntimeData         Rule[Demand]           `json:"runtime_data,omitzero"`         // zero: Required
	Revocation          Rule[Demand]           `json:"revocation"`                    // Required, or waived

	*SNP         // with PlatformSEVSNP only; its members stand beside the others
	Intel *Intel `json:"intel,omitempty"` // with PlatformTDX or PlatformSGX only
	TDX   *TDX   `json:"tdx,omitempty"`   // with PlatformTDX only
	SGX   *SGX   `json:"sgx,omitempty"`   // with PlatformSGX only

	Releases        []Release        `json:"releases"` // one a platform, or two while an update lasts
	Ledger          Ledger           `json:"ledger"`
	Debug           Rule[Permission] `json:"debug"` // Forbidden, or waived
	MinimumArgon2id Rule[Argon2id]   `json:"minimum_argon2id"`
}

// Rule demands a value, or waives it for a reason. In JSON it is the value, or
// {"waived": "reason"}.
type Rule[T any] struct {
	Want   T
	Waived string // a word of a-z, 0-9 and "-"; empty: Want is demanded
}

// MarshalJSON implements [json.Marshaler].
func (r Rule[T]) MarshalJSON() ([]byte, error) {
	if r.Waived != "" {
		return json.Marshal(map[string]string{"waived": r.Waived})
	}
	return json.Marshal(r.Want)
}

// Require demands a value.
func Require[T any](v T) Rule[T] { return Rule[T]{Want: v} }

// Waive does without a value, and says why.
func Waive[T any](reason string) Rule[T] { return Rule[T]{Waived: reason} }

// Hex is a byte string that the file carries in lower-case hexadecimal.
type Hex []byte

func (h Hex) String() string { return hex.EncodeToString(h) }

// MarshalText implements [encoding.TextMarshaler].
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Simulation names the roots of simulated hardware that are accepted. Such evidence
// protects against nobody who can read the machine's memory.
type Simulation struct {
	Roots []Hex `json:"roots"` // SHA-256 of each root certificate's DER
}

// AttestationService is a service of Azure Attestation's kind whose word is taken
// for the evidence: what its tokens leave out (product line, kind of signing key,
// firmware status, revocation) is left to it.
type AttestationService struct {
	Issuer     string   `json:"issuer"`              // its endpoint, https://…, exactly as tokens name it
	Compliance []string `json:"compliance,omitzero"` // x-ms-compliance-status that is accepted; nil: any, or none
}

// Ledger names the one ledger that is accepted.
type Ledger struct {
	ID       Rule[Hex] `json:"id"`       // 32 bytes
	Genesis  Rule[Hex] `json:"genesis"`  // 32 bytes; zero for the local backend
	Number   uint64    `json:"number"`   // counts geneses from 1
	Backends []string  `json:"backends"` // wire.BackendLocal: it must be named to be accepted
}

// Permission is a word of the file.
type Permission string

const (
	Forbidden Permission = "forbidden"
	Allowed   Permission = "allowed"
)

// Demand is a word of the file, for what can only be demanded or waived.
type Demand string

const Required Demand = "required"

// Argon2id is the least cost of stretching a PIN (RFC 9106). Parallelism is not
// bounded: it changes who computes, not how much.
type Argon2id struct {
	MemoryKiB uint32 `json:"memory_kib"`
	Time      uint32 `json:"time"`
}

// ProductionArgon2id is what a policy demands where nothing speaks against it.
var ProductionArgon2id = Argon2id{MemoryKiB: 64 << 10, Time: 3}

// Encode returns the file in its canonical form: members in order, two spaces of
// indentation, one newline at the end. It does not check p.
func (p *TrustPolicy) Encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		panic(err) // only a time past the year 9999 cannot be written, and no file holds one
	}
	return b.Bytes()
}

// Collateral says what a bundle of the makers' hardware must bring along for p to accept
// it: revocation lists; Intel's TCB info and identity of the quoting enclave.
func (p *TrustPolicy) Collateral() (revocation, tcb bool) {
	if i := p.Intel; i != nil {
		tcb = i.TCBStatus.Waived == "" || i.MinimumEvaluationNumber > 0 || i.Advisories != nil
	}
	return p.Revocation.Waived == "", tcb
}

func (p *TrustPolicy) has(platforms ...attestation.Platform) bool {
	return slices.ContainsFunc(platforms, func(x attestation.Platform) bool { return slices.Contains(p.Platforms, x) })
}

// What this version can judge. Naming anything else in a policy is refused, so that
// it is never taken for a check.
var (
	knownPlatforms = []attestation.Platform{attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX}
	knownBackends  = []string{wire.BackendLocal, wire.BackendEndorsed, wire.BackendAzure}
)

func (a Argon2id) String() string { return fmt.Sprintf("%d KiB, t=%d", a.MemoryKiB, a.Time) }
