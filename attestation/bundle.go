package attestation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/passclave/passclave/wire"
)

// Platform is the kind of TEE, or of statement about one.
type Platform string

// Platforms that bundles have names for.
const (
	PlatformSEVSNP           Platform = "sev-snp"
	PlatformTDX              Platform = "tdx"
	PlatformSGX              Platform = "sgx"
	PlatformAzureAttestation Platform = "azure-attestation"
)

// Bundle is evidence with all that a third party needs to verify it later, offline.
// Nothing in it is trusted: [Genuine] says what holds.
type Bundle struct {
	Platform       Platform     `cbor:"1,keyasint"`
	Report         []byte       `cbor:"2,keyasint"`            // the hardware's report or quote, or a token, as made
	Certificates   [][]byte     `cbor:"3,keyasint,omitempty"`  // X.509 in DER: the key that signed the report first, the root last
	Endorsements   [][]byte     `cbor:"4,keyasint,omitempty"`  // COSE_Sign1 over launch measurements, as ACI's reference-info-base64 holds it
	HostAMD        []byte       `cbor:"5,keyasint,omitempty"`  // JSON of THIM, as ACI's host-amd-cert-base64 holds it: certificates and tcbm
	Collateral     []Collateral `cbor:"6,keyasint,omitempty"`  // revocation lists, TCB info, QE identity
	RuntimeData    []byte       `cbor:"7,keyasint,omitempty"`  // see RuntimeData
	Configuration  []byte       `cbor:"8,keyasint,omitempty"`  // the measured configuration's file
	SecurityPolicy []byte       `cbor:"9,keyasint,omitempty"`  // what HOST_DATA is the hash of, where that is not the configuration: CCE policy, initdata
	Time           uint64       `cbor:"10,keyasint,omitempty"` // Unix seconds when it was made, by the host's clock: proves nothing
}

// Collateral is one signed statement of the hardware's maker about its TCBs or
// certificates, as its service answers it.
type Collateral struct {
	Name   string   `cbor:"1,keyasint"` // its kind, by platform: docs/attestation.md
	Data   []byte   `cbor:"2,keyasint"`
	Issuer [][]byte `cbor:"3,keyasint,omitempty"` // X.509 in DER, leaf first
}

// BundleVersion is the only version of the bundle's format.
const BundleVersion = 1

// Limits of a bundle: bytes of the whole, and elements of each list.
const (
	MaxBundle = 1 << 20
	maxList   = 32
)

// versioned is the encoding of a bundle: the version can be read before the rest.
type versioned struct {
	Version uint64          `cbor:"1,keyasint"`
	Bundle  cbor.RawMessage `cbor:"2,keyasint"`
}

// Encode returns the bundle in deterministic CBOR.
func (b *Bundle) Encode() []byte {
	return wire.Marshal(versioned{Version: BundleVersion, Bundle: wire.Marshal(b)})
}

// ParseBundle decodes a bundle. Refusals are of [CheckBundle]. What is in it is
// checked by [Genuine] and nobody else.
func ParseBundle(data []byte) (*Bundle, error) {
	if len(data) > MaxBundle {
		return nil, refuse(CheckBundle, fmt.Errorf("%d bytes are more than %d", len(data), MaxBundle))
	}
	var v versioned
	if err := wire.Unmarshal(data, &v); err != nil {
		return nil, refuse(CheckBundle, err)
	}
	if v.Version != BundleVersion {
		return nil, differ(CheckBundle, fmt.Sprintf("version %d", BundleVersion), fmt.Sprintf("version %d", v.Version))
	}
	var b Bundle
	if err := wire.Unmarshal(v.Bundle, &b); err != nil {
		return nil, refuse(CheckBundle, err)
	}
	if len(b.Certificates) > maxList || len(b.Endorsements) > maxList || len(b.Collateral) > maxList {
		return nil, refuse(CheckBundle, fmt.Errorf("a list of more than %d elements", maxList))
	}
	return &b, nil
}

// Maker is a TEE's own interface to its hardware.
type Maker interface {
	// Make returns the platform's part of a bundle: a report over reportData, and
	// what goes with it. It may be slow.
	Make(ctx context.Context, reportData [64]byte) (*Bundle, error)
}

// Make makes evidence that binds runtime data. configuration is the measured
// configuration's file, whose hash the runtime data must have; now is noted in the
// bundle. It does not verify what the hardware answers.
func Make(ctx context.Context, m Maker, runtimeData, configuration []byte, now time.Time) (*Bundle, error) {
	r, err := ParseRuntimeData(runtimeData)
	if err != nil {
		return nil, err
	}
	if wire.Digest(r.Config) != wire.ConfigurationHash(configuration) {
		return nil, errors.New("runtime data for another configuration than the one given")
	}
	b, err := m.Make(ctx, ReportData(runtimeData))
	if err != nil {
		return nil, err
	}
	b.RuntimeData, b.Configuration, b.Time = runtimeData, configuration, uint64(now.Unix())
	return b, nil
}
