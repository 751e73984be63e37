package broker

import (
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
)

const maxCertificates = 8 // of one body; a chain has three

var (
	errEvidenceShape = errors.New("not the documented body of an attest request")
	errGenuine       = errors.New("the evidence is not genuine")
	errPurpose       = errors.New("evidence of another purpose than release")
)

func badEvidence(err error) *refusal {
	return refuse(http.StatusBadRequest, "InvalidParameter", err.Error()).because(err)
}

// attestSNP turns evidence of SEV-SNP into a token.
func (b *Broker) attestSNP(r *request) (any, error) {
	var ask azure.AttestRequest
	return b.attest(r, &ask, func() (*attestation.Bundle, azure.RuntimeData, azure.Nonce, error) {
		bundle, err := bundleOf(&ask)
		return bundle, ask.RuntimeData, ask.Nonce, err
	})
}

// attestTDX turns evidence of TDX into a token.
func (b *Broker) attestTDX(r *request) (any, error) {
	var ask azure.AttestTDXRequest
	return b.attest(r, &ask, func() (*attestation.Bundle, azure.RuntimeData, azure.Nonce, error) {
		return &attestation.Bundle{Platform: attestation.PlatformTDX, Report: ask.Quote}, ask.RuntimeData, ask.Nonce, nil
	})
}

// attestOpenEnclave turns evidence of SGX, with Open Enclave's header, into a token.
func (b *Broker) attestOpenEnclave(r *request) (any, error) {
	var ask azure.AttestOpenEnclaveRequest
	return b.attest(r, &ask, func() (*attestation.Bundle, azure.RuntimeData, azure.Nonce, error) {
		return &attestation.Bundle{Platform: attestation.PlatformSGX, Report: ask.Report}, ask.RuntimeData, ask.Nonce, nil
	})
}

// attest turns genuine evidence of purpose "release" into a token. It asks only whether
// evidence is genuine: what may have a key is the release policy's part. ask is the body
// to decode, take takes the evidence out of it.
func (b *Broker) attest(r *request, ask any, take func() (*attestation.Bundle, azure.RuntimeData, azure.Nonce, error)) (any, error) {
	if _, err := r.apiVersion(); err != nil {
		return nil, err
	}
	if err := r.decode(ask); err != nil {
		return nil, err
	}
	bundle, runtimeData, nonce, err := take()
	if err != nil {
		return nil, err
	}
	if len(nonce) > maxNonce || runtimeData.DataType != "JSON" {
		return nil, badEvidence(errEvidenceShape)
	}
	bundle.RuntimeData = runtimeData.Data
	r.record = &audit.Record{Kind: audit.KindAttest}
	claims, err := b.genuine(r, bundle)
	if err != nil {
		return nil, badEvidence(errGenuine).because(fmt.Errorf("%w: %w", errGenuine, err))
	}
	r.record.Evidence = evidenceOfClaims(claims)
	if claims.RuntimeData == nil || claims.RuntimeData.Purpose != attestation.PurposeRelease {
		return nil, badEvidence(errPurpose)
	}
	// The same check as at the release, so that nobody holds a token of no use.
	if _, err := releaseKey(bundle.RuntimeData); err != nil {
		return nil, badEvidence(err)
	}
	r.record = nil // only what is refused here is recorded
	say := claimsOf(claims)
	say.Nonce, say.Runtime = nonce, bundle.RuntimeData
	token, err := b.tokens.issue(say)
	if err != nil {
		return nil, err
	}
	r.log.Info("attested", "platform", claims.Platform, "simulated", claims.Simulated,
		"measurement", hex.EncodeToString(claims.Measurement), "host_data", hex.EncodeToString(claims.HostData))
	return azure.AttestResponse{Token: token}, nil
}

// genuine verifies evidence, and then asks the hardware's maker about it. A revoked
// certificate is refused; where the maker does not answer, the claims say neither that
// revocation was checked nor what the TCB's status is.
func (b *Broker) genuine(r *request, bundle *attestation.Bundle) (*attestation.Claims, error) {
	claims, err := b.known.Genuine(bundle, b.roots, b.now())
	if err != nil || b.collateral == nil {
		return claims, err
	}
	err = b.collateral.Complete(r.Context(), bundle)
	var missing *collateral.Incomplete
	if errors.As(err, &missing) && missing.Decided() == nil {
		r.log.Warn("the token will not say what the hardware's maker says of it", "reason", err)
		return claims, nil
	}
	if err != nil {
		return nil, err
	}
	return b.known.Genuine(bundle, b.roots, b.now())
}

// leastTCB takes the least of each part over the four TCBs of a report, as trust
// policies do. The certificate vouches for the reported one alone; but a guest that
// began on older firmware (launch), or a host that can go back to it (committed), has
// what that firmware has.
func leastTCB(c *attestation.Claims) attestation.TCB {
	least := c.ReportedTCB
	for _, t := range []attestation.TCB{c.CommittedTCB, c.CurrentTCB, c.LaunchTCB} {
		least.Bootloader = min(least.Bootloader, t.Bootloader)
		least.TEE = min(least.TEE, t.TEE)
		least.SNP = min(least.SNP, t.SNP)
		least.Microcode = min(least.Microcode, t.Microcode)
	}
	return least
}

// bundleOf takes the evidence out of a request's three layers.
func bundleOf(ask *azure.AttestRequest) (*attestation.Bundle, error) {
	var report azure.SNPReport
	if azure.Decode(ask.Report, &report) != nil {
		return nil, badEvidence(errEvidenceShape)
	}
	b := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report.Report}
	rest := []byte(report.Certificates)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(b.Certificates) == maxCertificates {
			return nil, badEvidence(errEvidenceShape)
		}
		b.Certificates = append(b.Certificates, block.Bytes)
	}
	if len(report.Endorsements) > 0 {
		var e azure.Endorsements
		if azure.Decode(report.Endorsements, &e) != nil {
			return nil, badEvidence(errEvidenceShape)
		}
		for _, one := range e.UVM {
			b.Endorsements = append(b.Endorsements, one)
		}
	}
	return b, nil
}
