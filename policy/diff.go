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
	d.products(a.Products, b.Products)
	d.chips(a.ChipIDs, b.ChipIDs)
	d.releases(a.Releases, b.Releases)
	diffRule(&d, FieldLedgerID, "", a.Ledger.ID, b.Ledger.ID, Hex.String, nil)
	d.scalar(FieldLedgerOrigin, "", a.Ledger.Genesis, b.Ledger.Genesis, true)
	d.scalar(FieldLedgerNumber, "", a.Ledger.Number, b.Ledger.Number, true)
	diffSet(&d, FieldBackends, a.Ledger.Backends, b.Ledger.Backends)
	d.scalar(FieldGuestSVN, "", a.MinimumGuestSVN, b.MinimumGuestSVN, b.MinimumGuestSVN < a.MinimumGuestSVN)
	diffRule(&d, FieldDebug, "", a.Debug, b.Debug, show[Permission], nil)
	diffRule(&d, FieldMigration, "", a.Migration, b.Migration, show[Permission], nil)
	d.scalar(FieldSMT, "", a.SMT, b.SMT, b.SMT == Allowed)
	d.scalar(FieldVMPL, "", a.MaximumVMPL, b.MaximumVMPL, b.MaximumVMPL > a.MaximumVMPL)
	diffRule(&d, FieldArgon2id, "", a.MinimumArgon2id, b.MinimumArgon2id, Argon2id.String,
		func(x, y Argon2id) bool { return y.MemoryKiB >= x.MemoryKiB && y.Time >= x.Time })
	return d.changes
}

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

func (d *differ) products(a, b []Product) {
	names := func(list []Product) (out []string) {
		for _, p := range list {
			out = append(out, p.Name)
		}
		return out
	}
	diffSet(d, FieldProducts, names(a), names(b))
	for _, y := range b {
		if i := slices.Index(names(a), y.Name); i >= 0 {
			diffRule(d, FieldTCB, y.Name, a[i].MinimumTCB, y.MinimumTCB, showTCB, narrowsTCB)
		}
	}
}

func (d *differ) chips(a, b []Hex) {
	if a != nil && b != nil {
		diffSet(d, FieldChipIDs, a, b)
		return
	}
	text := func(list []Hex) string {
		if list == nil {
			return "any genuine chip"
		}
		return strings.Join(sorted(list), ", ")
	}
	d.scalar(FieldChipIDs, "", text(a), text(b), a != nil)
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
		diffRule(d, FieldMeasurement, y.Name, a[i].Measurement, y.Measurement, Hex.String, nil)
		diffRule(d, FieldConfig, y.Name, a[i].Configuration, y.Configuration, Hex.String, nil)
		diffRule(d, FieldHostData, y.Name, a[i].HostData, y.HostData, show[string], nil)
		if covered {
			for k := range d.changes[from:] {
				d.changes[from+k].Weaker = false
			}
		}
	}
}

// covers reports whether all that y accepts, x accepts.
func covers(x, y Release) bool {
	return coversRule(x.Measurement, y.Measurement, Hex.String) && coversRule(x.Configuration, y.Configuration, Hex.String) &&
		coversRule(x.HostData, y.HostData, show[string])
}

func coversRule[T any](x, y Rule[T], text func(T) string) bool {
	return x.Waived != "" || y.Waived == "" && text(x.Want) == text(y.Want)
}

// String shows a release in one line.
func (r Release) String() string {
	return "measurement " + showRule(r.Measurement, Hex.String) + ", configuration " + showRule(r.Configuration, Hex.String) +
		", host_data " + showRule(r.HostData, show[string])
}

func narrowsTCB(x, y attestation.TCB) bool { return y.AtLeast(x) }
