package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// judgement collects findings; each method is one group of fields.
type judgement struct {
	c        *attestation.Claims
	p        *TrustPolicy
	findings []Finding
}

func (j *judgement) add(f Field, waived string, ok bool, expected, actual string) {
	j.findings = append(j.findings, finding(f, waived, ok, expected, actual))
}

func (j *judgement) purpose(want string) {
	actual := ""
	if j.c.RuntimeData != nil {
		actual = j.c.RuntimeData.Purpose
	}
	expected := want
	if want == "" {
		expected = "a purpose"
	}
	j.add(FieldPurpose, "", want != "" && actual == want, expected, orNone(actual))
}

func (j *judgement) expires(now time.Time) {
	e := j.p.Expires
	j.add(FieldExpires, e.Waived, now.Before(e.Want), "before "+e.Want.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

func (j *judgement) hardware() {
	c, p := j.c, j.p
	j.add(FieldPlatforms, "", slices.Contains(p.Platforms, c.Platform), join(p.Platforms), orNone(string(c.Platform)))
	j.simulation()
	i := slices.IndexFunc(p.Products, func(q Product) bool { return q.Name == c.Product })
	var names []string
	for _, q := range p.Products {
		names = append(names, q.Name)
	}
	j.add(FieldProducts, "", i >= 0, join(names), orNone(c.Product))
	if i >= 0 { // floors are those of the product; without it everything is refused already
		floor := p.Products[i].MinimumTCB
		j.add(FieldTCB, floor.Waived, leastTCB(c).AtLeast(floor.Want), "at least "+showTCB(floor.Want), showTCBs(c))
	}
	if p.ChipIDs == nil {
		j.add(FieldChipIDs, "", true, "any genuine chip", orNone(Hex(c.ChipID).String()))
	} else {
		j.add(FieldChipIDs, "", contains(p.ChipIDs, c.ChipID), join(p.ChipIDs), orNone(Hex(c.ChipID).String()))
	}
}

func (j *judgement) simulation() {
	expected, actual := "hardware", "hardware"
	var roots []Hex
	if j.p.Simulation != nil {
		roots = j.p.Simulation.Roots
		expected = "hardware, or SIMULATION under root " + join(roots)
	}
	if j.c.Simulated {
		actual = "SIMULATION under root " + j.c.Root.String()
	}
	j.add(FieldSimulation, "", !j.c.Simulated || contains(roots, j.c.Root[:]), expected, actual)
}

// release compares with each release and keeps the findings of the one that is
// refused least: the first, where several are.
func (j *judgement) release() {
	var best []Finding
	for _, r := range j.p.Releases {
		f := j.against(r)
		if best == nil || countRefused(f) < countRefused(best) {
			best = f
		}
	}
	j.findings = append(j.findings, best...)
}

func (j *judgement) against(r Release) []Finding {
	c, config := j.c, Hex(j.c.ConfigurationHash[:])
	shown := config.String()
	if c.Configuration == nil { // nobody can tell what the hash stands for
		shown += ", without the file"
	}
	hostData := r.HostData.Want
	if hostData == HostDataConfiguration {
		hostData = config.String()
	}
	findings := []Finding{
		finding(FieldMeasurement, r.Measurement.Waived, bytes.Equal(c.Measurement, r.Measurement.Want),
			r.Measurement.Want.String(), orNone(Hex(c.Measurement).String())),
		finding(FieldConfig, r.Configuration.Waived,
			c.Configuration != nil && bytes.Equal(config, r.Configuration.Want), r.Configuration.Want.String(), shown),
		finding(FieldHostData, r.HostData.Waived,
			Hex(c.HostData).String() == hostData, hostData, orNone(Hex(c.HostData).String())),
	}
	for i := range findings {
		findings[i].Release = r.Name
	}
	return findings
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
	j.agree(FieldLedgerOrigin, "", named, l.Genesis.String(),
		func(n wire.LedgerIdentity) (string, bool) {
			return Hex(n.Genesis).String(), bytes.Equal(n.Genesis, l.Genesis)
		})
	j.agree(FieldLedgerNumber, "", named, fmt.Sprint(l.Number),
		func(n wire.LedgerIdentity) (string, bool) { return number(n.Number), n.Number == l.Number })
	j.agree(FieldBackends, "", named, join(l.Backends),
		func(n wire.LedgerIdentity) (string, bool) { return n.Backend, slices.Contains(l.Backends, n.Backend) })
}

// agree adds a finding over what was named, at least once: all must be the same,
// also where the rule is waived.
func (j *judgement) agree(f Field, waived string, named []wire.LedgerIdentity, expected string, read func(wire.LedgerIdentity) (string, bool)) {
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

func (j *judgement) guest() {
	c, p := j.c, j.p
	j.add(FieldGuestSVN, "", c.GuestSVN >= p.MinimumGuestSVN, fmt.Sprint("at least ", p.MinimumGuestSVN), fmt.Sprint(c.GuestSVN))
	j.add(FieldDebug, p.Debug.Waived, !c.Debug, string(p.Debug.Want), permission(c.Debug))
	j.add(FieldMigration, p.Migration.Waived, !c.Migration, string(p.Migration.Want), permission(c.Migration))
	j.add(FieldSMT, "", p.SMT == Allowed || !c.SMT, string(p.SMT), permission(c.SMT))
	j.add(FieldVMPL, "", c.VMPL <= p.MaximumVMPL, fmt.Sprint("at most ", p.MaximumVMPL), fmt.Sprint(c.VMPL))
}

func (j *judgement) argon2id() {
	want, actual, ok := j.p.MinimumArgon2id, none, false
	if j.c.Configuration != nil {
		a := j.c.Configuration.PIN.Argon2id
		actual = Argon2id{a.MemoryKiB, a.Time}.String()
		ok = a.MemoryKiB >= want.Want.MemoryKiB && a.Time >= want.Want.Time
	}
	j.add(FieldArgon2id, want.Waived, ok, "at least "+want.Want.String(), actual)
}

const none = "none"

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// number shows a number that counts from 1.
func number(n uint64) string {
	if n == 0 {
		return none
	}
	return fmt.Sprint(n)
}

func permission(is bool) string {
	if is {
		return string(Allowed)
	}
	return string(Forbidden)
}

func join[T any](list []T) string {
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	return strings.Join(out, ", ")
}
