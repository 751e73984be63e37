package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// maxEvidence bounds what a service sends as its evidence, in bytes.
const maxEvidence = 1 << 20

// fetchEvidence asks a service for evidence over a fresh nonce.
func fetchEvidence(ctx context.Context, service string) (bundle, nonce []byte, err error) {
	nonce = make([]byte, 32)
	rand.Read(nonce)
	text, err := wire.Base64(nonce).MarshalText()
	if err != nil {
		return nil, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(service, "/")+"/v1/attestation?nonce="+string(text), nil)
	if err != nil {
		return nil, nil, usagef("%q is not the URL of a service", service)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, wire.NewError(wire.CodeUnavailable, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxEvidence))
	if err != nil {
		return nil, nil, wire.NewError(wire.CodeUnavailable, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, nil, wire.Errorf(wire.CodeUnavailable, "the host answered with HTTP status %d", answer.StatusCode)
	}
	var a wire.Attestation
	if err := wire.Unmarshal(body, &a); err != nil {
		return nil, nil, wire.NewError(wire.CodeEvidence, err)
	}
	return a.Evidence, nonce, nil
}

// line is one check of verify: of the evidence itself, or of the trust policy.
type line struct {
	Of       string `json:"of"`   // partEvidence or partPolicy
	Name     string `json:"name"` // unique within its part
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Verdict  string `json:"verdict"` // "accepted", "refused", "waived", "not checked"
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

const (
	genuineRemedy = "What answers cannot prove what it is. Do not use it; ask the operator, on another way than this service."
	nonceRemedy   = "The evidence is an old one, or was made for somebody else. Try again; if it stays so, somebody stands between."
)

// judged is evidence with every check of it.
type judged struct {
	verdict string
	lines   []line
	claims  *attestation.Claims // nil: not genuine

	platform attestation.Platform // as the bundle says
}

// judge makes every check: first that the evidence is genuine, then that it was made
// for nonce (nil: not asked), then each field of the trust policy.
func judge(encoded, nonce []byte, p *policy.TrustPolicy, now time.Time) *judged {
	j := &judged{verdict: verdictNotGenuine}
	b, err := attestation.ParseBundle(encoded)
	if err == nil {
		j.platform = b.Platform
		j.claims, err = attestation.Genuine(b, p.Roots(), now)
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
	if nonce != nil {
		l := line{Of: partEvidence, Name: checkNonce, Expected: short(nonce), Actual: short(j.claims.RuntimeData.Nonce), Verdict: string(policy.Accepted)}
		if !bytes.Equal(j.claims.RuntimeData.Nonce, nonce) {
			l.Verdict, l.Remedy = string(policy.Refused), nonceRemedy
			j.lines = append(j.lines, l)
			return j
		}
		j.lines = append(j.lines, l)
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

// genuine lists the checks of the evidence itself: up to failed, or all.
func (j *judged) genuine(failed *attestation.Error) {
	verdict := string(policy.Accepted)
	for _, c := range attestation.Checks(j.platform) {
		switch {
		case failed != nil && c == failed.Check:
			actual := failed.Actual
			if failed.Expected == "" && failed.Actual == "" {
				actual = failed.Error()
			}
			j.lines = append(j.lines, line{partEvidence, string(c), failed.Expected, actual, string(policy.Refused), genuineRemedy})
			verdict = "not checked"
		default:
			j.lines = append(j.lines, line{Of: partEvidence, Name: string(c), Verdict: verdict})
		}
	}
}

func short(b []byte) string {
	if len(b) > 8 {
		return fmt.Sprintf("%x…", b[:8])
	}
	return fmt.Sprintf("%x", b)
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
	l := j.claims.RuntimeData.Ledger
	signers := make([]ledger.Signer, len(l.Signers))
	for i, s := range l.Signers {
		signers[i] = ledger.Signer{Public: []byte(s.Public), Signature: s.Signature}
	}
	return ledger.NewVerifier(l.ID, signers)
}
