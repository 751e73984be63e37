package keyrelease

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"

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

// attestRequest puts SEV-SNP evidence, real or simulated, into the body of
// POST /attest/SevSnpVm.
func attestRequest(b *attestation.Bundle, runtimeData []byte, nonce string) (*azure.AttestRequest, error) {
	if b == nil || len(b.Report) == 0 || len(b.Certificates) == 0 {
		return nil, errors.New("the bundle has no report or no certificates")
	}
	var chain []byte
	for _, der := range b.Certificates {
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
	encoded, err := json.Marshal(report)
	if err != nil {
		return nil, err
	}
	return &azure.AttestRequest{
		Report:      encoded,
		RuntimeData: azure.RuntimeData{Data: runtimeData, DataType: "JSON"},
		Nonce:       azure.Nonce(nonce),
	}, nil
}
