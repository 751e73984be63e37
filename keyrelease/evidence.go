package keyrelease

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/wire"
)

// runtimeData returns the runtime data of purpose "release" for one RSA key: what
// the evidence binds, and what the vault will wrap to.
func runtimeData(config wire.Digest, public *rsa.PublicKey) ([]byte, error) {
	n := public.N.Bytes()
	id := sha256.Sum256(n)
	r := attestation.RuntimeData{
		Purpose: attestation.PurposeRelease,
		Config:  config[:],
		Keys: []attestation.RSAKey{{
			KID:    hex.EncodeToString(id[:8]),
			Kty:    "RSA",
			KeyOps: []string{"encrypt"},
			N:      n,
			E:      []byte{1, 0, 1},
		}},
	}
	return r.Encode()
}

// attestRequest puts evidence, real or simulated, into the body that the attestation
// service takes for its platform, and returns the endpoint's path and api-version.
// Collateral stays behind: Azure's service has its own.
func attestRequest(b *attestation.Bundle, runtimeData []byte, nonce string) (path, version string, body any, err error) {
	if b == nil || len(b.Report) == 0 {
		return "", "", nil, errors.New("the bundle has no report")
	}
	data := azure.RuntimeData{Data: runtimeData, DataType: "JSON"}
	switch b.Platform {
	case attestation.PlatformSEVSNP:
		report, err := snpReport(b)
		return azure.AttestSNPPath, azure.AttestationVersion,
			azure.AttestRequest{Report: report, RuntimeData: data, Nonce: azure.Nonce(nonce)}, err
	case attestation.PlatformTDX:
		return azure.AttestTDXPath, azure.AttestationVersionTDX,
			azure.AttestTDXRequest{Quote: b.Report, RuntimeData: data, Nonce: azure.Nonce(nonce)}, nil
	case attestation.PlatformSGX:
		return azure.AttestOpenEnclavePath, azure.AttestationVersion,
			azure.AttestOpenEnclaveRequest{Report: b.Report, RuntimeData: data, Nonce: azure.Nonce(nonce)}, nil
	}
	return "", "", nil, fmt.Errorf("no attestation service takes evidence of platform %q", b.Platform)
}

// snpReport is the JSON that stands for a report in POST /attest/SevSnpVm. Where the
// bundle has no certificates of its own they are the host's, as Genuine takes them: on ACI.
func snpReport(b *attestation.Bundle) ([]byte, error) {
	certificates := b.Certificates
	if len(certificates) == 0 {
		var err error
		if certificates, _, err = attestation.ParseHostAMD(b.HostAMD); err != nil {
			return nil, fmt.Errorf("the bundle has no certificates: %w", err)
		}
	}
	var chain []byte
	for _, der := range certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	report := azure.SNPReport{Report: b.Report, Certificates: chain}
	if len(b.Endorsements) > 0 {
		var e azure.Endorsements
		for _, one := range b.Endorsements {
			e.UVM = append(e.UVM, one)
		}
		encoded, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		report.Endorsements = encoded
	}
	return json.Marshal(report)
}
