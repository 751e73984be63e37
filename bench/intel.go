package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"
	"github.com/google/go-tdx-guest/verify"

	"github.com/passclave/passclave/attestation"
)

// tdxRows measure the verification of a real machine's quote, without collateral:
// of certificates never seen before, and of known ones. The floor of both is what
// go-tdx-guest takes for chain and signatures.
func tdxRows() ([]*result, error) {
	const end = "-----END CERTIFICATE-----\n"
	quote := testdata.RawQuote[:bytes.LastIndex(testdata.RawQuote, []byte(end))+len(end)] // a remark follows there
	roots := x509.NewCertPool()
	for rest := quote; ; { // leaf, authority, root
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			roots.AddCert(c)
		}
	}
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) // its certificates' time, not ours
	bare := func() error {
		return verify.RawTdxQuote(quote, &verify.Options{TrustedRoots: roots, Now: &verify.TimeSet{PckCertChain: now}})
	}
	known := attestation.NewCache(64)
	first := func() error {
		_, err := attestation.VerifyTDX(quote, nil, attestation.Roots{}, now)
		return err
	}
	again := func() error {
		_, err := known.VerifyTDX(quote, nil, attestation.Roots{}, now)
		return err
	}
	if err := errors.Join(bare(), first(), again()); err != nil {
		return nil, err
	}
	const count, rounds = 40, 7
	var floor, whole, remembered []float64
	var err error
	for range rounds {
		floor = append(floor, own(count, func() { err = errors.Join(err, bare()) }))
		whole = append(whole, own(count, func() { err = errors.Join(err, first()) }))
		remembered = append(remembered, own(count, func() { err = errors.Join(err, again()) }))
	}
	return []*result{
		newResult("verify-tdx", median(whole)).floor(median(floor)).allocations(float64(mallocs(func() { err = errors.Join(err, first()) }))),
		newResult("verify-tdx-known", median(remembered)).floor(median(floor)),
	}, err
}
