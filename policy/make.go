package policy

import (
	"bytes"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// ForDevelopment returns the policy of a service on one's own machine: simulated
// hardware under one root (SHA-256 of its certificate's DER), one configuration
// (SHA-256 of its file), one ledger. It demands what a simulation can show, its firmware
// too, and lasts 20 years, as the stack's own CA. The measurement alone is waived, as
// "development", so that a rebuilt enclave goes on.
func ForDevelopment(root, configuration wire.Digest, l wire.LedgerIdentity) *TrustPolicy {
	const reason = "development"
	return &TrustPolicy{
		Version:    Version,
		Name:       reason,
		Expires:    Require(time.Now().UTC().Truncate(time.Second).AddDate(20, 0, 0)),
		Platforms:  []attestation.Platform{attestation.PlatformSEVSNP},
		Simulation: &Simulation{Roots: []Hex{root[:]}},
		Products:   []Product{{Name: "Milan", MinimumTCB: Require(simulatedTCB)}},
		Releases: []Release{{
			Name:          reason,
			Measurement:   Waive[Hex](reason),
			Configuration: Require(Hex(configuration[:])),
			HostData:      Require(HostDataConfiguration),
		}},
		Ledger:          ledgerOf(l),
		Debug:           Require(Forbidden),
		Migration:       Require(Forbidden),
		SMT:             Allowed,
		MinimumArgon2id: Require(ProductionArgon2id),
	}
}

// simulatedTCB is the firmware that the simulated Milan chip says it has.
var simulatedTCB = attestation.TCB{Bootloader: 4, TEE: 0, SNP: 24, Microcode: 219}

func identity(l *attestation.Ledger) wire.LedgerIdentity {
	return wire.LedgerIdentity{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number}
}

func ledgerOf(l wire.LedgerIdentity) Ledger {
	return Ledger{ID: Require(Hex(l.ID)), Genesis: Hex(l.Genesis), Number: l.Number, Backends: []string{l.Backend}}
}

// FromEvidence returns the strictest policy for evidence that a person has decided
// to trust: its measurement, configuration and ledger, its firmware as the floor,
// and simulation only under its root. The expiry is waived as "unset", chips are
// not named: both are for the person to narrow.
//
// What is dangerous is not taken over: a policy made from evidence with debugging,
// with migration or with a cheap PIN, or without its configuration file, refuses
// that evidence, and says so. c must come from [attestation.Genuine].
func FromEvidence(c *attestation.Claims) *TrustPolicy {
	p := &TrustPolicy{
		Version:         Version,
		Name:            "from evidence",
		Expires:         Waive[time.Time]("unset"),
		Platforms:       []attestation.Platform{c.Platform},
		Products:        []Product{{Name: c.Product, MinimumTCB: Require(leastTCB(c))}},
		MinimumGuestSVN: c.GuestSVN,
		Debug:           Require(Forbidden),
		Migration:       Require(Forbidden),
		SMT:             Permission(permission(c.SMT)),
		MaximumVMPL:     min(c.VMPL, maxVMPL), // above it, the host asked for the report
		MinimumArgon2id: Require(ProductionArgon2id),
	}
	if c.Simulated {
		p.Simulation = &Simulation{Roots: []Hex{c.Root[:]}}
	}
	if c.Configuration != nil {
		p.Ledger = ledgerOf(c.Configuration.Ledger)
	} else if r := c.RuntimeData; r != nil && r.Ledger != nil {
		p.Ledger = ledgerOf(identity(r.Ledger))
	}
	r := Release{
		Name:          "from evidence",
		Measurement:   Require(Hex(c.Measurement)),
		Configuration: Require(Hex(c.ConfigurationHash[:])),
		HostData:      Require(Hex(c.HostData).String()),
	}
	if bytes.Equal(c.HostData, c.ConfigurationHash[:]) {
		r.HostData = Require(HostDataConfiguration)
	}
	p.Releases = []Release{r}
	return p
}

// Roots returns what [attestation.Genuine] is to be given: the roots of simulated
// hardware that the policy names, and no others. Evidence of another simulation is
// then not genuine; to explain it as refused instead, give Genuine its root.
func (p *TrustPolicy) Roots() attestation.Roots {
	var out attestation.Roots
	for _, h := range p.simulationRoots() {
		if len(h) == hashSize { // anything else is no whole policy, and accepts nothing
			out.Simulation = append(out.Simulation, wire.Digest(h))
		}
	}
	return out
}
