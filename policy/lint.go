package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// Level says how much a [LintFinding] matters.
type Level string

const (
	LevelWarning Level = "warning" // weaker than a policy for real use should be
	LevelNote    Level = "note"    // could be narrower; there are reasons not to
)

// LintFinding is one thing about a policy that its author should know.
type LintFinding struct {
	Field Field  `json:"field"`
	Of    string `json:"of,omitempty"` // the release or product it belongs to
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

// What a policy is measured by.
const (
	expiresSoon = 30 * 24 * time.Hour
	expiresLate = 2 * 365 * 24 * time.Hour

	aciFeed       = "ContainerPlat-AMD-UVM"
	aciMinimumSVN = 100 // what CCF demands of this feed at least
)

// Lint returns what is weak, or could be narrower, in a policy that [Parse] accepts,
// in the order of [Explain]. It says nothing of whether the policy's values are the
// right ones for any service.
func Lint(p *TrustPolicy, now time.Time) []LintFinding {
	l := linter{}
	for _, w := range p.waived() {
		l.warn(w.field, "", "%s waived: %s", w.where, w.reason)
	}
	if e := p.Expires; e.Waived == "" {
		switch left := e.Want.Sub(now); {
		case left <= 0:
			l.warn(FieldExpires, "", "the policy has ended: it refuses everything")
		case left < expiresSoon:
			l.warn(FieldExpires, "", "the policy ends in %d days: hand out its successor", int(left.Hours()/24))
		case left > expiresLate:
			l.note(FieldExpires, "", "the policy lasts until %s: a shorter one brings firmware floors up to date", e.Want.Format(time.DateOnly))
		}
	}
	if p.Simulation != nil {
		l.warn(FieldSimulation, "", "%d root(s) of SIMULATION: such evidence protects against nobody with access to the machine", len(p.Simulation.Roots))
	}
	for _, s := range p.AttestationServices {
		l.note(FieldServices, s.Issuer, "tokens are this service's word: chip, firmware and revocation are left to it")
		if s.Compliance == nil {
			l.warn(FieldServices, s.Issuer, "tokens of any compliance status, or none, are accepted")
		}
	}
	if p.SNP != nil {
		l.snp(p.SNP)
	}
	if p.Intel != nil {
		l.intel(p.Intel)
	}
	if t := p.TDX; t != nil && t.Attributes.Waived == "" && t.Attributes.Want.Allowed&tdxMigratable != 0 {
		l.warn(FieldTDXAttributes, "", "bit 29 is allowed: a migration TD may take the enclave, and read it")
	}
	for _, r := range p.Releases {
		l.release(p, r)
	}
	if slices.Contains(p.Ledger.Backends, wire.BackendLocal) {
		l.note(FieldBackends, "", "local: after a restart only devices can tell that the service shows old state")
	}
	a, least := p.MinimumArgon2id, ProductionArgon2id
	if a.Waived == "" && (a.Want.MemoryKiB < least.MemoryKiB || a.Want.Time < least.Time) {
		l.warn(FieldArgon2id, "", "%s is below %s: guessing PINs is cheap", a.Want, least)
	}
	return l.found
}

type linter struct{ found []LintFinding }

func (l *linter) warn(f Field, of, format string, args ...any) {
	l.found = append(l.found, LintFinding{f, of, LevelWarning, fmt.Sprintf(format, args...)})
}

func (l *linter) note(f Field, of, format string, args ...any) {
	l.found = append(l.found, LintFinding{f, of, LevelNote, fmt.Sprintf(format, args...)})
}

func (l *linter) snp(s *SNP) {
	for _, q := range s.Products {
		if q.MinimumTCB.Waived != "" {
			continue
		}
		if t := q.MinimumTCB.Want; t.SNP == 0 || t.Microcode == 0 {
			l.warn(FieldTCB, q.Name, "a floor of zero for SNP firmware or microcode accepts every known hole")
		}
	}
	if slices.Contains(s.signers(), attestation.SignerVLEK) {
		l.note(FieldSigners, "", "vlek: the key that signs is shared by a cloud's machines, and names no chip")
	}
	if s.ChipIDs == nil {
		l.note(FieldChipIDs, "", "every genuine chip of the product lines is accepted: name chips if the machines are your own")
	}
	if s.PlatformInfo == nil || s.PlatformInfo.Required&platformAlias == 0 {
		l.note(FieldPlatformInfo, "", "machines that never checked their memory for aliases (BadRAM) are accepted: require bit 0x20 where firmware is new enough")
	}
	if s.MaximumVMPL > 0 {
		l.note(FieldVMPL, "", "less privileged software of the guest than level 0 may ask for reports")
	}
}

func (l *linter) intel(i *Intel) {
	for _, s := range i.TCBStatus.Want {
		if !slices.Contains(goodStatus, s) {
			l.warn(FieldTCBStatus, "", "%s: firmware with known holes, or a setting that opens them, is accepted", s)
		}
	}
	if i.MinimumEvaluationNumber == 0 {
		l.warn(FieldEvaluation, "", "collateral of any age is accepted while it is in its time: an old one may not know of newer holes")
	}
	if i.FMSPCs == nil {
		l.note(FieldFMSPCs, "", "every genuine machine is accepted: name kinds of machines if they are your own")
	}
}

func (l *linter) release(p *TrustPolicy, r Release) {
	if u := r.UVM; u != nil && u.Feed == aciFeed && u.MinimumSVN < aciMinimumSVN {
		l.warn(FieldUVM, r.Name, "minimum_svn %d is below %d: old utility VMs of this feed have known holes", u.MinimumSVN, aciMinimumSVN)
	}
	if s := r.Signer; s != nil && s.MinimumSVN == 0 {
		l.warn(FieldSigner, r.Name, "minimum_svn 0: every build that was ever signed is accepted")
	}
	if r.Platform == attestation.PlatformSGX && r.Signer != nil {
		l.note(FieldSigner, r.Name, "whoever holds the signing key decides what runs")
	}
	if p.RuntimeData.Waived != "" {
		return
	}
	if r.Configuration.Waived != "" && r.HostData.Waived != "" {
		l.warn(FieldConfig, r.Name, "nothing binds the rules of the service: its operator chooses issuers and PIN limits")
	}
}
