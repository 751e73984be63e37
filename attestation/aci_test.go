//go:build !js

package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// aciFolder holds real evidence from Azure Container Instances: in the folder
// PASSCLAVE_EVIDENCE, or beside the repository.
func aciFolder() string {
	folder := os.Getenv("PASSCLAVE_EVIDENCE")
	if folder == "" {
		folder = filepath.Join("..", "..", "shared", "evidence")
	}
	return filepath.Join(folder, "aci-snp")
}

// aciFile returns a file of it. Without it the test is skipped, but not in CI.
func aciFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(aciFolder(), name))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skipf("no real evidence: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// aciBundle returns the real set as a bundle.
func aciBundle(t *testing.T) *attestation.Bundle {
	t.Helper()
	aciFile(t, "report.bin") // skips
	b, err := aci.ReadFolder(os.DirFS(aciFolder()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var aciNow = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// The issuer of ACI's utility VMs.
const aciIssuer = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2"

// Real evidence of 2023 takes the same way as simulated evidence, to AMD's own root.
func TestRealEvidence(t *testing.T) {
	t.Parallel()
	b := aciBundle(t)
	c, err := attestation.Hardware(b, attestation.Roots{}, aciNow)
	if err != nil {
		t.Fatal(err)
	}
	hostData := sha256.Sum256(c.SecurityPolicy)
	if c.Simulated || c.Debug || c.Product != "Milan" || c.Signer != attestation.SignerVCEK || c.ReportVersion != 2 || c.RevocationChecked ||
		len(c.ChipID) != 64 || !bytes.Equal(c.HostData, hostData[:]) || !bytes.Equal(c.SecurityPolicy, b.SecurityPolicy) ||
		c.ReportedTCB != (attestation.TCB{Bootloader: 3, TEE: 0, SNP: 8, Microcode: 0x73}) || c.GuestSVN != 2 || c.RuntimeData != nil {
		t.Errorf("claims: %+v", c)
	}
	if u := c.UVM; u.Issuer != aciIssuer || u.Feed != "ContainerPlat-AMD-UVM" || u.SVN != 22 || date(u.Signed) != "2023-02-08T05:42:23Z" {
		t.Errorf("endorsement: %+v", u)
	}
	var dangers []string
	for _, d := range aci.Dangers(c.SecurityPolicy) {
		dangers = append(dangers, d.Rule)
	}
	for _, want := range []string{"create_container", "exec_in_container", "exec_external", "load_fragment", "mount_device"} {
		if !slices.Contains(dangers, want) {
			t.Errorf("the policy allows everything, but %s is not among its dangers: %v", want, dangers)
		}
	}

	// Real, but made by nobody of ours: it binds no runtime data.
	_, err = attestation.Genuine(b, attestation.Roots{}, aciNow)
	wantCheck(t, err, attestation.CheckReportData)
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func TestRealReportChanged(t *testing.T) {
	t.Parallel()
	b := aciBundle(t)
	report := b.Report
	for i := range report {
		b.Report = bytes.Clone(report)
		b.Report[i] ^= 1 << (i % 8)
		if _, err := attestation.Hardware(b, attestation.Roots{}, aciNow); err == nil {
			t.Fatalf("byte %#x changed: genuine", i)
		}
	}
}

// Every byte of the endorsement that is signed, and of the signature. What is not is
// the unprotected header: a time stamp that nothing hangs on.
func TestRealEndorsementChanged(t *testing.T) {
	t.Parallel()
	b := aciBundle(t)
	good := b.Endorsements[0]
	var parts []cbor.RawMessage
	var tag cbor.RawTag
	if err := cbor.Unmarshal(good, &tag); err != nil {
		t.Fatal(err)
	}
	if err := cbor.Unmarshal(tag.Content, &parts); err != nil {
		t.Fatal(err)
	}
	from := len(good) - len(parts[1]) - len(parts[2]) - len(parts[3])
	to := from + len(parts[1])
	known := attestation.NewCache(8)
	for i := range good {
		if from <= i && i < to {
			continue
		}
		changed := bytes.Clone(good)
		changed[i] ^= 1 << (i % 8)
		b.Endorsements = [][]byte{changed}
		_, err := known.Hardware(b, attestation.Roots{}, aciNow)
		if err == nil {
			t.Fatalf("byte %#x changed: genuine", i)
		}
		wantCheck(t, err, attestation.CheckUVM)
	}
}

func TestRealEvidenceAttacked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*attestation.Bundle)
		now    time.Time
		want   attestation.Check
	}{
		"certificates expired": {func(*attestation.Bundle) {}, time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC), attestation.CheckValidity},
		"not yet":              {func(*attestation.Bundle) {}, time.Date(2022, 11, 1, 0, 0, 0, 0, time.UTC), attestation.CheckValidity},
		"before its signature": {func(*attestation.Bundle) {}, time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC), attestation.CheckUVM},
		"another policy":       {func(b *attestation.Bundle) { b.SecurityPolicy = append(b.SecurityPolicy, '\n') }, aciNow, attestation.CheckSecurityPolicy},
		"another tcbm": {func(b *attestation.Bundle) {
			b.HostAMD = bytes.Replace(b.HostAMD, []byte("7308000000000003"), []byte("7308000000000004"), 1)
		}, aciNow, attestation.CheckHostAMD},
		"no certificates": {func(b *attestation.Bundle) { b.HostAMD = nil }, aciNow, attestation.CheckChain},
		"VCEK alone": {func(b *attestation.Bundle) {
			list, _, err := attestation.ParseHostAMD(b.HostAMD)
			if err == nil {
				b.Certificates = list[:1]
			}
		}, aciNow, attestation.CheckChain},
		"our endorser": {func(b *attestation.Bundle) {
			x := at.NewEndorser(t).Endorsement(b.Report[0x90:0xc0], 1000)
			x.Issuer = aciIssuer
			b.Endorsements[0] = at.NewEndorser(t).Sign(t, x)
		}, time.Now(), attestation.CheckUVM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := aciBundle(t)
			c.change(b)
			_, err := attestation.Hardware(b, attestation.Roots{}, c.now)
			wantCheck(t, err, c.want)
		})
	}
}

// Only a root that no maker has is called a simulation's: not hardware, not what lacks
// certificates, and not what is forged below a maker's root.
func TestSimulated(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	now := time.Now()
	incomplete, forged := aciBundle(t), aciBundle(t)
	incomplete.Certificates, incomplete.HostAMD = nil, nil
	forged.Report = bytes.Clone(forged.Report)
	forged.Report[0x90] ^= 1
	for name, test := range map[string]struct {
		b    *attestation.Bundle
		want bool
	}{
		"simulated SNP":    {at.Bundle(t, at.ClientData(t, file), file), true},
		"simulated TDX":    {at.TDXBundle(t, at.ReleaseData(t, file), file), true},
		"hardware":         {aciBundle(t), false},
		"no certificates":  {incomplete, false},
		"forged":           {forged, false},
		"without platform": {&attestation.Bundle{}, false},
	} {
		if got := attestation.Simulated(test.b, now); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
