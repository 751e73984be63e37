package machine

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// The revocation list that comes with a report takes the way of AMD's: it is looked
// up, in its time, and what stands in it is refused.
func TestRevocationList(t *testing.T) {
	t.Parallel()
	m, now := fast(t), time.Now()
	state, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	if m, err = decode(state); err != nil { // a service that starts again
		t.Fatal(err)
	}
	a, err := m.Evidence(attestation.PlatformSEVSNP, Measurement{}, [32]byte{}, [64]byte{}, now)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(list []attestation.Collateral, at time.Time) (*attestation.Claims, error) {
		b := &attestation.Bundle{Platform: a.Platform, Report: a.Report, Certificates: a.Certificates, Collateral: list}
		return attestation.Hardware(b, attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(m.Root().Raw)}}, at)
	}
	if c, err := verify(a.Collateral, now); err != nil || !c.RevocationChecked {
		t.Fatalf("claims %+v, %v", c, err)
	}
	refused := func(list []attestation.Collateral, at time.Time) {
		t.Helper()
		var e *attestation.Error
		if _, err := verify(list, at); !errors.As(err, &e) || e.Check != attestation.CheckRevocation {
			t.Errorf("got %v, want a refusal of check %q", err, attestation.CheckRevocation)
		}
	}
	refused(a.Collateral, now.Add(crlLife))
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(2), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), SignatureAlgorithm: x509.SHA384WithRSAPSS,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: m.ask.certificate.SerialNumber, RevocationTime: now}},
	}, m.ark.certificate, m.ark.key)
	if err != nil {
		t.Fatal(err)
	}
	refused([]attestation.Collateral{{Name: attestation.CollateralAMDCRL, Data: der}}, now)
}

// A list is given out for a day, then made anew; also where the clock goes back.
func TestRevocationListIsRenewed(t *testing.T) {
	t.Parallel()
	base, now := fast(t), time.Now()
	m := &Machine{ark: base.ark}
	issued := func(at time.Time) time.Time {
		t.Helper()
		list, err := m.Collateral(at)
		if err != nil {
			t.Fatal(err)
		}
		crl, err := x509.ParseRevocationList(list[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		return crl.ThisUpdate
	}
	first := issued(now)
	if same := issued(now.Add(crlFresh - time.Second)); !same.Equal(first) {
		t.Errorf("of %s within the day, before of %s", same, first)
	}
	if next := issued(now.Add(crlFresh)); !next.After(first) {
		t.Errorf("of %s a day later, before of %s", next, first)
	}
	if back := issued(now); !back.Equal(first) {
		t.Errorf("of %s where the clock went back, before of %s", back, first)
	}
}
