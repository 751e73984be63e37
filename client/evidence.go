package client

import (
	"slices"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// Evidence is what accepted evidence says.
type Evidence struct {
	Claims        *attestation.Claims
	Findings      []policy.Finding    // one a field of the trust policy: accepted, or waived by name
	Configuration *wire.Configuration // measured
	HPKE          []byte              // the enclave's public key
	Signers       []ledger.Signer     // ledger keys, oldest first
	Nonce         []byte
}

// policyJudge judges by a trust policy.
type policyJudge struct{ policy *policy.TrustPolicy }

func newJudge(trustPolicy []byte) (judge, error) {
	p, err := policy.Parse(trustPolicy)
	if err != nil {
		return nil, err
	}
	return &policyJudge{p}, nil
}

// judge asks whether the bundle is genuine, then whether the policy accepts it for
// a client. The causes of its refusals are an [attestation.Error] with the check, or
// a [policy.Refusal] with every finding that refused. The nonce is the caller's to compare.
func (j *policyJudge) judge(encoded []byte, now time.Time) (*Evidence, error) {
	bundle, err := attestation.ParseBundle(encoded)
	if err != nil {
		return nil, wire.NewError(wire.CodeEvidence, err)
	}
	claims, err := attestation.Genuine(bundle, j.policy.Roots(), now)
	if err != nil {
		return nil, wire.NewError(wire.CodeEvidence, err)
	}
	if err := policy.Accept(claims, j.policy, attestation.PurposeClient, now); err != nil {
		return nil, wire.NewError(wire.CodePolicy, err)
	}
	r := claims.RuntimeData
	if claims.Configuration == nil || r == nil || r.Ledger == nil {
		return nil, wire.Errorf(wire.CodeEvidence, "evidence without its measured configuration or its ledger")
	}
	e := &Evidence{
		Claims:        claims,
		Findings:      policy.Explain(claims, j.policy, attestation.PurposeClient, now),
		Configuration: claims.Configuration,
		HPKE:          r.HPKE,
		Nonce:         r.Nonce,
	}
	for _, s := range r.Ledger.Signers {
		e.Signers = append(e.Signers, ledger.Signer{Public: []byte(s.Public), Signature: s.Signature})
	}
	return e, nil
}

func (j *policyJudge) genesis() *pinnedLedger {
	l := j.policy.Ledger
	if l.ID.Waived != "" || l.Genesis.Waived != "" || len(l.Backends) != 1 {
		return nil
	}
	return &pinnedLedger{ID: l.ID.Want, Backend: l.Backends[0], Genesis: l.Genesis.Want, Number: l.Number}
}

func (j *policyJudge) freshness(backend string) bool {
	return slices.Contains(j.policy.Ledger.Backends, backend)
}
