package policy

import (
	"bytes"
	"fmt"

	"github.com/passclave/passclave/attestation"
)

// Release is one build of the enclave on one platform, with the measured
// configuration it runs under. Evidence must fit one release whole: the binary of
// one with the configuration of another is refused.
//
// What the enclave is, one of three members says: its measurement; on SEV-SNP an
// endorsement of the utility VM that was launched (the containers are then bound by
// host data); on SGX who signed it.
type Release struct {
	Name          string               `json:"name"`
	Platform      attestation.Platform `json:"platform"`
	Measurement   Rule[Hex]            `json:"measurement,omitzero"` // MEASUREMENT, MRTD: 48 bytes; MRENCLAVE: 32 bytes
	UVM           *UVM                 `json:"uvm,omitempty"`        // SEV-SNP
	Signer        *Signer              `json:"signer,omitempty"`     // SGX
	RTMRs         []Rule[Hex]          `json:"rtmrs,omitempty"`      // TDX: four, 48 bytes each
	Configuration Rule[Hex]            `json:"configuration"`        // SHA-256 of the measured configuration's file
	HostData      Rule[string]         `json:"host_data"`            // HostDataConfiguration, or HOST_DATA (32 bytes), MRCONFIGID (48), CONFIGID (64) in hexadecimal
}

// HostDataConfiguration as a release's host data demands that it be the hash of the
// measured configuration, filled up with zeros to the platform's size. Where a
// launch policy measures the configuration (ACI: the CCE policy), the release has
// the hash of that policy instead.
const HostDataConfiguration = "configuration"

// UVM says whose endorsements of launch measurements are accepted.
type UVM struct {
	Issuer     string `json:"issuer"` // did:x509
	Feed       string `json:"feed"`   // "ContainerPlat-AMD-UVM"
	MinimumSVN uint64 `json:"minimum_svn"`
}

// Signer says whose enclaves are accepted.
type Signer struct {
	MRSigner   Hex    `json:"mrsigner"` // SHA-256 of the signing key's modulus, 32 bytes
	ProductID  uint16 `json:"product_id"`
	MinimumSVN uint16 `json:"minimum_svn"`
}

func (u UVM) String() string {
	return fmt.Sprintf("endorsed by %s, feed %s, SVN at least %d", u.Issuer, u.Feed, u.MinimumSVN)
}

func (s Signer) String() string {
	return fmt.Sprintf("signed by %s, product %d, SVN at least %d", s.MRSigner, s.ProductID, s.MinimumSVN)
}

// identity is the field that says what the enclave is.
func (r Release) identity() Field {
	switch {
	case r.UVM != nil:
		return FieldUVM
	case r.Signer != nil:
		return FieldSigner
	}
	return FieldMeasurement
}

func (r Release) showIdentity() string {
	switch {
	case r.UVM != nil:
		return r.UVM.String()
	case r.Signer != nil:
		return r.Signer.String()
	}
	return showRule(r.Measurement, Hex.String)
}

// coversIdentity reports whether x accepts every enclave that y accepts.
func coversIdentity(x, y Release) bool {
	if x.identity() != y.identity() {
		return x.Measurement.Waived != ""
	}
	switch {
	case x.UVM != nil:
		return x.UVM.Issuer == y.UVM.Issuer && x.UVM.Feed == y.UVM.Feed && x.UVM.MinimumSVN <= y.UVM.MinimumSVN
	case x.Signer != nil:
		return bytes.Equal(x.Signer.MRSigner, y.Signer.MRSigner) && x.Signer.ProductID == y.Signer.ProductID &&
			x.Signer.MinimumSVN <= y.Signer.MinimumSVN
	}
	return coversRule(x.Measurement, y.Measurement, Hex.String)
}

// String shows a release in one line.
func (r Release) String() string {
	s := string(r.Platform) + ": " + string(r.identity()) + " " + r.showIdentity()
	for i, m := range r.RTMRs {
		s += fmt.Sprintf(", rtmr%d %s", i, showRule(m, Hex.String))
	}
	return s + ", configuration " + showRule(r.Configuration, Hex.String) + ", host_data " + showRule(r.HostData, show[string])
}
