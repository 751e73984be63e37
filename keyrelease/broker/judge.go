package broker

import (
	"fmt"

	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// Verdict is what a release policy, and what a broker never leaves open, say of the claims
// of a token. Nothing in it is secret.
type Verdict struct {
	Released bool                   `json:"released"`
	Decision releasepolicy.Decision `json:"decision"` // the policy's own
	Open     []string               `json:"open"`     // why the broker refuses beyond it
}

// Judge asks whether a key with a release policy goes to a token that authority issued with these
// claims. Beyond Azure's grammar, some claims are never left open ([neverOpen]): unless
// the clause that released demands their value by name, a guest must not be debuggable, no
// migration agent may take it, and its evidence must not be simulated, nor signed by a key
// that a cloud's machines share.
//
// It does not verify the token.
func Judge(p *releasepolicy.Policy, authority string, claims releasepolicy.Claims) Verdict {
	v := Verdict{Decision: p.Evaluate(authority, claims), Open: []string{}}
	platform, _ := claims.Text(claimType)
	never, ok := neverOpen[platform]
	if !ok {
		v.Open = append(v.Open, claimType+" is none that this broker issues")
	}
	for _, claim := range never {
		named := v.Decision.Pinned(claim) || !v.Decision.Released && satisfied(&v.Decision, claim)
		if text, _ := claims.Text(claim); text != "false" && !named {
			v.Open = append(v.Open, fmt.Sprintf("%s equals %q unless the policy names it, actual %q", claim, "false", text))
		}
	}
	v.Released = v.Decision.Released && len(v.Open) == 0
	return v
}

// satisfied reports whether some clause of a policy that refuses demands the claim's value
// by name: then it is not what has to be mended.
func satisfied(d *releasepolicy.Decision, claim string) bool {
	if d.Released && d.Clause == claim && d.Operator == releasepolicy.Equals {
		return true
	}
	for i := range d.Clauses {
		if satisfied(&d.Clauses[i], claim) {
			return true
		}
	}
	return false
}

// Clauses names what decided: the alternatives by which the policy released, or else
// everything without which it did not, expected beside actual.
func (v *Verdict) Clauses() []string {
	if v.Released {
		return v.Decision.Decided()
	}
	return append(v.Decision.Missed(), v.Open...)
}
