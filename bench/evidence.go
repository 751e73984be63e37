package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/google/go-sev-guest/verify"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// evidenceRow measures what a client does before it believes an enclave: parse the
// bundle, Genuine, Accept. The floor is the cryptography in it: the report's P-384
// signature, and the two RSA-4096 signatures from the root, which is trusted by its
// fingerprint, to the chip's key.
func evidenceRow(ctx context.Context, s *service) (*result, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	body, err := s.exchange(ctx, http.MethodGet, "/v1/attestation?nonce="+base64.RawURLEncoding.EncodeToString(nonce), nil)
	if err != nil {
		return nil, err
	}
	var a wire.Attestation
	if err := wire.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	file, err := os.ReadFile(s.PolicyFile)
	if err != nil {
		return nil, err
	}
	trust, err := policy.Parse(file)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	verifyAll := func() error {
		b, err := attestation.ParseBundle(a.Evidence)
		if err != nil {
			return err
		}
		claims, err := attestation.Genuine(b, trust.Roots(), now)
		if err != nil {
			return err
		}
		return policy.Accept(claims, trust, attestation.PurposeClient, now)
	}
	b, err := attestation.ParseBundle(a.Evidence)
	if err != nil {
		return nil, err
	}
	var chain [3]*x509.Certificate // chip, intermediate, root
	if len(b.Certificates) != len(chain) {
		return nil, errors.New("evidence without its certificates")
	}
	for i, der := range b.Certificates {
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, err
		}
	}
	bare := func() error {
		return errors.Join(verify.SnpReportSignature(b.Report, chain[0]), chain[0].CheckSignatureFrom(chain[1]), chain[1].CheckSignatureFrom(chain[2]))
	}
	if err := errors.Join(verifyAll(), bare()); err != nil {
		return nil, err
	}
	const count, rounds = 40, 7
	var whole, floor []float64
	for range rounds {
		floor = append(floor, own(count, func() { err = errors.Join(err, bare()) }))
		whole = append(whole, own(count, func() { err = errors.Join(err, verifyAll()) }))
	}
	allocs := mallocs(func() { err = errors.Join(err, verifyAll()) })
	return newResult("verify-evidence", median(whole)).floor(median(floor)).allocations(float64(allocs)), err
}
