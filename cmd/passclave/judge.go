package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
)

// line is one check of verify: of the evidence itself, or of the trust policy.
type line struct {
	Of       string `json:"of"`   // partEvidence or partPolicy
	Name     string `json:"name"` // unique within its part
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Verdict  string `json:"verdict"` // "accepted", "refused", "waived", notChecked
	Remedy   string `json:"remedy,omitempty"`
}

// Parts of verify: is it genuine and an answer to our question; does the policy accept it.
const (
	partEvidence = "evidence"
	partPolicy   = "policy"
)

// Verdicts of verify as a whole.
const (
	verdictAccepted   = "accepted"
	verdictRefused    = "refused by the policy"
	verdictNotGenuine = "not genuine"
)

// checkNonce is a check of this command: the evidence was made for its question.
const checkNonce = "nonce"

// notChecked is the verdict on what came after a refusal, or was not there.
const notChecked = "not checked"

// judged is evidence with every check of it.
type judged struct {
	verdict string
	lines   []line
	claims  *attestation.Claims // nil: not genuine

	bundle *attestation.Bundle // nil: none
}

// judge makes every check: first that the evidence is genuine, then that it answers
// the question that was asked, then each field of the trust policy.
func judge(e *evidence, p *policy.TrustPolicy, roots attestation.Roots, now time.Time) *judged {
	j := &judged{verdict: verdictNotGenuine, bundle: e.bundle}
	err := e.problem
	if err == nil {
		j.claims, err = e.genuine(roots, now)
	}
	var failed *attestation.Error
	if errors.As(err, &failed) {
		j.genuine(failed)
		return j
	}
	if err != nil {
		j.lines = append(j.lines, line{Of: partEvidence, Name: string(attestation.CheckBundle), Actual: err.Error(), Verdict: string(policy.Refused), Remedy: genuineRemedy})
		return j
	}
	j.genuine(nil)
	if !j.nonce(e) {
		return j
	}
	j.verdict = verdictAccepted
	for _, f := range policy.Explain(j.claims, p, attestation.PurposeClient, now) {
		if f.Verdict == policy.Refused {
			j.verdict = verdictRefused
		}
		j.lines = append(j.lines, line{partPolicy, string(f.Field), f.Expected, f.Actual, string(f.Verdict), f.Remedy})
	}
	return j
}

// nonce adds the line on freshness, and reports whether the evidence may be an answer.
func (j *judged) nonce(e *evidence) bool {
	l := line{Of: partEvidence, Name: checkNonce, Expected: hex.EncodeToString(e.nonce), Verdict: string(policy.Accepted)}
	if e.nonce == nil {
		l.Expected, l.Actual, l.Verdict = "", "saved evidence answers no question: it may be old"+madeAt(e.bundle), notChecked
		j.lines = append(j.lines, l)
		return true
	}
	l.Actual = hex.EncodeToString(j.claims.RuntimeData.Nonce)
	ok := bytes.Equal(j.claims.RuntimeData.Nonce, e.nonce)
	if !ok {
		l.Verdict, l.Remedy = string(policy.Refused), nonceRemedy
	}
	j.lines = append(j.lines, l)
	return ok
}

func madeAt(b *attestation.Bundle) string {
	if b.Time == 0 {
		return ""
	}
	return ", made " + fromUnix(b.Time).Format(time.RFC3339) + " by the host's clock"
}

// genuine lists the checks of the evidence itself: up to failed, or all.
func (j *judged) genuine(failed *attestation.Error) {
	verdict := string(policy.Accepted)
	var platform attestation.Platform
	if j.bundle != nil {
		platform = j.bundle.Platform
	}
	absent, found := map[attestation.Check]string{}, map[attestation.Check]string{}
	if j.claims != nil {
		absent, found = missing(j.bundle, j.claims), seen(j.claims)
	}
	for _, c := range attestation.Checks(platform) {
		switch why, nothing := absent[c]; {
		case failed != nil && c == failed.Check:
			actual := failed.Actual
			if failed.Expected == "" && failed.Actual == "" {
				actual = failed.Error()
			}
			j.lines = append(j.lines, line{partEvidence, string(c), failed.Expected, actual, string(policy.Refused), remedyOf(c)})
			verdict = notChecked
		case nothing:
			j.lines = append(j.lines, line{Of: partEvidence, Name: string(c), Actual: why, Verdict: notChecked})
		default:
			j.lines = append(j.lines, line{Of: partEvidence, Name: string(c), Actual: found[c], Verdict: verdict})
		}
	}
	if failed != nil && verdict != notChecked { // a check that the platform does not list
		j.lines = append(j.lines, line{partEvidence, string(failed.Check), failed.Expected, failed.Error(), string(policy.Refused), remedyOf(failed.Check)})
	}
}

// missing are the checks of genuine evidence that had nothing to look at, and why.
func missing(b *attestation.Bundle, c *attestation.Claims) map[attestation.Check]string {
	out := map[attestation.Check]string{}
	unless := func(there bool, why string, checks ...attestation.Check) {
		for _, check := range checks {
			if !there {
				out[check] = why
			}
		}
	}
	const none = "not in the evidence"
	unless(c.RevocationChecked, "no revocation list is stapled", attestation.CheckRevocation)
	unless(len(b.HostAMD) > 0, none, attestation.CheckHostAMD)
	unless(c.UVM != nil, none, attestation.CheckUVM)
	unless(c.SecurityPolicy != nil, none, attestation.CheckSecurityPolicy)
	unless(c.Intel != nil && c.Intel.TCBStatus != "", "no collateral is stapled", attestation.CheckTCBInfo, attestation.CheckQEIdentity)
	unless(c.RuntimeData != nil, "no runtime data", attestation.CheckReportData, attestation.CheckRuntimeData)
	unless(c.Configuration != nil, "no configuration file", attestation.CheckConfiguration, attestation.CheckLedger)
	return out
}

// collateralFields are what the makers' lists and statements decide.
var collateralFields = []policy.Field{policy.FieldRevocation, policy.FieldTCBStatus, policy.FieldEvaluation, policy.FieldAdvisories}

// decided reports whether the verdict would be no better with the collateral that nobody
// gave: what the hardware says holds without, and something else is refused.
func (j *judged) decided(e *evidence, roots attestation.Roots, now time.Time) bool {
	if _, err := attestation.Hardware(e.bundle, roots, now); err != nil {
		return false
	}
	return j.verdict == verdictNotGenuine || slices.ContainsFunc(j.lines, func(l line) bool {
		return l.Of == partPolicy && l.Verdict == string(policy.Refused) && !slices.Contains(collateralFields, policy.Field(l.Name))
	})
}

func (j *judged) waived() (n int) {
	for _, l := range j.lines {
		if l.Verdict == string(policy.Waived) {
			n++
		}
	}
	return n
}

// exit returns the exit code of the verdict.
func (j *judged) exit() int {
	switch j.verdict {
	case verdictAccepted:
		return exitDone
	case verdictRefused:
		return exitPolicy
	}
	return exitEvidence
}

// ledgerVerifier returns the verifier of the ledger that accepted evidence names.
func (j *judged) ledgerVerifier() (*ledger.Verifier, error) {
	r := j.claims.RuntimeData
	if r == nil || r.Ledger == nil {
		return nil, errors.New("the evidence names no ledger")
	}
	l := r.Ledger
	signers := make([]ledger.Signer, len(l.Signers))
	for i, s := range l.Signers {
		signers[i] = ledger.Signer{Public: []byte(s.Public), Signature: s.Signature}
	}
	return ledger.NewVerifier(l.ID, signers)
}
