package attestation_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/wire"
)

// What the simulated Intel makes is genuine under its root, with a platform that is up
// to date and certificates that were looked up; under no root, it is not.
func TestSimulatedIntel(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	hash := wire.ConfigurationHash(file)
	for _, b := range []*attestation.Bundle{
		at.TDXBundle(t, at.ClientData(t, file), file), at.SGXBundle(t, at.ClientData(t, file), file),
	} {
		c, err := attestation.Genuine(b, at.Roots(at.NewMachine(t)), time.Now())
		if err != nil {
			t.Fatalf("%s: %v", b.Platform, err)
		}
		if !c.Simulated || c.Debug || c.Intel.TCBStatus != intel.UpToDate || !c.RevocationChecked || !bytes.HasPrefix(c.HostData, hash[:]) ||
			bytes.Count(c.Measurement, []byte{0x4d}) != len(c.Measurement) {
			t.Errorf("%s: %+v, %+v", b.Platform, c, c.Intel)
		}
		if c, err := attestation.Genuine(b, attestation.Roots{}, time.Now()); err == nil {
			t.Errorf("%s without a root: %+v", b.Platform, c)
		} else {
			wantCheck(t, err, attestation.CheckRoot)
		}
	}
}
