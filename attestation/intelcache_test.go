package attestation_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-tdx-guest/verify"

	"github.com/passclave/passclave/attestation"
)

// sameVerdict verifies with and without a memory, which must agree, and for TDX with
// the library, which must not refuse what is found genuine.
func sameVerdict(t *testing.T, m *intelMachine, known *attestation.Cache, data []byte) {
	t.Helper()
	first, second := attestation.VerifySGX, known.VerifySGX
	if m.tdx {
		first, second = attestation.VerifyTDX, known.VerifyTDX
	}
	c, err := first(data, nil, m.roots(), intelNow)
	_, again := second(data, nil, m.roots(), intelNow)
	var a, b *attestation.Error
	if errors.As(err, &a) != errors.As(again, &b) || a != nil && a.Check != b.Check {
		t.Errorf("without a memory %v, with one %v", err, again)
	}
	if err != nil && a == nil {
		t.Errorf("no check: %v", err)
	}
	if err == nil && c.Intel == nil {
		t.Error("genuine without claims")
	}
}

// What it has seen before is judged anew: roots, times, revocation, and every quote.
func TestIntelCacheRemembersNoVerdict(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		m := newIntelMachine(t, tdx)
		v := attestation.NewCache(64)
		verify := v.VerifySGX
		if tdx {
			verify = v.VerifyTDX
		}
		report := m.report(t)
		good := m.collateral(t)
		for range 2 {
			if _, err := verify(report, good, m.roots(), intelNow); err != nil {
				t.Fatal(err)
			}
		}
		_, err := verify(report, good, attestation.Roots{}, intelNow)
		wantCheck(t, err, attestation.CheckRoot)
		_, err = verify(report, good, m.roots(), intelNow.AddDate(2, 0, 0))
		wantCheck(t, err, attestation.CheckValidity)
		_, err = verify(report, good, m.roots(), intelNow.AddDate(0, 1, 0))
		wantCheck(t, err, attestation.CheckTCBInfo)
		_, err = verify(report, good[1:], m.roots(), intelNow.AddDate(0, 1, 0))
		wantCheck(t, err, attestation.CheckQEIdentity)
		_, err = verify(report, good[2:], m.roots(), intelNow.AddDate(0, 1, 0))
		wantCheck(t, err, attestation.CheckRevocation)

		m.pckCRL.RevokedCertificateEntries = revoked(3)
		_, err = verify(report, m.collateral(t), m.roots(), intelNow)
		wantCheck(t, err, attestation.CheckRevocation)

		// A stranger's certificate under known authorities, a stranger's quoting enclave and
		// a stranger's signature of known content.
		known, roots := m.certificates, m.roots()
		m.chain = func([][]byte) [][]byte {
			return [][]byte{m.certify(t, m.pck, m.ca, m.pckKey, p256(t)), known[1], known[2]}
		}
		_, err = verify(m.report(t), nil, roots, intelNow)
		wantCheck(t, err, attestation.CheckChain)
		m.chain = func([][]byte) [][]byte { return known[:] }
		good2, pck := m.report(t), m.pckKey
		if _, err := verify(good2, nil, roots, intelNow); err != nil {
			t.Fatal(err)
		}
		m.pckKey = p256(t)
		_, err = verify(m.report(t), nil, roots, intelNow)
		wantCheck(t, err, attestation.CheckQE)
		m.pckKey, m.unbound = pck, true
		_, err = verify(m.report(t), nil, roots, intelNow)
		wantCheck(t, err, attestation.CheckQE)
		m.chain, m.unbound = nil, false
		report = m.report(t)
		if _, err := verify(report, nil, m.roots(), intelNow); err != nil {
			t.Fatal(err)
		}
		genuine := m.collateral(t)
		m.dataSigner = p256(t)
		_, err = verify(report, m.collateral(t)[:1], m.roots(), intelNow)
		wantCheck(t, err, attestation.CheckTCBInfo)
		forged := m.collateral(t) // the signature alone is another
		if _, err := verify(report, genuine[:2], m.roots(), intelNow); err != nil {
			t.Fatal(err)
		}
		forged[0].Issuer, forged[1].Issuer = genuine[0].Issuer, genuine[1].Issuer
		_, err = verify(report, forged[:1], m.roots(), intelNow)
		wantCheck(t, err, attestation.CheckTCBInfo)
		_, err = verify(report, forged[1:2], m.roots(), intelNow)
		wantCheck(t, err, attestation.CheckQEIdentity)

		// Known collateral, of which the issuer or the quote's root is another.
		strange := []attestation.Collateral{{Name: genuine[0].Name, Data: genuine[0].Data, Issuer: forged[1].Issuer[:1]}}
		_, err = verify(report, strange, m.roots(), intelNow)
		wantCheck(t, err, attestation.CheckTCBInfo)
		other := newIntelMachine(t, tdx)
		report = other.report(t)
		_, err = verify(report, genuine[:1], other.roots(), intelNow)
		wantCheck(t, err, attestation.CheckTCBInfo)
		_, err = verify(report, []attestation.Collateral{{Name: "pck-crl", Data: good[2].Data}}, other.roots(), intelNow)
		wantCheck(t, err, attestation.CheckRevocation)
		other.pck.ExtraExtensions[0] = pckExtension(t, "00906ed50001", "0000", 11, 5)
		_, err = verify(other.report(t), other.collateral(t)[:1], other.roots(), intelNow)
		wantCheck(t, err, attestation.CheckTCBInfo)
	})
}

// TCB info and QE identity may have one signer or two; one is verified once a bundle.
func TestCollateralSigners(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, false)
	report := m.report(t)
	one := m.collateral(t)
	m.tcbKey = p256(t)
	two := m.collateral(t)
	info, identity := one[0], one[1]
	identity.Issuer = info.Issuer
	for name, list := range map[string][]attestation.Collateral{"one": {info, identity}, "two": {info, two[1]}} {
		if _, err := m.verifyReport(report, list); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, issuer := range map[string][][]byte{
		"the other's": two[1].Issuer, "without the root": info.Issuer[:1], "under another root": {info.Issuer[0], two[1].Issuer[0]}, "none": nil,
	} {
		bad := attestation.Collateral{Name: identity.Name, Data: identity.Data, Issuer: issuer}
		_, err := m.verifyReport(report, []attestation.Collateral{info, bad})
		if t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckQEIdentity) }); t.Failed() {
			return
		}
	}
}

func TestIntelCacheConcurrent(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, true)
	report := m.report(t)
	collateral := m.collateral(t)
	v := attestation.NewCache(64)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 5 {
				if _, err := v.VerifyTDX(report, collateral, m.roots(), intelNow); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
}

// Collateral comes from strangers, as quotes do.
func FuzzIntelCollateral(f *testing.F) {
	m := newIntelMachine(f, true)
	report := m.report(f)
	for _, c := range m.collateral(f) {
		if _, err := m.verifyReport(report, []attestation.Collateral{c}); err != nil {
			f.Fatal(err)
		}
		f.Add(c.Name, c.Data)
	}
	issuer := m.collateral(f)[0].Issuer
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		_, err := m.verifyReport(report, []attestation.Collateral{{Name: name, Data: data, Issuer: issuer}})
		var e *attestation.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("no check: %v", err)
		}
	})
}

// BenchmarkIntel: the floor is what go-tdx-guest takes for the real quote.
func BenchmarkIntel(b *testing.B) {
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	roots := x509.NewCertPool()
	for rest := realQuote(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		roots.AppendCertsFromPEM(pem.EncodeToMemory(block))
	}
	run("library", func() error { return verify.RawTdxQuote(realQuote(), &verify.Options{TrustedRoots: roots}) })
	run("real", func() error {
		_, err := attestation.VerifyTDX(realQuote(), nil, attestation.Roots{}, realTime)
		return err
	})
	for name, tdx := range map[string]bool{"tdx": true, "sgx": false} {
		m, v := newIntelMachine(b, tdx), attestation.NewCache(64)
		report := m.report(b)
		collateral, roots := m.collateral(b), m.roots()
		again := v.VerifySGX
		if tdx {
			again = v.VerifyTDX
		}
		run(name+" first", func() error { _, err := m.verifyReport(report, nil); return err })
		run(name+" again", func() error { _, err := again(report, nil, roots, intelNow); return err })
		run(name+" first with collateral", func() error { _, err := m.verifyReport(report, collateral); return err })
		run(name+" again with collateral", func() error { _, err := again(report, collateral, roots, intelNow); return err })
	}
}
