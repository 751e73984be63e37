package attestation

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/passclave/passclave/wire"
)

// Genuine verifies evidence: that real hardware, or a simulation whose root is
// named in roots, made this report, and that the report binds the bundle's runtime
// data and, where the bundle has one, its configuration. Certificates must be valid
// at now. A refusal is an [*Error] that names the first check which failed.
//
// It needs no network: the bundle must be complete.
//
// It does not decide whether the evidence should be accepted: any program on any
// machine of a known maker gives genuine evidence. Neither measurement nor TCB,
// debug bit, host data, purpose, nonce or configuration is compared with anything. Of
// SEV-SNP revocation lists, endorsements of launch measurements and HostAMD are not read.
func Genuine(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	var c *Claims
	var err error
	switch b.Platform {
	case PlatformSEVSNP:
		c, err = verifySNP(b, roots, now)
	case PlatformTDX:
		c, err = verifyTDX(b, roots, now)
	case PlatformSGX:
		c, err = verifySGX(b, roots, now)
	case PlatformAzureAttestation:
		c, err = verifyToken(b, roots, now)
	default:
		err = differ(CheckPlatform, fmt.Sprint(Platforms()), b.Platform)
	}
	if err != nil {
		return nil, err
	}
	if err := c.bind(b.RuntimeData, b.Configuration); err != nil {
		return nil, err
	}
	return c, nil
}

// Platforms returns the platforms that bundles can be of.
func Platforms() []Platform {
	return []Platform{PlatformSEVSNP, PlatformTDX, PlatformSGX, PlatformAzureAttestation}
}

// bind adds what REPORT_DATA binds, the same for all platforms.
func (c *Claims) bind(runtimeData, configuration []byte) error {
	if want := ReportData(runtimeData); c.ReportData != want {
		return differ(CheckReportData, hex.EncodeToString(want[:]), hex.EncodeToString(c.ReportData[:]))
	}
	r, err := ParseRuntimeData(runtimeData)
	if err != nil {
		return err
	}
	c.RuntimeData, c.ConfigurationHash = r, wire.Digest(r.Config)
	if len(configuration) == 0 {
		return nil
	}
	if h := wire.ConfigurationHash(configuration); h != c.ConfigurationHash {
		return differ(CheckConfiguration, c.ConfigurationHash, h)
	}
	if c.Configuration, err = wire.ParseConfiguration(configuration); err != nil {
		return refuse(CheckConfiguration, err)
	}
	if l, m := r.Ledger, c.Configuration.Ledger; l != nil &&
		!(bytes.Equal(l.ID, m.ID) && l.Backend == m.Backend && bytes.Equal(l.Genesis, m.Genesis) && l.Number == m.Number) {
		return differ(CheckLedger, ledgerText(m.ID, m.Backend, m.Number), ledgerText(l.ID, l.Backend, l.Number))
	}
	return nil
}
