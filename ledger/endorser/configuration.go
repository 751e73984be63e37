package endorser

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// Configuration is the measured configuration of an endorser: whom it believes. Its
// file is canonical JSON, as that of an enclave, and its SHA-256 stands in the
// evidence. All endorsers of a ledger have the same one.
type Configuration struct {
	Version      int                 `json:"version"`       // ConfigurationVersion
	Ledger       wire.Base64         `json:"ledger"`        // ledger ID, 32 bytes
	Number       uint64              `json:"number"`        // genesis, as wire.LedgerIdentity.Number
	Operator     wire.Base64         `json:"operator"`      // Ed25519 key that signs views
	ReleaseKey   wire.Base64         `json:"release_key"`   // Ed25519 key that signs releases of endorsers
	LeastRelease uint64              `json:"least_release"` // older ones are no successors
	Enclaves     *policy.TrustPolicy `json:"enclaves"`      // which enclaves may append
}

// ConfigurationVersion is the only version of the format.
const ConfigurationVersion = 1

// ParseConfiguration reads a configuration: exactly what [Configuration.Encode] gives
// for its content.
func ParseConfiguration(data []byte) (*Configuration, error) {
	var raw struct {
		Version      int             `json:"version"`
		Ledger       wire.Base64     `json:"ledger"`
		Number       uint64          `json:"number"`
		Operator     wire.Base64     `json:"operator"`
		ReleaseKey   wire.Base64     `json:"release_key"`
		LeastRelease uint64          `json:"least_release"`
		Enclaves     json.RawMessage `json:"enclaves"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&raw); err != nil {
		return nil, fmt.Errorf("endorser's configuration: %w", err)
	}
	p, err := policy.Parse(raw.Enclaves)
	if err != nil {
		return nil, fmt.Errorf("endorser's configuration: enclaves: %w", err)
	}
	c := &Configuration{
		Version: raw.Version, Ledger: raw.Ledger, Number: raw.Number, Operator: raw.Operator,
		ReleaseKey: raw.ReleaseKey, LeastRelease: raw.LeastRelease, Enclaves: p,
	}
	again, err := c.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("endorser's configuration: not in canonical form")
	}
	return c, nil
}

// Encode returns the canonical file, or why c is not a valid configuration.
func (c *Configuration) Encode() ([]byte, error) {
	var wrong string
	switch {
	case c.Version != ConfigurationVersion:
		wrong = fmt.Sprintf("version %d is not %d", c.Version, ConfigurationVersion)
	case len(c.Ledger) != 32:
		wrong = "ledger must be 32 bytes"
	case c.Number == 0:
		wrong = "number counts from 1"
	case len(c.Operator) != ed25519.PublicKeySize || len(c.ReleaseKey) != ed25519.PublicKeySize:
		wrong = "operator and release_key must be Ed25519 keys of 32 bytes"
	case c.Enclaves == nil:
		wrong = "enclaves: no trust policy: any enclave could append"
	}
	if wrong != "" {
		return nil, errors.New("endorser's configuration: " + wrong)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(c)
	return b.Bytes(), err
}
