package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/wire"
)

// sgxRows measure the verification of SGX evidence with its collateral, made by the
// simulated hardware. No library verifies it in Go: the floor is the signatures that
// quote and certificates have, without those of the collateral.
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
	bare, e := bareQuote(h.Certificate(intel.PCK), h.Certificate(intel.PlatformCA), root)
	check(e)
	known := attestation.NewCache(2 * verifications)
	rows := measureVerification("verify-sgx", check, next, func(b *attestation.Bundle) error {
		_, err := attestation.Hardware(b, roots, now)
		return err
	}, func(b *attestation.Bundle) error {
		_, err := known.Hardware(b, roots, now)
		return err
	}, func(*attestation.Bundle) error { return bare() })
	return rows, err
}

// bareQuote returns a check of as many signatures, of the same kind over inputs of the
// same size, as a quote has: of the chain, the quoting enclave's report and the quote.
func bareQuote(chain ...*x509.Certificate) (func() error, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 48+384)
	digest := sha256.Sum256(body)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	return func() error {
		parsed := make([]*x509.Certificate, len(chain))
		for i, c := range chain {
			if parsed[i], err = x509.ParseCertificate(c.Raw); err != nil {
				return err
			}
		}
		for i := range len(parsed) - 1 {
			if err := parsed[i].CheckSignatureFrom(parsed[i+1]); err != nil {
				return err
			}
		}
		for range 2 {
			if digest := sha256.Sum256(body); !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				return errors.New("a signature that does not hold")
			}
		}
		return nil
	}, nil
}
