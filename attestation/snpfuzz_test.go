package attestation_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// What is read as THIM's JSON has three certificates and comes out the same when it is
// written again.
func FuzzHostAMD(f *testing.F) {
	seed := at.HostAMD(f, at.NewMachine(f).Certificates(), 0xdb18000000000004)
	if list, tcb, err := attestation.ParseHostAMD(seed); err != nil || len(list) != 3 || tcb != 0xdb18000000000004 {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"vcekCert":"","tcbm":"1","certificateChain":"","cacheControl":"1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, tcb, err := attestation.ParseHostAMD(data)
		if err != nil {
			wantCheck(t, err, attestation.CheckHostAMD)
			return
		}
		again, tcb2, err := attestation.ParseHostAMD(at.HostAMD(t, list, tcb))
		if err != nil || tcb2 != tcb || len(again) != 3 || !bytes.Equal(bytes.Join(again, nil), bytes.Join(list, nil)) {
			t.Errorf("%d certificates, %x, %v", len(again), tcb2, err)
		}
	})
}

// No bytes but those of the endorser are an endorsement under his name, up to what is
// not signed.
func FuzzEndorsement(f *testing.F) {
	e := at.NewEndorser(f)
	seed := e.Endorse(f, launch, 7)
	file := at.Configuration(f)
	b, roots, now := at.Bundle(f, at.ReleaseData(f, file), file), at.Roots(at.NewMachine(f)), time.Now()
	known := attestation.NewCache(8)
	verify := func(data []byte) (*attestation.Claims, error) {
		with := *b
		with.Endorsements = [][]byte{data}
		return known.Hardware(&with, roots, now)
	}
	if c, err := verify(seed); err != nil || c.UVM.SVN != 7 {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := verify(data)
		if err != nil {
			wantCheck(t, err, attestation.CheckUVM)
			return
		}
		if c.UVM.Issuer == e.Issuer(at.EKUACI) && c.UVM.SVN != 7 {
			t.Errorf("%+v", c.UVM)
		}
	})
}

// Revocation lists are the root's or refused.
func FuzzRevocationList(f *testing.F) {
	a := at.NewAMD(f, "Milan", false)
	b, roots := a.Sign(f, nil)
	now := time.Now()
	seed := a.CRL(f, b, now.Add(-time.Hour), now.Add(time.Hour), a.EK.SerialNumber)
	known := attestation.NewCache(8)
	verify := func(data []byte) (*attestation.Claims, error) {
		with := *b
		with.Collateral = []attestation.Collateral{{Name: attestation.CollateralAMDCRL, Data: data}}
		return known.Hardware(&with, roots, now)
	}
	if c, err := verify(seed.Data); err != nil || !c.RevocationChecked {
		f.Fatal(err)
	}
	f.Add(seed.Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := verify(data); err != nil {
			wantCheck(t, err, attestation.CheckRevocation)
		} else if !bytes.Equal(data, seed.Data) {
			t.Errorf("%x", data)
		}
	})
}
