package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
)

// Change is one difference between two policies.
type Change struct {
	Field  Field  `json:"field"`
	Of     string `json:"of,omitempty"` // the release or product it belongs to
	Before string `json:"before"`       // empty: was not there
	After  string `json:"after"`        // empty: is not there any more
	Weaker bool   `json:"weaker"`       // the later policy accepts here something that the earlier one refuses
}

// Diff returns what changes from a to b, both of which [Parse] accepts. Where no
// change is Weaker, all that b accepts a accepts too. Another measurement or another
// ledger is Weaker in this sense: a refuses it.
func Diff(a, b *TrustPolicy) []Change {
	d := differ{}
	d.scalar(FieldName, "", a.Name, b.Name, false)
	diffRule(&d, FieldExpires, "", a.Expires, b.Expires,
		func(t time.Time) string { return t.Format(time.RFC3339) },
		func(x, y time.Time) bool { return !y.After(x) })
	diffSet(&d, FieldPlatforms, a.Platforms, b.Platforms)
	diffSet(&d, FieldSimulation, a.simulationRoots(), b.simulationRoots())
	d.services(a.AttestationServices, b.AttestationServices)
	diffRule(&d, FieldRuntimeData, "", demanded(a.RuntimeData), b.RuntimeData, required, same)
	diffRule(&d, FieldRevocation, "", a.Revocation, b.Revocation, required, same)
	// A section that comes or goes does so with its platform, which is shown.
	if a.SNP != nil && b.SNP != nil {
		d.snp(a.SNP, b.SNP, b.AttestationServices != nil)
	}
	if a.Intel != nil && b.Intel != nil {
		d.intel(a.Intel, b.Intel)
	}
	if a.TDX != nil && b.TDX != nil {
		d.tdx(a.TDX, b.TDX)
	}
	if a.SGX != nil && b.SGX != nil {
		d.sgx(a.SGX, b.SGX)
	}
	d.releases(a.Releases, b.Releases)
	diffRule(&d, FieldLedgerID, "", a.Ledger.ID, b.Ledger.ID, Hex.String, nil)
	diffRule(&d, FieldLedgerOrigin, "", a.Ledger.Genesis, b.Ledger.Genesis, Hex.String, nil)
	d.scalar(FieldLedgerNumber, "", a.Ledger.Number, b.Ledger.Number, true)
	diffSet(&d, FieldBackends, a.Ledger.Backends, b.Ledger.Backends)
	diffRule(&d, FieldDebug, "", a.Debug, b.Debug, show[Permission], nil)
	diffRule(&d, FieldArgon2id, "", a.MinimumArgon2id, b.MinimumArgon2id, Argon2id.String,
		func(x, y Argon2id) bool { return y.MemoryKiB >= x.MemoryKiB && y.Time >= x.Time })
	return d.changes
}

// demanded is what leaving the member out means.
func demanded(r Rule[Demand]) Rule[Demand] {
	if r.Waived == "" {
		return Require(Required)
	}
	return r
}

func required(Demand) string { return string(Required) }

func same(_, _ Demand) bool { return true } // one word is all there is

type differ struct{ changes []Change }

// scalar adds a change if the two are not shown alike.
func (d *differ) scalar(f Field, of string, before, after any, weaker bool) {
	b, a := fmt.Sprint(before), fmt.Sprint(after)
	if b != a {
		d.changes = append(d.changes, Change{Field: f, Of: of, Before: b, After: a, Weaker: weaker})
	}
}

// diffRule compares two rules. narrows reports whether demanding y accepts only
// what demanding x accepts; nil: only where they are equal.
func diffRule[T any](d *differ, f Field, of string, a, b Rule[T], text func(T) string, narrows func(x, y T) bool) {
	weaker := a.Waived == "" && (b.Waived != "" || narrows == nil || !narrows(a.Want, b.Want))
	d.scalar(f, of, showRule(a, text), showRule(b, text), weaker)
}

func showRule[T any](r Rule[T], text func(T) string) string {
	if r.Waived != "" {
		return "waived: " + r.Waived
	}
	return text(r.Want)
}

func show[T ~string](v T) string { return string(v) }

// diffSet compares two lists without order, by how they are shown.
func diffSet[T any](d *differ, f Field, a, b []T) {
	before, after := sorted(a), sorted(b)
	added := slices.ContainsFunc(after, func(s string) bool { return !slices.Contains(before, s) })
	d.scalar(f, "", strings.Join(before, ", "), strings.Join(after, ", "), added)
}

func sorted[T any](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	slices.Sort(out)
	return out
}

func (p *TrustPolicy) simulationRoots() []Hex {
	if p.Simulation == nil {
		return nil
	}
	return p.Simulation.Roots
}

// services compares whose tokens are accepted.
func (d *differ) services(a, b []AttestationService) {
	covered := func(y AttestationService) bool {
		return slices.ContainsFunc(a, func(x AttestationService) bool {
			return x.Issuer == y.Issuer && (x.Compliance == nil || y.Compliance != nil && subset(y.Compliance, x.Compliance))
		})
	}
	weaker := slices.ContainsFunc(b, func(y AttestationService) bool { return !covered(y) })
	d.scalar(FieldServices, "", strings.Join(sorted(a), ", "), strings.Join(sorted(b), ", "), weaker)
}

func subset[T comparable](list, of []T) bool {
	return !slices.ContainsFunc(list, func(v T) bool { return !slices.Contains(of, v) })
}

// narrowed compares two lists, of which nil means anything.
func narrowed[T any](d *differ, f Field, a, b []T, anything string) {
	text := func(list []T) string {
		if list == nil {
			return anything
		}
		return orNone(strings.Join(sorted(list), ", "))
	}
	d.scalar(f, "", text(a), text(b), a != nil && (b == nil || !subset(sorted(b), sorted(a))))
}

// releases pairs releases by name. A release is no weakening where one of the
// earlier policy accepts all that it accepts.
func (d *differ) releases(a, b []Release) {
	named := func(list []Release, name string) int {
		return slices.IndexFunc(list, func(r Release) bool { return r.Name == name })
	}
	for _, x := range a {
		if named(b, x.Name) < 0 {
			d.scalar(FieldReleases, x.Name, x, "", false)
		}
	}
	for _, y := range b {
		covered := slices.ContainsFunc(a, func(x Release) bool { return covers(x, y) })
		i := named(a, y.Name)
		if i < 0 {
			d.scalar(FieldReleases, y.Name, "", y, !covered)
			continue
		}
		from := len(d.changes)
		x := a[i]
		if x.Platform != y.Platform { // nothing of it can be compared
			d.scalar(FieldReleases, y.Name, x, y, !covered)
			continue
		}
		d.scalar(y.identity(), y.Name, x.showIdentity(), y.showIdentity(), !coversIdentity(x, y))
		for k := range y.RTMRs {
			diffRule(d, fieldRTMR[k], y.Name, x.RTMRs[k], y.RTMRs[k], Hex.String, nil)
		}
		diffRule(d, FieldConfig, y.Name, x.Configuration, y.Configuration, Hex.String, nil)
		diffRule(d, FieldHostData, y.Name, x.HostData, y.HostData, show[string], nil)
		if covered {
			for k := range d.changes[from:] {
				d.changes[from+k].Weaker = false
			}
		}
	}
}

// covers reports whether all that y accepts, x accepts.
func covers(x, y Release) bool {
	if x.Platform != y.Platform || !coversIdentity(x, y) || len(x.RTMRs) != len(y.RTMRs) {
		return false
	}
	for i := range x.RTMRs {
		if !coversRule(x.RTMRs[i], y.RTMRs[i], Hex.String) {
			return false
		}
	}
	return coversRule(x.Configuration, y.Configuration, Hex.String) && coversRule(x.HostData, y.HostData, show[string])
}

func coversRule[T any](x, y Rule[T], text func(T) string) bool {
	return x.Waived != "" || y.Waived == "" && text(x.Want) == text(y.Want)
}

func narrowsTCB(x, y attestation.TCB) bool { return y.AtLeast(x) }
