package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/wire"
)

// What a cache has seen of genuine evidence makes no mixture of it genuine: each result
// is known by all that it depends on.

// alike demands the same verdict with a cache and without one, and returns it.
func alike(t *testing.T, what any, with, without error) error {
	t.Helper()
	var a, b *attestation.Error
	if errors.As(with, &a) != errors.As(without, &b) || a != nil && a.Check != b.Check {
		t.Errorf("%v: with a cache %v, without one %v", what, with, without)
	}
	return without
}

func TestCacheKnowsAllOfSNP(t *testing.T) {
	t.Parallel()
	now := time.Now()
	make2 := func(a *at.AMD) (*attestation.Bundle, attestation.Roots) {
		b, roots := a.Sign(t, nil)
		b.Collateral = []attestation.Collateral{a.CRL(t, b, now.Add(-time.Hour), now.Add(time.Hour))}
		return b, roots
	}
	one, roots := make2(at.NewAMD(t, "Milan", false))
	two, more := make2(at.NewAMD(t, "Milan", false).Rekeyed(t))
	roots.Simulation = append(roots.Simulation, more.Simulation...)
	known := attestation.NewCache(100)
	for _, b := range []*attestation.Bundle{one, two} {
		if _, err := known.Hardware(b, roots, now); err != nil {
			t.Fatal(err)
		}
	}
	from := [2]*attestation.Bundle{one, two}
	good := 0
	for i := range 1 << 5 {
		bit := func(n int) *attestation.Bundle { return from[i>>n&1] }
		b := &attestation.Bundle{
			Platform: one.Platform, Report: bit(0).Report, Collateral: bit(1).Collateral,
			Certificates: [][]byte{bit(2).Certificates[0], bit(3).Certificates[1], bit(4).Certificates[2]},
		}
		_, with := known.Hardware(b, roots, now)
		_, without := attestation.Hardware(b, roots, now)
		if alike(t, i, with, without) == nil {
			good++
		}
	}
	if good != 2 {
		t.Errorf("%d mixtures are genuine", good)
	}

	// One key, under which a report says that another kind or another processor has made it.
	first := bundle(t)
	roots = at.Roots(at.NewMachine(t))
	if _, err := known.Genuine(first, roots, now); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]at.Option{
		"VLEK": signedBy(abi.VlekReportSigner), "Genoa": at.With(func(r *sevsnp.Report) { r.Cpuid1EaxFms = 0x00a10f11 }),
	} {
		_, err := known.Genuine(bundle(t, o), roots, now)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckChain) })
	}
}

func TestCacheKnowsAllOfIntel(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		known := attestation.NewCache(200)
		with, without := known.VerifySGX, attestation.VerifySGX
		if tdx {
			with, without = known.VerifyTDX, attestation.VerifyTDX
		}
		m, other := newIntelMachine(t, tdx), newIntelMachine(t, tdx)
		quotes := [][]byte{m.report(t), other.report(t)}
		lists := [][]attestation.Collateral{m.collateral(t), other.collateral(t)}
		from := [][3][]byte{m.certificates, other.certificates}
		roots := attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(from[0][2]), sha256.Sum256(from[1][2])}}
		for i := range quotes {
			if _, err := with(quotes[i], lists[i], roots, intelNow); err != nil {
				t.Fatal(err)
			}
		}
		try := func(what any, quote []byte, list []attestation.Collateral) error {
			_, a := with(quote, list, roots, intelNow)
			_, b := without(quote, list, roots, intelNow)
			return alike(t, what, a, b)
		}
		for i := range 1 << 3 {
			m.chain = func([][]byte) [][]byte { return [][]byte{from[i&1][0], from[i>>1&1][1], from[i>>2&1][2]} }
			if err := try([]int{i}, m.report(t), nil); (err == nil) != (i == 0) {
				t.Errorf("chain %b: %v", i, err)
			}
		}
		// A second signer that Intel has certified: what the first has signed is not his.
		second := m.certify(t, m.tcb, m.root, p256(t), m.rootKey)
		for i, item := range lists[0] {
			changed := bytes.Replace(item.Data, []byte("2026-11"), []byte("2027-11"), 1)
			for j, data := range [][]byte{item.Data, lists[1][i].Data, changed} {
				issuers := [][][]byte{nil}
				if item.Issuer != nil {
					issuers = [][][]byte{item.Issuer, {lists[1][i].Issuer[0], item.Issuer[1]}, lists[1][i].Issuer, {second, item.Issuer[1]}}
				}
				for k, issuer := range issuers {
					list := slices.Clone(lists[0])
					list[i].Data, list[i].Issuer = data, issuer
					same := bytes.Equal(data, item.Data) && k == 0
					if err := try([]any{item.Name, j, k}, quotes[0], list); (err == nil) != same {
						t.Errorf("%s, content %d, issuer %d: %v", item.Name, j, k, err)
					}
				}
			}
		}
	})
}
