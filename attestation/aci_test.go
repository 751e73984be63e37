//go:build !js

package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
)

// aci returns a file of real evidence from Azure Container Instances: in the folder
// PASSCLAVE_EVIDENCE, or beside the repository. Without it the test is skipped, but not in CI.
func aci(t *testing.T, name string) []byte {
	t.Helper()
	folder := os.Getenv("PASSCLAVE_EVIDENCE")
	if folder == "" {
		folder = filepath.Join("..", "..", "shared", "evidence")
	}
	data, err := os.ReadFile(filepath.Join(folder, "aci-snp", name))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skipf("no real evidence: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// aciCertificates returns VCEK, ASK and ARK as THIM hands them out.
func aciCertificates(t *testing.T) [][]byte {
	t.Helper()
	var thim struct{ VCEKCert, CertificateChain string }
	if err := json.Unmarshal(aci(t, "host-amd-cert.json"), &thim); err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	for rest := []byte(thim.VCEKCert + thim.CertificateChain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list
		}
		list = append(list, block.Bytes)
	}
}

// Real evidence of 2023 takes the same way as simulated evidence, to AMD's own root.
func TestRealEvidence(t *testing.T) {
	t.Parallel()
	report, certificates := aci(t, "report.bin"), aciCertificates(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	c, err := attestation.VerifySNP(report, certificates, attestation.Roots{}, now)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(aci(t, "security-policy-base64"))))
	if err != nil {
		t.Fatal(err)
	}
	hostData := sha256.Sum256(policy)
	if c.Simulated || c.Debug || c.Product != "Milan" || c.ReportVersion != 2 || !bytes.Equal(c.HostData, hostData[:]) ||
		c.ReportedTCB != (attestation.TCB{Bootloader: 3, TEE: 0, SNP: 8, Microcode: 0x73}) {
		t.Errorf("claims: %+v", c)
	}

	// Real, but made by nobody of ours: it binds no runtime data.
	_, err = attestation.Genuine(&attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report, Certificates: certificates}, attestation.Roots{}, now)
	wantCheck(t, err, attestation.CheckReportData)
}

func TestRealEvidenceChanged(t *testing.T) {
	t.Parallel()
	report, certificates := aci(t, "report.bin"), aciCertificates(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for i := range report {
		changed := bytes.Clone(report)
		changed[i] ^= 1 << (i % 8)
		_, err := attestation.VerifySNP(changed, certificates, attestation.Roots{}, now)
		if err == nil {
			t.Fatalf("byte %#x changed: genuine", i)
		}
	}
	_, err := attestation.VerifySNP(report, certificates, attestation.Roots{}, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC))
	wantCheck(t, err, attestation.CheckValidity)
	_, err = attestation.VerifySNP(report, certificates[:1], attestation.Roots{}, now)
	wantCheck(t, err, attestation.CheckChain)
}
