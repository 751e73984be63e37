package policy

import (
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// ForDevelopment returns the policy of a service on one's own machine: simulated
// hardware under one root (SHA-256 of its certificate's DER), one configuration
// (SHA-256 of its file), one ledger. It demands what a simulation can show, its firmware
// too, and lasts 20 years, as the stack's own CA. The measurement is waived as
// "development", so that a rebuilt enclave goes on, and so is what nobody chooses for
// the simulated hardware: TDX's module, firmware and attributes, SGX's attributes.
// Without platforms it is SEV-SNP's.
func ForDevelopment(root, configuration wire.Digest, l wire.LedgerIdentity, platforms ...attestation.Platform) *TrustPolicy {
	const reason = "development"
	if len(platforms) == 0 {
		platforms = []attestation.Platform{attestation.PlatformSEVSNP}
	}
	p := &TrustPolicy{
		Version:         Version,
		Name:            reason,
		Expires:         Require(time.Now().UTC().Truncate(time.Second).AddDate(20, 0, 0)),
		Platforms:       platforms,
		Simulation:      &Simulation{Roots: []Hex{root[:]}},
		Revocation:      Require(Required),
		Ledger:          ledgerOf(l),
		Debug:           Require(Forbidden),
		MinimumArgon2id: Require(ProductionArgon2id),
	}
	for i, platform := range platforms {
		r := Release{
			Name:          reason,
			Platform:      platform,
			Measurement:   Waive[Hex](reason),
			Configuration: Require(Hex(configuration[:])),
			HostData:      Require(HostDataConfiguration),
		}
		if i > 0 {
			r.Name += " " + string(platform)
		}
		switch platform {
		case attestation.PlatformSEVSNP:
			p.SNP = &SNP{Migration: Require(Forbidden), SMT: Allowed}
			p.Products = []Product{{Name: "Milan", MinimumTCB: Require(simulatedTCB)}}
		case attestation.PlatformTDX:
			for range rtmrs {
				r.RTMRs = append(r.RTMRs, Waive[Hex](reason))
			}
			p.TDX = &TDX{
				MRSEAM: Waive[[]Hex](reason), MRSignerSEAM: Waive[Hex](reason), MROwner: Waive[Hex](reason), MROwnerConfig: Waive[Hex](reason),
				Attributes: Waive[Flags](reason), XFAM: Waive[Flags](reason), MinimumTEETCBSVN: Waive[Hex](reason),
			}
		case attestation.PlatformSGX:
			p.SGX = &SGX{Attributes: Waive[Flags](reason), XFRM: Waive[Flags](reason), MiscSelect: Waive[Flags](reason)}
		}
		p.Releases = append(p.Releases, r)
	}
	if p.has(attestation.PlatformTDX, attestation.PlatformSGX) {
		p.Intel = &Intel{TCBStatus: Require([]string{"UpToDate"})}
	}
	return p
}

// simulatedTCB is the firmware that the simulated Milan chip says it has.
var simulatedTCB = attestation.TCB{Bootloader: 4, TEE: 0, SNP: 24, Microcode: 219}

func identity(l *attestation.Ledger) wire.LedgerIdentity {
	return wire.LedgerIdentity{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number}
}

func ledgerOf(l wire.LedgerIdentity) Ledger {
	return Ledger{ID: Require(Hex(l.ID)), Genesis: Require(Hex(l.Genesis)), Number: l.Number, Backends: []string{l.Backend}}
}

// Roots returns what [attestation.Genuine] is to be given: the roots of simulated
// hardware that the policy names, and no others. Evidence of another simulation is
// then not genuine; to explain it as refused instead, give Genuine its root. The
// keys of attestation services are the caller's to fetch.
func (p *TrustPolicy) Roots() attestation.Roots {
	var out attestation.Roots
	for _, h := range p.simulationRoots() {
		if len(h) == hashSize { // anything else is no whole policy, and accepts nothing
			out.Simulation = append(out.Simulation, wire.Digest(h))
		}
	}
	return out
}
