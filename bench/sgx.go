package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/wire"
)

// sgxRows measure the verification of SGX evidence with its collateral, made by the
// simulated hardware. No library verifies it in Go: the floor is the hashes and ECDSA
// verifications that a full verification must do ([dcapSignatures]), without decoding.
func sgxRows() ([]*result, error) {
	now := time.Now()
	h, err := intel.Found(now)
	if err != nil {
		return nil, err
	}
	collateral, err := h.Collateral(attestation.PlatformSGX, now)
	if err != nil {
		return nil, err
	}
	root := h.Certificate(intel.Root)
	roots := attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(root.Raw)}}
	check := func(e error) { err = errors.Join(err, e) }
	next := func() *attestation.Bundle {
		quote, e := h.Sign(h.EnclaveQuote(h.Enclave()))
		check(e)
		return &attestation.Bundle{Platform: attestation.PlatformSGX, Report: intel.OpenEnclave(quote), Collateral: collateral}
	}
	signatures, err := dcapSignatures(h, collateral)
	if err != nil {
		return nil, err
	}
	known := attestation.NewCache(2 * verifications)
	rows := measureVerification("verify-sgx", check, next, func(b *attestation.Bundle) error {
		_, err := attestation.Hardware(b, roots, now)
		return err
	}, func(b *attestation.Bundle) error {
		_, err := known.Hardware(b, roots, now)
		return err
	}, func(*attestation.Bundle) error { return bareSignatures(signatures) })
	return rows, err
}

// signed is a statement as its verifier finds it.
type signed struct {
	key                *ecdsa.PublicKey
	message, signature []byte // ASN.1
}

// dcapSignatures are the ones that whoever verifies a DCAP quote of version 3 in full
// must check, each once. Intel's own library checks the root's of itself, too.
//
//   - the PCK certificate and its authority's
//   - the quoting enclave's report and the quote
//   - the certificate that signs TCB info and QE identity, and these two
//   - the revocation lists of the PCK's authority and of the root
func dcapSignatures(h *intel.Hardware, collateral []attestation.Collateral) (list []signed, err error) {
	certificate := func(c, issuer intel.Role) {
		x := h.Certificate(c)
		list = append(list, signed{&h.Key(issuer).PublicKey, x.RawTBSCertificate, x.Signature})
	}
	statement := func(by intel.Role, message []byte) {
		digest := sha256.Sum256(message)
		signature, e := ecdsa.SignASN1(rand.Reader, h.Key(by), digest[:])
		err = errors.Join(err, e)
		list = append(list, signed{&h.Key(by).PublicKey, message, signature})
	}
	certificate(intel.PCK, intel.PlatformCA)
	certificate(intel.PlatformCA, intel.Root)
	certificate(intel.TCBSigning, intel.Root)
	statement(intel.PCK, make([]byte, 384))
	statement(intel.PCK, make([]byte, 48+384)) // by the attestation key, of the same kind
	for _, c := range collateral {
		switch c.Name {
		case intel.NameTCBInfo, intel.NameIdentity:
			statement(intel.TCBSigning, c.Data)
		case intel.NamePCKCRL:
			statement(intel.PlatformCA, c.Data)
		case intel.NameRootCRL:
			statement(intel.Root, c.Data)
		}
	}
	if len(list) != 9 {
		return nil, fmt.Errorf("%d signatures of SGX evidence, want 9", len(list))
	}
	return list, err
}

// bareSignatures hashes and verifies.
func bareSignatures(list []signed) error {
	for _, s := range list {
		if digest := sha256.Sum256(s.message); !ecdsa.VerifyASN1(s.key, digest[:], s.signature) {
			return errors.New("a signature that does not hold")
		}
	}
	return nil
}
