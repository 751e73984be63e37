package policy

import (
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
)

// What a policy says it needs is what makes it refuse evidence without: the two may not
// drift apart.
func TestCollateral(t *testing.T) {
	t.Parallel()
	waived := Waive[[]string]("test")
	for name, c := range map[string]struct {
		p               TrustPolicy
		revocation, tcb bool
	}{
		"nothing":           {TrustPolicy{Revocation: Waive[Demand]("test"), Intel: &Intel{TCBStatus: waived}}, false, false},
		"lists":             {TrustPolicy{Revocation: Require(Required)}, true, false},
		"status":            {TrustPolicy{Revocation: Waive[Demand]("test"), Intel: &Intel{TCBStatus: Require([]string{"UpToDate"})}}, false, true},
		"evaluation number": {TrustPolicy{Revocation: Waive[Demand]("test"), Intel: &Intel{TCBStatus: waived, MinimumEvaluationNumber: 1}}, false, true},
		"advisories":        {TrustPolicy{Revocation: Waive[Demand]("test"), Intel: &Intel{TCBStatus: waived, Advisories: []string{}}}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if revocation, tcb := c.p.Collateral(); revocation != c.revocation || tcb != c.tcb {
				t.Errorf("lists %v, statements %v", revocation, tcb)
			}
			j := judgement{c: &attestation.Claims{Platform: attestation.PlatformTDX, Time: time.Now()}, p: &c.p}
			if j.hardware(); c.p.Intel != nil {
				j.intel(c.p.Intel)
			}
			var revocation, tcb bool
			for _, f := range j.findings {
				switch f.Field {
				case FieldRevocation:
					revocation = f.Verdict == Refused
				case FieldTCBStatus, FieldEvaluation, FieldAdvisories:
					tcb = tcb || f.Verdict == Refused
				}
			}
			if revocation != c.revocation || tcb != c.tcb {
				t.Errorf("refused for lists %v, for statements %v", revocation, tcb)
			}
		})
	}
}
