package policy

import (
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// ForDevelopment returns the policy of a service on one's own machine: simulated
// hardware under one root (SHA-256 of its certificate's DER), one configuration
// (SHA-256 of its file), one ledger. Measurement, firmware, revocation and expiry
// are waived as "development", so that a rebuilt enclave goes on. Without platforms
// it is SEV-SNP's.
func ForDevelopment(root, configuration wire.Digest, l wire.LedgerIdentity, platforms ...attestation.Platform) *TrustPolicy {
	const reason = "development"
	if len(platforms) == 0 {
		platforms = []attestation.Platform{attestation.PlatformSEVSNP}
	}
	p := &TrustPolicy{
		Version:         Version,
		Name:            reason,
		Expires:         Waive[time.Time](reason),
		Platforms:       platforms,
		Simulation:      &Simulation{Roots: []Hex{root[:]}},
		Revocation:      Waive[Demand](reason),
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
			for _, name := range knownProducts {
				p.Products = append(p.Products, Product{Name: name, MinimumTCB: Waive[attestation.TCB](reason)})
			}
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
		p.Intel = &Intel{TCBStatus: Waive[[]string](reason)}
	}
	return p
}

func identity(l *attestation.Ledger) wire.LedgerIdentity {
	return wire.LedgerIdentity{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number}
}

func ledgerOf(l wire.LedgerIdentity) Ledger {
	return Ledger{ID: Require(Hex(l.ID)), Genesis: Hex(l.Genesis), Number: l.Number, Backends: []string{l.Backend}}
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
