package policy

import (
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

func readPolicy(n node) *TrustPolicy {
	m := n.members([]string{
		"version", "name", "expires", "platforms", "products", "releases", "ledger", "minimum_guest_svn",
		"debug", "migration", "smt", "maximum_vmpl", "minimum_argon2id",
	}, []string{"simulation", "chip_ids"})
	p := &TrustPolicy{
		Version:         int(m["version"].number(31)),
		Name:            m["name"].text(),
		Expires:         rule(m["expires"], node.time),
		Platforms:       list(m["platforms"], readPlatform),
		Products:        list(m["products"], readProduct),
		Releases:        list(m["releases"], readRelease),
		Ledger:          readLedger(m["ledger"]),
		MinimumGuestSVN: uint32(m["minimum_guest_svn"].number(32)),
		Debug:           rule(m["debug"], readPermission),
		Migration:       rule(m["migration"], readPermission),
		SMT:             readPermission(m["smt"]),
		MaximumVMPL:     uint32(m["maximum_vmpl"].number(32)),
		MinimumArgon2id: rule(m["minimum_argon2id"], readArgon2id),
	}
	if n, ok := m["simulation"]; ok {
		p.Simulation = &Simulation{Roots: list(n.members([]string{"roots"}, nil)["roots"], node.hex)}
	}
	if n, ok := m["chip_ids"]; ok {
		if p.ChipIDs = list(n, node.hex); len(p.ChipIDs) == 0 {
			n.fail(ReasonValue, "must name a chip; without this member every genuine chip is accepted")
		}
	}
	return p
}

func readPlatform(n node) attestation.Platform { return attestation.Platform(n.text()) }
func readPermission(n node) Permission         { return Permission(n.text()) }

func readProduct(n node) Product {
	m := n.members([]string{"name", "minimum_tcb"}, nil)
	return Product{Name: m["name"].text(), MinimumTCB: rule(m["minimum_tcb"], readTCB)}
}

func readTCB(n node) attestation.TCB {
	m := n.members([]string{"bootloader", "tee", "snp", "microcode"}, nil)
	level := func(name string) uint8 { return uint8(m[name].number(8)) }
	return attestation.TCB{Bootloader: level("bootloader"), TEE: level("tee"), SNP: level("snp"), Microcode: level("microcode")}
}

func readRelease(n node) Release {
	m := n.members([]string{"name", "measurement", "configuration", "host_data"}, nil)
	return Release{
		Name:          m["name"].text(),
		Measurement:   rule(m["measurement"], node.hex),
		Configuration: rule(m["configuration"], node.hex),
		HostData:      rule(m["host_data"], node.text),
	}
}

func readLedger(n node) Ledger {
	m := n.members([]string{"id", "genesis", "number", "backends"}, nil)
	return Ledger{
		ID:       rule(m["id"], node.hex),
		Genesis:  m["genesis"].hex(),
		Number:   m["number"].number(64),
		Backends: list(m["backends"], node.text),
	}
}

func readArgon2id(n node) Argon2id {
	m := n.members([]string{"memory_kib", "time"}, nil)
	return Argon2id{MemoryKiB: uint32(m["memory_kib"].number(32)), Time: uint32(m["time"].number(32))}
}
