package main

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"
	"github.com/veraison/go-cose"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/wire"
)

// verifyRows measures the full verification of SEV-SNP evidence beside the library's
// bare check of chain and signature, and a second one with known certificates: of
// another report (verify-snp-known), of the same evidence (verify-aci-known).
// verify-aci takes the real set of ../shared/evidence, or of PASSCLAVE_EVIDENCE, and
// is left out where there is none.
func verifyRows() ([]*result, error) {
	rows, err := snpRows()
	if err != nil {
		return nil, err
	}
	folder := os.Getenv("PASSCLAVE_EVIDENCE")
	if folder == "" {
		folder = filepath.Join("..", "shared", "evidence")
	}
	b, err := aci.ReadFolder(os.DirFS(filepath.Join(folder, "aci-snp")))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, aci.ErrNoReport) {
		say("verify-aci is left out: no real evidence in %s", folder)
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	more, err := aciRows(b)
	return append(rows, more...), err
}

// snpRows verifies many reports of one simulated machine, whose keys are as large as
// AMD's: what is measured never saw its report before.
func snpRows() ([]*result, error) {
	now := time.Now()
	m, err := machine.Found(now)
	if err != nil {
		return nil, err
	}
	roots := attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(m.Root().Raw)}}
	next := func() *attestation.Bundle {
		var data [64]byte
		rand.Read(data[:])
		report, certificates, e := m.Report([48]byte{}, [32]byte{}, data)
		err = errors.Join(err, e)
		return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report, Certificates: certificates}
	}
	check := func(e error) { err = errors.Join(err, e) }
	known := attestation.NewCache(2 * verifications)
	rows := measureVerification("verify-snp", check, next, func(b *attestation.Bundle) error {
		_, err := attestation.Hardware(b, roots, now)
		return err
	}, func(b *attestation.Bundle) error {
		_, err := known.Hardware(b, roots, now)
		return err
	}, func(b *attestation.Bundle) error { return bareSNP(b.Report, b.Certificates, now) })
	return rows, err
}

func aciRows(b *attestation.Bundle) (rows []*result, err error) {
	now := time.Now()
	certificates, _, err := attestation.ParseHostAMD(b.HostAMD)
	if err != nil {
		return nil, err
	}
	known := attestation.NewCache(16)
	check := func(e error) { err = errors.Join(err, e) }
	rows = measureVerification("verify-aci", check, func() *attestation.Bundle { return b }, func(b *attestation.Bundle) error {
		_, err := attestation.Hardware(b, attestation.Roots{}, now)
		return err
	}, func(b *attestation.Bundle) error {
		_, err := known.Hardware(b, attestation.Roots{}, now)
		return err
	}, func(b *attestation.Bundle) error {
		return errors.Join(bareSNP(b.Report, certificates, now), bareEndorsement(b.Endorsements[0]))
	})
	return rows, err
}

// verifications is how many of each kind make one round.
const verifications = 40

// measureVerification measures the whole, the whole with a cache, and the floor, in
// turn. next is called outside what is measured.
func measureVerification(name string, check func(error), next func() *attestation.Bundle, whole, again, bare func(*attestation.Bundle) error) []*result {
	const rounds = 7
	var costs [3][]float64
	check(again(next())) // from here on the certificates are known
	for range rounds {
		for i, f := range []func(*attestation.Bundle) error{bare, whole, again} {
			list := make([]*attestation.Bundle, 0, verifications)
			for range verifications {
				list = append(list, next())
			}
			costs[i] = append(costs[i], own(verifications, func() {
				check(f(list[0]))
				list = list[1:]
			}))
		}
	}
	b := next()
	allocs := mallocs(func() { check(whole(b)) })
	b = next()
	allocsAgain := mallocs(func() { check(again(b)) })
	floor := median(costs[0])
	return []*result{
		newResult(name, median(costs[1])).floor(floor).allocations(float64(allocs)),
		newResult(name+"-known", median(costs[2])).floor(floor).allocations(float64(allocsAgain)),
	}
}

// bareSNP is go-sev-guest's own check, which compares neither TCB nor chip.
func bareSNP(report []byte, certificates [][]byte, now time.Time) error {
	r, err := abi.ReportToProto(report)
	if err != nil {
		return err
	}
	ask, err := x509.ParseCertificate(certificates[1])
	if err != nil {
		return err
	}
	ark, err := x509.ParseCertificate(certificates[2])
	if err != nil {
		return err
	}
	root := trust.AMDRootCertsProduct("Milan")
	root.ProductCerts = &trust.ProductCerts{Ask: ask, Ark: ark}
	return verify.SnpAttestation(&sevsnp.Attestation{
		Report:           r,
		CertificateChain: &sevsnp.CertificateChain{VcekCert: certificates[0], AskCert: certificates[1], ArkCert: certificates[2]},
	}, &verify.Options{
		DisableCertFetching: true, Now: now, TrustedRoots: map[string][]*trust.AMDRootCerts{"Milan": {root}},
	})
}

// bareEndorsement checks the signatures of a UVM endorsement and of its chain.
func bareEndorsement(data []byte) error {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(data); err != nil {
		return err
	}
	list, _ := m.Headers.Protected[cose.HeaderLabelX5Chain].([]any)
	var chain []*x509.Certificate
	for _, v := range list {
		der, _ := v.([]byte)
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, c)
	}
	for i := range len(chain) - 1 {
		if err := chain[i].CheckSignatureFrom(chain[i+1]); err != nil {
			return err
		}
	}
	alg, err := m.Headers.Protected.Algorithm()
	if err != nil {
		return err
	}
	v, err := cose.NewVerifier(alg, chain[0].PublicKey)
	if err != nil {
		return err
	}
	return m.Verify(nil, v)
}
