package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
)

// Verdict says what follows from one comparison.
type Verdict string

const (
	Accepted Verdict = "accepted"
	Refused  Verdict = "refused"
	Waived   Verdict = "waived" // not demanded, by name
)

// Finding is one comparison of a trust policy with what evidence says.
type Finding struct {
	Field    Field   `json:"field"`
	Release  string  `json:"release,omitempty"` // the release compared with, for its three fields
	Expected string  `json:"expected"`
	Actual   string  `json:"actual"`
	Verdict  Verdict `json:"verdict"`
	Remedy   string  `json:"remedy,omitempty"` // of a refusal: what it means and what to do
}

// Refusal is genuine evidence that a trust policy does not accept.
type Refusal struct {
	Findings []Finding // every one that was refused, in the order of [Explain]
}

func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString("trust policy refuses the evidence")
	for i, f := range r.Findings {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		b.WriteString(string(f.Field) + ": expected " + f.Expected + ", found " + f.Actual)
	}
	return b.String()
}

// Fields returns the names of what was refused.
func (r *Refusal) Fields() []Field {
	var out []Field
	for _, f := range r.Findings {
		out = append(out, f.Field)
	}
	return out
}

// Accept decides whether genuine evidence is accepted for a purpose
// ([attestation.PurposeClient], …) at a time. It returns nil, or a [*Refusal] with
// everything that failed. A policy that is nil, or that [Parse] would refuse,
// accepts nothing.
//
// c must come from [attestation.Genuine]: nothing is verified here. It does not
// compare the nonce in the runtime data with the verifier's, nor the ledger's
// signers with those a device remembers; both are the caller's.
func Accept(c *attestation.Claims, p *TrustPolicy, purpose string, now time.Time) error {
	var refused []Finding
	for _, f := range Explain(c, p, purpose, now) {
		if f.Verdict != Accepted && f.Verdict != Waived {
			refused = append(refused, f)
		}
	}
	if len(refused) > 0 {
		return &Refusal{refused}
	}
	return nil
}

// Explain returns one finding for each field, in a fixed order, also where [Accept]
// accepts. Of several releases it shows the one that fits best. A policy that is
// not whole gives [FieldPolicy] alone.
func Explain(c *attestation.Claims, p *TrustPolicy, purpose string, now time.Time) []Finding {
	if p == nil {
		return []Finding{refuse(FieldPolicy, "a trust policy", "none")}
	}
	if problem := p.check(); problem != nil {
		return []Finding{refuse(FieldPolicy, "a whole trust policy", problem.Error())}
	}
	if c == nil {
		c = &attestation.Claims{}
	}
	j := judgement{c: c, p: p}
	j.purpose(purpose)
	j.expires(now)
	j.hardware()
	j.release()
	j.ledger()
	j.debug()
	j.argon2id()
	for i, f := range j.findings {
		if c.RuntimeData == nil && c.Configuration == nil && f.Verdict == Refused && slices.Contains(unboundFields, f.Field) {
			j.findings[i].Remedy = unboundRemedy
		}
	}
	return j.findings
}

func refuse(f Field, expected, actual string) Finding {
	return Finding{Field: f, Expected: expected, Actual: actual, Verdict: Refused, Remedy: remedies[f]}
}

// finding compares: a waived rule decides nothing.
func finding(f Field, waived string, ok bool, expected, actual string) Finding {
	switch {
	case waived != "":
		return Finding{Field: f, Expected: "waived: " + waived, Actual: actual, Verdict: Waived}
	case ok:
		return Finding{Field: f, Expected: expected, Actual: actual, Verdict: Accepted}
	}
	return refuse(f, expected, actual)
}
