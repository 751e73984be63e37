package policy

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
	"github.com/passclave/passclave/wire"
)

// Warning is something that a person should know although the evidence is genuine,
// and perhaps accepted.
type Warning struct {
	Field Field  `json:"field"`
	Text  string `json:"text"`
}

func (w Warning) String() string { return w.Text }

// Warnings names what is simulated, what the policy waives, what is dangerous in
// the evidence and what is weak in the policy, in the order of [Explain]. Either
// may be nil. It decides nothing; [Lint] says more of the policy alone.
func Warnings(c *attestation.Claims, p *TrustPolicy) []Warning {
	var out []Warning
	warn := func(f Field, format string, args ...any) {
		out = append(out, Warning{f, fmt.Sprintf(format, args...)})
	}
	if c != nil && c.Simulated {
		warn(FieldSimulation, "SIMULATION: this evidence protects against nobody with access to the machine")
	}
	if c != nil && c.Token != nil {
		warn(FieldServices, "TOKEN: the hardware's evidence was not looked at here; this is the word of %s", c.Token.Issuer)
	}
	if p != nil {
		for _, w := range p.waived() {
			warn(w.field, "%s waived: %s", w.where, w.reason)
		}
	}
	if c != nil && c.Intel != nil && c.Intel.TCBStatus == "Revoked" {
		warn(FieldTCBStatus, "REVOKED: Intel has withdrawn the trust in this machine's firmware")
	}
	if c != nil && isCCE(c) {
		for _, d := range aci.Dangers(c.SecurityPolicy) {
			warn(FieldHostData, "SECURITY POLICY: %s", d)
		}
	}
	if c != nil && c.Debug {
		warn(FieldDebug, "DEBUG: the host can read and write this enclave's memory")
	}
	if c != nil && (c.Migration || c.TDX != nil && Bits(c.TDX.Attributes)&tdxMigratable != 0) {
		warn(FieldMigration, "MIGRATION: an agent may take this enclave, and read it")
	}
	if p == nil {
		return out
	}
	if slices.Contains(p.Ledger.Backends, wire.BackendLocal) {
		warn(FieldBackends, "freshness local: after a restart only your devices can tell that the service shows old state")
	}
	a, least := p.MinimumArgon2id, ProductionArgon2id
	if a.Waived == "" && (a.Want.MemoryKiB < least.MemoryKiB || a.Want.Time < least.Time) {
		warn(FieldArgon2id, "minimum_argon2id of %s is below %s", a.Want, least)
	}
	return out
}

// isCCE reports whether the security policy is one of Azure Container Instances: other
// platforms put other texts there, such as initdata.
func isCCE(c *attestation.Claims) bool {
	return len(c.SecurityPolicy) > 0 && (c.UVM != nil || bytes.Contains(c.SecurityPolicy, []byte("package policy")))
}

type waiver struct {
	field         Field
	where, reason string
}

// waived lists what the policy waives, in the order of [Explain].
func (p *TrustPolicy) waived() []waiver {
	var out []waiver
	add := func(f Field, of, reason string) {
		if reason != "" {
			out = append(out, waiver{f, string(f) + of, reason})
		}
	}
	add(FieldExpires, "", p.Expires.Waived)
	add(FieldRuntimeData, "", p.RuntimeData.Waived)
	add(FieldRevocation, "", p.Revocation.Waived)
	if s := p.SNP; s != nil {
		for _, q := range s.Products {
			add(FieldTCB, " of "+q.Name, q.MinimumTCB.Waived)
		}
		add(FieldMigration, "", s.Migration.Waived)
	}
	if i := p.Intel; i != nil {
		add(FieldTCBStatus, "", i.TCBStatus.Waived)
	}
	if t := p.TDX; t != nil {
		add(FieldMRSEAM, "", t.MRSEAM.Waived)
		add(FieldMRSignerSEAM, "", t.MRSignerSEAM.Waived)
		add(FieldMROwner, "", t.MROwner.Waived)
		add(FieldMROwnerConfig, "", t.MROwnerConfig.Waived)
		add(FieldTDXAttributes, "", t.Attributes.Waived)
		add(FieldXFAM, "", t.XFAM.Waived)
		add(FieldTEETCBSVN, "", t.MinimumTEETCBSVN.Waived)
	}
	if s := p.SGX; s != nil {
		add(FieldSGXAttributes, "", s.Attributes.Waived)
		add(FieldXFRM, "", s.XFRM.Waived)
		add(FieldMiscSelect, "", s.MiscSelect.Waived)
	}
	for _, r := range p.Releases {
		of := ""
		if len(p.Releases) > 1 {
			of = " of " + r.Name
		}
		add(FieldMeasurement, of, r.Measurement.Waived)
		for i, m := range r.RTMRs {
			add(fieldRTMR[i], of, m.Waived)
		}
		add(FieldConfig, of, r.Configuration.Waived)
		add(FieldHostData, of, r.HostData.Waived)
	}
	add(FieldLedgerID, "", p.Ledger.ID.Waived)
	add(FieldLedgerOrigin, "", p.Ledger.Genesis.Waived)
	add(FieldDebug, "", p.Debug.Waived)
	add(FieldArgon2id, "", p.MinimumArgon2id.Waived)
	return out
}
