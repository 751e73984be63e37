package attestation_test

import (
	"bytes"
	"fmt"
	"math/big"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// full returns evidence with all that SEV-SNP can carry.
func full(t testing.TB, measurement []byte) (*attestation.Bundle, attestation.Roots) {
	t.Helper()
	a := at.NewAMD(t, "Milan", false)
	b, roots := a.Sign(t, func(r *sevsnp.Report) { r.Measurement = measurement })
	now := time.Now()
	b.Collateral = []attestation.Collateral{a.CRL(t, b, now.Add(-time.Hour), now.Add(time.Hour), big.NewInt(9))}
	b.Endorsements = [][]byte{at.NewEndorser(t).Endorse(t, measurement, 5)}
	b.HostAMD, b.Certificates = at.HostAMD(t, b.Certificates, reportedTCB(b)), nil
	return b, roots
}

// A cache changes nothing but the time that it takes.
func TestCache(t *testing.T) {
	t.Parallel()
	b, roots := full(t, launch)
	now := time.Now()
	want, err := attestation.Hardware(b, roots, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []*attestation.Cache{nil, new(attestation.Cache), attestation.NewCache(1), attestation.NewCache(100)} {
		for range 3 {
			have, err := known.Hardware(b, roots, now)
			if err != nil || !reflect.DeepEqual(have, want) {
				t.Fatalf("%+v, %v", have, err)
			}
		}
	}
}

// What was good once is refused when it no longer is, or for who asks otherwise.
func TestCacheDoesNotWaive(t *testing.T) {
	t.Parallel()
	b, roots := full(t, launch)
	now := time.Now()
	known := attestation.NewCache(100)
	if _, err := known.Hardware(b, roots, now); err != nil {
		t.Fatal(err)
	}
	try := func(name string, want attestation.Check, when time.Time, roots attestation.Roots, change func(*attestation.Bundle)) {
		t.Helper()
		with := *b
		change(&with)
		_, err := known.Hardware(&with, roots, when)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, want) })
	}
	same := func(*attestation.Bundle) {}
	try("root not named", attestation.CheckRoot, now, attestation.Roots{}, same)
	try("certificates expired", attestation.CheckValidity, now.AddDate(7, 0, 0), roots, same)
	try("list expired", attestation.CheckRevocation, now.Add(2*time.Hour), roots, same)
	try("before the endorsement", attestation.CheckUVM, now.Add(-30*time.Minute), roots, same)
	try("another report", attestation.CheckSignature, now, roots, func(b *attestation.Bundle) {
		b.Report = bytes.Clone(b.Report)
		b.Report[0x50] ^= 1
	})
	try("another signature", attestation.CheckSignature, now, roots, func(b *attestation.Bundle) {
		b.Report = bytes.Clone(b.Report)
		b.Report[0x2a0] ^= 1
	})
	other, _ := full(t, bytes.Repeat([]byte{1}, 48))
	try("another's report", attestation.CheckSignature, now, roots, func(b *attestation.Bundle) { b.Report = other.Report })
	try("another's endorsement", attestation.CheckUVM, now, roots, func(b *attestation.Bundle) { b.Endorsements = other.Endorsements })
	try("another policy", attestation.CheckSecurityPolicy, now, roots, func(b *attestation.Bundle) { b.SecurityPolicy = launch })
}

// Runtime data is bound each time.
func TestCacheBinds(t *testing.T) {
	t.Parallel()
	b := bundle(t)
	known, roots := attestation.NewCache(10), at.Roots(at.NewMachine(t))
	if _, err := known.Genuine(b, roots, time.Now()); err != nil {
		t.Fatal(err)
	}
	b.RuntimeData = append(bytes.Clone(b.RuntimeData), ' ')
	_, err := known.Genuine(b, roots, time.Now())
	wantCheck(t, err, attestation.CheckReportData)
}

func TestCacheConcurrent(t *testing.T) {
	t.Parallel()
	var bundles []*attestation.Bundle
	var roots attestation.Roots
	for i := range 4 {
		b, r := full(t, bytes.Repeat([]byte{byte(i)}, 48))
		bundles, roots.Simulation = append(bundles, b), append(roots.Simulation, r.Simulation...)
	}
	known := attestation.NewCache(3) // too small: results come and go
	var wait sync.WaitGroup
	failed := make(chan error, 64)
	for i := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := range 6 {
				b := bundles[(i+j)%len(bundles)]
				c, err := known.Hardware(b, roots, time.Now())
				if err != nil || !bytes.Equal(c.Measurement, bytes.Repeat([]byte{byte((i + j) % len(bundles))}, 48)) {
					failed <- fmt.Errorf("%v", err)
				}
			}
		}()
	}
	wait.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}
