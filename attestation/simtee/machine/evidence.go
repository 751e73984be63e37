package machine

import (
	"errors"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/attestation/simtee/intel"
)

// ErrPlatform says that a platform is none that this package simulates.
var ErrPlatform = errors.New("simulated hardware: no such platform")

// Platforms returns the platforms that a machine can be.
func Platforms() []attestation.Platform {
	return []attestation.Platform{attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX}
}

// Evidence makes what an ordinary guest of a platform gets, with complete collateral as
// of now. measurement, hostData and reportData are taken as they are given. hostData
// stands at the beginning of the platform's own field, the rest of which is zero:
// HOST_DATA, MRCONFIGID (48 bytes), CONFIGID (64 bytes).
func (m *Machine) Evidence(p attestation.Platform, measurement Measurement, hostData [32]byte, reportData [64]byte, now time.Time) (*simtee.Answer, error) {
	a := &simtee.Answer{Platform: p}
	var err error
	switch p {
	case attestation.PlatformSEVSNP:
		if a.Report, a.Certificates, err = m.Report(measurement.SHA384, hostData, reportData); err != nil {
			return nil, err
		}
		a.Collateral, err = m.Collateral(now)
		return a, err
	case attestation.PlatformTDX:
		r := m.intel.TD()
		r.MRTD, r.ReportData = measurement.SHA384, reportData
		copy(r.MRCONFIGID[:], hostData[:])
		a.Report, err = m.intel.Sign(m.intel.TDQuote(r))
	case attestation.PlatformSGX:
		r := m.intel.Enclave()
		r.MRENCLAVE, r.ReportData = measurement.SHA256, reportData
		copy(r.ConfigID[:], hostData[:])
		if a.Report, err = m.intel.Sign(m.intel.EnclaveQuote(r)); err == nil {
			a.Report = intel.OpenEnclave(a.Report)
		}
	default:
		return nil, ErrPlatform
	}
	if err != nil {
		return nil, err
	}
	a.Collateral, err = m.intel.Collateral(p, now)
	return a, err
}
