package stack

import (
	"encoding/hex"
	"os"
	"strings"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// trustPolicy is what a client of this service pins: the development policy, with
// the measurement demanded unless it is nil. Where the founding made PINs cheaper
// than a production policy takes, it waives their cost by name ("test").
func (s *Stack) trustPolicy(measurement []byte) ([]byte, error) {
	file, err := os.ReadFile(s.path(configurationFile))
	if err != nil {
		return nil, err
	}
	c, err := wire.ParseConfiguration(file)
	if err != nil {
		return nil, err
	}
	p := policy.ForDevelopment(wire.Digest(s.facts.Root), wire.Digest(s.facts.Configuration), c.Ledger, s.facts.platform())
	if measurement != nil {
		p.Releases[0].Measurement = policy.Require(policy.Hex(measurement))
	}
	if a, least := c.PIN.Argon2id, policy.ProductionArgon2id; a.MemoryKiB < least.MemoryKiB || a.Time < least.Time {
		p.MinimumArgon2id = policy.Waive[policy.Argon2id]("test")
	}
	return p.Encode(), nil
}

// releasePolicy is what the broker asks of an enclave before it has the KEK.
func (s *Stack) releasePolicy(measurement []byte) []byte {
	configuration := hex.EncodeToString(s.facts.Configuration)
	claims := map[string]any{
		"x-passclave-simulated": true,
		"x-passclave-root":      hex.EncodeToString(s.facts.Root),
	}
	var measured string // the claim that has the measurement
	switch s.facts.platform() {
	case attestation.PlatformTDX:
		measured = "tdx_mrtd"
		claims["x-ms-attestation-type"] = "tdxvm"
		claims["tdx_td_attributes_debug"] = false
		claims["tdx_mrconfigid"] = configuration + strings.Repeat("00", 16)
	case attestation.PlatformSGX:
		measured = "x-ms-sgx-mrenclave"
		claims["x-ms-attestation-type"] = "sgx"
		claims["x-ms-sgx-is-debuggable"] = false
		claims["x-ms-sgx-config-id"] = configuration + strings.Repeat("00", 32)
	default:
		measured = "x-ms-sevsnpvm-launchmeasurement"
		claims["x-ms-attestation-type"] = "sevsnpvm"
		claims["x-ms-sevsnpvm-is-debuggable"] = false
		claims["x-ms-sevsnpvm-vmpl"] = 0
		claims["x-ms-sevsnpvm-hostdata"] = configuration
	}
	if measurement != nil {
		claims[measured] = hex.EncodeToString(measurement)
	}
	return releasepolicy.Require("https://"+s.facts.Broker, claims)
}
