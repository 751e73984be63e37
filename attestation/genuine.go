package attestation

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/passclave/passclave/wire"
)

// Genuine verifies evidence: that real hardware, or a simulation whose root is
// named in roots, made this report, and that the report binds the bundle's runtime
// data and, where the bundle has one, its configuration. Certificates must be valid
// at now. Collateral, endorsements, host certificates and a security policy that the
// bundle carries must be right too; those that its platform does not have are not
// looked at and in no claim (see docs/attestation.md). A refusal is an [*Error] that
// names the first check which failed.
//
// It needs no network: the bundle must be complete. It keeps nothing: see [Cache].
//
// It does not decide whether the evidence should be accepted: any program on any
// machine of a known maker gives genuine evidence, and anybody can endorse a launch
// measurement under a root of his own. Neither measurement nor TCB, debug bit, host
// data, signer, endorser, purpose, nonce or configuration is compared with anything,
// and what the bundle leaves out is not missed.
func Genuine(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	return genuine(b, roots, now, nil)
}

// Hardware is [Genuine] without what binds runtime data: for evidence that others
// made, such as ACI's own files. RuntimeData and Configuration of the bundle are not
// looked at, nor are they in the claims: these say nothing about any key.
func Hardware(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	return hardware(b, roots, now, nil)
}

// Simulated reports whether a bundle's certificates end at a root that no hardware maker
// has, as a simulation's do, and a forger's. It is for whoever shows evidence and judges
// nothing: that it is not so does not make evidence genuine, nor is anything else verified.
func Simulated(b *Bundle, now time.Time) bool {
	_, err := Hardware(b, Roots{}, now) // which finds a strange root before what may be wrong under it
	return errors.Is(err, &Error{Check: CheckRoot})
}

func genuine(b *Bundle, roots Roots, now time.Time, known *Cache) (*Claims, error) {
	c, err := hardware(b, roots, now, known)
	if err != nil {
		return nil, err
	}
	if err := c.bind(b.RuntimeData, b.Configuration); err != nil {
		return nil, err
	}
	return c, nil
}

func hardware(b *Bundle, roots Roots, now time.Time, known *Cache) (*Claims, error) {
	switch b.Platform {
	case PlatformSEVSNP:
		return verifySNP(b, roots, now, known)
	case PlatformTDX:
		return known.verifyTDX(b, roots, now)
	case PlatformSGX:
		return known.VerifySGX(b.Report, b.Collateral, roots, now)
	case PlatformAzureAttestation:
		return verifyToken(b, roots, now)
	}
	return nil, differ(CheckPlatform, fmt.Sprint(Platforms()), b.Platform)
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
	if r.Purpose == PurposeEndorser {
		return nil // its configuration is of another kind: package ledger/endorser reads it
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
