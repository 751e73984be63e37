package aci

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/passclave/passclave/attestation"
)

// ErrNoReport says that a folder has no report, or one that is none.
var ErrNoReport = errors.New("no SEV-SNP report of 1184 bytes")

// reportSize is that of ATTESTATION_REPORT (AMD 56860).
const reportSize = 1184

// ReadFolder makes a bundle of a folder in ACI's layout: a report (report.bin,
// report-base64, report.base64, report.hex or report-hex) beside the files of the
// security context, named as ACI does (security-policy-base64, reference-info-base64,
// host-amd-cert-base64) or in the clear (security-policy.rego,
// uvm-reference-info.cose, host-amd-cert.json). All but the report may be missing.
//
// The bundle has no runtime data: attestation.Hardware verifies it, Genuine refuses
// it. Other files in the folder are not looked at.
func ReadFolder(folder fs.FS) (*attestation.Bundle, error) {
	report, err := oneOf(folder, reportFiles)
	if err != nil {
		return nil, err
	}
	if !IsFolder(folder) {
		return nil, fmt.Errorf("%w: no file of the folder is named report.bin, report-base64, report.base64, report.hex or report-hex", ErrNoReport)
	}
	if len(report) != reportSize {
		return nil, fmt.Errorf("%w, but %d", ErrNoReport, len(report))
	}
	b := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report}
	c, err := readContext(folder)
	if errors.Is(err, ErrNone) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	c.Complete(b)
	return b, nil
}

// IsFolder reports whether a folder looks like one that [ReadFolder] reads.
func IsFolder(folder fs.FS) bool {
	for _, f := range reportFiles {
		if _, err := fs.Stat(folder, f.name); err == nil {
			return true
		}
	}
	return false
}

// decodeHex reads hexadecimal in one case or the other, perhaps in lines.
func decodeHex(data []byte) ([]byte, error) {
	out, err := hex.DecodeString(strings.Join(strings.Fields(string(data)), ""))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	return out, nil
}
