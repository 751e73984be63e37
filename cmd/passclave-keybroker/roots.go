package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/passclave/passclave/attestation"
)

// evidenceRoots returns the hardware makers' roots, which always count, and, where
// a file is named, the simulation's.
func evidenceRoots(simulation string) (attestation.Roots, error) {
	var roots attestation.Roots
	if simulation == "" {
		return roots, nil
	}
	data, err := os.ReadFile(simulation)
	if err != nil {
		return roots, err
	}
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil || block.Type != "CERTIFICATE" {
			return roots, fmt.Errorf("%s: must hold PEM certificates and nothing else", simulation)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return roots, fmt.Errorf("%s: %w", simulation, err)
		}
		roots.Simulation = append(roots.Simulation, sha256.Sum256(block.Bytes))
	}
	if len(roots.Simulation) == 0 {
		return roots, fmt.Errorf("%s: no certificate", simulation)
	}
	return roots, nil
}
