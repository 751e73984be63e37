package policy

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// release compares with each release of the platform and keeps the findings of the
// one that is refused least: the first, where several are. Where the platform has
// none it is refused already, and any release shows by how much.
func (j *judgement) release() {
	candidates := slices.DeleteFunc(slices.Clone(j.p.Releases), func(r Release) bool { return r.Platform != j.c.Platform })
	if len(candidates) == 0 {
		candidates = j.p.Releases
	}
	var best []Finding
	for _, r := range candidates {
		f := j.against(r)
		if best == nil || countRefused(f) < countRefused(best) {
			best = f
		}
	}
	j.findings = append(j.findings, best...)
}

func (j *judgement) against(r Release) []Finding {
	c, config := j.c, Hex(j.c.ConfigurationHash[:])
	findings := []Finding{j.identity(r)}
	for i, m := range r.RTMRs {
		var actual Hex
		if c.TDX != nil {
			actual = c.TDX.RTMRs[i]
		}
		findings = append(findings, finding(fieldRTMR[i], m.Waived, c.TDX != nil && bytes.Equal(actual, m.Want), m.Want.String(), orNone(actual.String())))
	}
	shown := config.String()
	switch {
	case c.RuntimeData == nil && c.ConfigurationHash == (wire.Digest{}):
		shown = none
	case c.Configuration == nil: // nobody can tell what the hash stands for
		shown += ", without the file"
	}
	hostData, bound := r.HostData.Want, true
	if hostData == HostDataConfiguration {
		hostData, bound = pad(config, c.Platform).String(), c.RuntimeData != nil
		if !bound { // there is no hash to compare with, least of all zeros
			hostData = "the configuration's hash"
		}
	}
	findings = append(findings,
		finding(FieldConfig, firstOf(r.Configuration.Waived, j.unbound()),
			c.Configuration != nil && bytes.Equal(config, r.Configuration.Want), r.Configuration.Want.String(), shown),
		finding(FieldHostData, r.HostData.Waived,
			bound && Hex(c.HostData).String() == hostData, hostData, orNone(Hex(c.HostData).String())))
	for i := range findings {
		findings[i].Release = r.Name
	}
	return findings
}

// identity judges what the enclave is: by its measurement, or by who vouches for it.
func (j *judgement) identity(r Release) Finding {
	c, actual, ok := j.c, none, false
	switch r.identity() {
	case FieldUVM:
		// Genuine has compared the endorsement's measurement with the report's.
		if u := c.UVM; u != nil {
			actual = fmt.Sprintf("endorsed by %s, feed %s, SVN %d", u.Issuer, u.Feed, u.SVN)
			ok = u.Issuer == r.UVM.Issuer && u.Feed == r.UVM.Feed && u.SVN >= r.UVM.MinimumSVN
		}
		return finding(FieldUVM, "", ok, r.UVM.String(), actual)
	case FieldSigner:
		if s := c.SGX; s != nil {
			actual = fmt.Sprintf("signed by %s, product %d, SVN %d", Hex(s.MRSigner), s.ProductID, s.SVN)
			ok = bytes.Equal(s.MRSigner, r.Signer.MRSigner) && s.ProductID == r.Signer.ProductID && s.SVN >= r.Signer.MinimumSVN
		}
		return finding(FieldSigner, "", ok, r.Signer.String(), actual)
	}
	m := r.Measurement
	return finding(FieldMeasurement, m.Waived, bytes.Equal(c.Measurement, m.Want), m.Want.String(), orNone(Hex(c.Measurement).String()))
}

func countRefused(list []Finding) (n int) {
	for _, f := range list {
		if f.Verdict == Refused {
			n++
		}
	}
	return n
}

// ledger demands that whoever names the ledger names the one of the policy: the
// runtime data (evidence for a client) and the measured configuration.
func (j *judgement) ledger() {
	var named []wire.LedgerIdentity
	if r := j.c.RuntimeData; r != nil && r.Ledger != nil {
		named = append(named, identity(r.Ledger))
	} else if r != nil && r.Purpose == attestation.PurposeClient {
		named = append(named, wire.LedgerIdentity{}) // a client needs it: nothing stands for it
	}
	if j.c.Configuration != nil {
		named = append(named, j.c.Configuration.Ledger)
	}
	l := j.p.Ledger
	j.agree(FieldLedgerID, l.ID.Waived, named, l.ID.Want.String(),
		func(n wire.LedgerIdentity) (string, bool) { return Hex(n.ID).String(), bytes.Equal(n.ID, l.ID.Want) })
	j.agree(FieldLedgerOrigin, l.Genesis.Waived, named, l.Genesis.Want.String(),
		func(n wire.LedgerIdentity) (string, bool) {
			return Hex(n.Genesis).String(), bytes.Equal(n.Genesis, l.Genesis.Want)
		})
	j.agree(FieldLedgerNumber, "", named, fmt.Sprint(l.Number),
		func(n wire.LedgerIdentity) (string, bool) { return number(n.Number), n.Number == l.Number })
	j.agree(FieldBackends, "", named, join(l.Backends),
		func(n wire.LedgerIdentity) (string, bool) { return n.Backend, slices.Contains(l.Backends, n.Backend) })
}

// agree adds a finding over what was named, at least once: all must be the same,
// also where the rule is waived.
func (j *judgement) agree(f Field, waived string, named []wire.LedgerIdentity, expected string, read func(wire.LedgerIdentity) (string, bool)) {
	if unbound := j.unbound(); unbound != "" && len(named) == 0 {
		j.add(f, unbound, false, expected, none)
		return
	}
	var values []string
	fits := true
	for _, n := range named {
		v, ok := read(n)
		values = append(values, orNone(v))
		fits = fits && ok
	}
	values = slices.Compact(values)
	if len(values) == 1 && values[0] != none {
		j.add(f, waived, fits, expected, values[0])
		return
	}
	if waived != "" {
		expected = "the same in runtime data and configuration"
	}
	actual := none
	if len(values) > 1 {
		actual = values[0] + " in the runtime data, " + values[1] + " in the configuration"
	}
	j.findings = append(j.findings, refuse(f, expected, actual))
}

func (j *judgement) debug() {
	j.add(FieldDebug, j.p.Debug.Waived, !j.c.Debug, string(j.p.Debug.Want), permission(j.c.Debug))
}
