package policy

import (
	"slices"
	"strconv"

	"github.com/passclave/passclave/attestation"
)

// Reason is the stable name of why a file is no trust policy.
type Reason string

const (
	ReasonSize      Reason = "size"      // the file is too large
	ReasonSyntax    Reason = "syntax"    // not one JSON value in UTF-8
	ReasonDuplicate Reason = "duplicate" // a member stands twice
	ReasonUnknown   Reason = "unknown"   // a member that this version does not know
	ReasonMissing   Reason = "missing"   // a member that must be there
	ReasonValue     Reason = "value"     // a member with a value that it cannot have
)

// Error says why a trust policy is none.
type Error struct {
	Member string // its path, such as releases[0].measurement; empty: the whole
	Reason Reason
	Detail string // for people; may be empty
}

func (e *Error) Error() string {
	s := "trust policy: "
	switch {
	case e.Member != "" && isPrintable(e.Member):
		s += e.Member + ": "
	case e.Member != "":
		s += strconv.Quote(e.Member) + ": "
	}
	switch e.Reason {
	case ReasonDuplicate:
		s += "stands twice"
	case ReasonUnknown:
		s += "unknown member"
	case ReasonMissing:
		s += "missing; a policy waives by name, never by leaving out"
	case ReasonSize:
		s += "too large: "
	}
	return s + e.Detail
}

// Is makes errors.Is(err, &Error{Member: m, Reason: r}) ask for these two alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Member == e.Member && t.Reason == e.Reason
}

// Parse reads a trust policy. Spacing and the order of members are free, as people
// edit the file. Members that are unknown (also by case alone), stand twice or are
// missing, and values outside their range are refused with an [*Error], at any
// depth. What is accepted encodes and parses again to the same policy.
//
// It does not check whether the policy has expired ([Accept] does), is wise
// ([Warnings] names what is waived), or comes from somebody to be trusted.
func Parse(data []byte) (*TrustPolicy, error) {
	v, problem := readJSON(data)
	if problem != nil {
		return nil, problem
	}
	p := readPolicy(node{&problem, "", v})
	if problem == nil {
		problem = p.check()
	}
	if problem != nil {
		return nil, problem
	}
	return p, nil
}

// Members of the file. What must be there, and what may be left out because that is
// the strict side, or narrows only.
var (
	commonMembers   = []string{"version", "name", "expires", "platforms", "revocation", "releases", "ledger", "debug", "minimum_argon2id"}
	optionalMembers = []string{"simulation", "attestation_services", "runtime_data"}
	sectionMembers  = []string{"intel", "tdx", "sgx"} // check says when they must be there
	snpMembers      = []string{"products", "minimum_guest_svn", "migration", "smt", "maximum_vmpl"}
	snpOptional     = []string{"report_signers", "vlek_providers", "guest_policy", "platform_info", "required_mitigations", "chip_ids", "id_key_digests", "author_key_digests", "family_ids", "image_ids"}
)

func readPolicy(n node) *TrustPolicy {
	required := commonMembers
	if readsSNP(n) {
		required = slices.Concat(commonMembers, snpMembers)
	}
	m := n.members(required, slices.Concat(optionalMembers, sectionMembers, snpMembers, snpOptional))
	p := &TrustPolicy{
		Version:         int(m["version"].number(31)),
		Name:            m["name"].text(),
		Expires:         rule(m["expires"], node.time),
		Platforms:       list(m["platforms"], readPlatform),
		Revocation:      rule(m["revocation"], readDemand),
		Releases:        list(m["releases"], readRelease),
		Ledger:          readLedger(m["ledger"]),
		Debug:           rule(m["debug"], readPermission),
		MinimumArgon2id: rule(m["minimum_argon2id"], readArgon2id),
	}
	if n, ok := m["simulation"]; ok {
		p.Simulation = &Simulation{Roots: list(n.members([]string{"roots"}, nil)["roots"], node.hex)}
	}
	if n, ok := m["attestation_services"]; ok {
		p.AttestationServices = narrowing(n, readAttestationService)
	}
	if n, ok := m["runtime_data"]; ok {
		p.RuntimeData = rule(n, readDemand)
	}
	for _, name := range slices.Concat(snpMembers, snpOptional) {
		if _, ok := m[name]; ok && p.SNP == nil {
			p.SNP = readSNP(m)
		}
	}
	if n, ok := m["intel"]; ok {
		p.Intel = readIntel(n)
	}
	if n, ok := m["tdx"]; ok {
		p.TDX = readTDX(n)
	}
	if n, ok := m["sgx"]; ok {
		p.SGX = readSGX(n)
	}
	return p
}

// readsSNP looks ahead whether the policy names SEV-SNP.
func readsSNP(n node) bool {
	o, _ := n.v.(map[string]any)
	platforms, _ := o["platforms"].([]any)
	return slices.Contains(platforms, any(string(attestation.PlatformSEVSNP)))
}

// narrowing reads a list that may be left out but not be empty: an empty one would
// look like nothing and be taken for anything.
func narrowing[T any](n node, read func(node) T) []T {
	l := list(n, read)
	if len(l) == 0 {
		n.fail(ReasonValue, "must name something, or be left out")
	}
	return l
}

func readDemand(n node) Demand { return Demand(n.text()) }

func readAttestationService(n node) AttestationService {
	m := n.members([]string{"issuer"}, []string{"compliance"})
	s := AttestationService{Issuer: m["issuer"].text()}
	if n, ok := m["compliance"]; ok {
		s.Compliance = narrowing(n, node.text)
	}
	return s
}

func readPlatform(n node) attestation.Platform { return attestation.Platform(n.text()) }
func readPermission(n node) Permission         { return Permission(n.text()) }

func readLedger(n node) Ledger {
	m := n.members([]string{"id", "genesis", "number", "backends"}, nil)
	return Ledger{
		ID:       rule(m["id"], node.hex),
		Genesis:  rule(m["genesis"], node.hex),
		Number:   m["number"].number(64),
		Backends: list(m["backends"], node.text),
	}
}

func readArgon2id(n node) Argon2id {
	m := n.members([]string{"memory_kib", "time"}, nil)
	return Argon2id{MemoryKiB: uint32(m["memory_kib"].number(32)), Time: uint32(m["time"].number(32))}
}
