package stack

import (
	"encoding/hex"
	"os"

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
	p := policy.ForDevelopment(wire.Digest(s.facts.Root), wire.Digest(s.facts.Configuration), c.Ledger)
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
	claims := map[string]any{
		"x-ms-attestation-type":       "sevsnpvm",
		"x-ms-sevsnpvm-is-debuggable": false,
		"x-ms-sevsnpvm-vmpl":          0,
		"x-ms-sevsnpvm-hostdata":      hex.EncodeToString(s.facts.Configuration),
		"x-passclave-simulated":       true,
		"x-passclave-root":            hex.EncodeToString(s.facts.Root),
	}
	if measurement != nil {
		claims["x-ms-sevsnpvm-launchmeasurement"] = hex.EncodeToString(measurement)
	}
	return releasepolicy.Require("https://"+s.facts.Broker, claims)
}
