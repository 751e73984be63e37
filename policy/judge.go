package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
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

// unbound is the reason for which the policy does without runtime data, and empty
// where there is some: what is there is judged.
func (j *judgement) unbound() string {
	if j.c.RuntimeData != nil {
		return ""
	}
	return j.p.RuntimeData.Waived
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
	j.add(FieldPurpose, j.unbound(), want != "" && actual == want, expected, orNone(actual))
}

func (j *judgement) expires(now time.Time) {
	e := j.p.Expires
	j.add(FieldExpires, e.Waived, now.Before(e.Want), "before "+e.Want.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

func (j *judgement) hardware() {
	c, p := j.c, j.p
	j.add(FieldPlatforms, "", slices.Contains(p.Platforms, c.Platform), join(p.Platforms), orNone(string(c.Platform)))
	j.simulation()
	j.services()
	if c.RuntimeData != nil {
		j.add(FieldRuntimeData, "", true, string(Required), "bound by the report")
	} else {
		j.add(FieldRuntimeData, p.RuntimeData.Waived, false, string(Required), none)
	}
	checked := "not looked up: no revocation list is stapled"
	if c.RevocationChecked {
		checked = "looked up in stapled lists"
	}
	if !j.leave(FieldRevocation, false) {
		j.add(FieldRevocation, p.Revocation.Waived, c.RevocationChecked, string(Required), checked)
	}
	// A platform that is not named is refused already, and has no rules here.
	if !p.has(c.Platform) {
		return
	}
	switch c.Platform {
	case attestation.PlatformSEVSNP:
		j.snp(p.SNP)
	case attestation.PlatformTDX:
		j.intel(p.Intel)
		j.tdx(p.TDX)
	case attestation.PlatformSGX:
		j.intel(p.Intel)
		j.sgx(p.SGX)
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

// services demands that whoever stands in for the evidence is named.
func (j *judgement) services() {
	expected := "the evidence itself"
	for _, s := range j.p.AttestationServices {
		expected += ", or a token of " + s.String()
	}
	t := j.c.Token
	if t == nil {
		j.add(FieldServices, "", true, expected, "the evidence itself")
		return
	}
	ok := slices.ContainsFunc(j.p.AttestationServices, func(s AttestationService) bool {
		return s.Issuer == t.Issuer && (s.Compliance == nil || slices.Contains(s.Compliance, t.Compliance))
	})
	j.add(FieldServices, "", ok, expected, "a token of "+orNone(t.Issuer)+" with compliance "+orNone(t.Compliance))
}

func (s AttestationService) String() string {
	if s.Compliance == nil {
		return s.Issuer
	}
	return s.Issuer + " with compliance " + strings.Join(s.Compliance, " or ")
}

// leave leaves a field to the attestation service where a token stands for the
// evidence and does not say it. What the policy narrows by choice (chip_ids,
// intel.fmspcs, …) is not left to anybody: without a word on it, it is refused.
func (j *judgement) leave(f Field, says bool) bool {
	t := j.c.Token
	if t == nil || says {
		return false
	}
	j.add(f, "left to the attestation service", false, "", "not said by "+orNone(t.Issuer))
	return true
}

// oneOf judges a list that narrows: nil accepts anything.
func (j *judgement) oneOf(f Field, list []Hex, actual []byte, anything string) {
	if list == nil {
		j.add(f, "", true, anything, orNone(Hex(actual).String()))
		return
	}
	j.add(f, "", contains(list, actual), join(list), orNone(Hex(actual).String()))
}

func (j *judgement) argon2id() {
	want, actual, ok := j.p.MinimumArgon2id, none, false
	if j.c.Configuration != nil {
		a := j.c.Configuration.PIN.Argon2id
		actual = Argon2id{a.MemoryKiB, a.Time}.String()
		ok = a.MemoryKiB >= want.Want.MemoryKiB && a.Time >= want.Want.Time
	}
	j.add(FieldArgon2id, firstOf(want.Waived, j.unbound()), ok, "at least "+want.Want.String(), actual)
}

const none = "none"

func orNone(s string) string { return firstOf(s, none) }

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
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
