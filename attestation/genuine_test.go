package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/wire"
)

// wantCheck fails the test unless err is a refusal of exactly this check.
func wantCheck(t *testing.T, err error, want attestation.Check) {
	t.Helper()
	var e *attestation.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a refusal of check %q", err, want)
	}
	if e.Check != want {
		t.Fatalf("got check %q (%v), want %q", e.Check, err, want)
	}
}

func genuine(t *testing.T, b *attestation.Bundle) (*attestation.Claims, error) {
	t.Helper()
	return attestation.Genuine(b, at.Roots(at.NewMachine(t)), time.Now())
}

func TestGenuine(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	data := at.ClientData(t, file)
	data.Nonce = []byte("fresh")
	m := at.NewMachine(t)
	b := at.Bundle(t, data, file, at.GuestSVN(7), at.VMPL(1), at.Debug(), at.Migration(), at.NoSMT(), at.With(func(r *sevsnp.Report) {
		r.CommittedTcb, r.CurrentTcb, r.LaunchTcb = 0x0400000000000201, 0x0800000000000605, 0x0c00000000000a09
		r.FamilyId, r.ImageId = bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)
		r.IdKeyDigest, r.AuthorKeyDigest = bytes.Repeat([]byte{3}, 48), bytes.Repeat([]byte{4}, 48)
	}))
	parsed, err := attestation.ParseBundle(b.Encode())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c, err := attestation.Genuine(parsed, at.Roots(m), now)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(file)
	same := func(name string, got, want any) {
		if got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	same("platform", c.Platform, attestation.PlatformSEVSNP)
	same("simulated", c.Simulated, true)
	same("root", c.Root, wire.Digest(sha256.Sum256(m.Root().Raw)))
	same("time", c.Time, now)
	same("version", c.ReportVersion, uint32(3))
	same("product", c.Product, "Milan")
	same("measurement", string(c.Measurement), strings.Repeat("\x4d", 48))
	same("host data", string(c.HostData), string(hash[:]))
	same("report data", c.ReportData, attestation.ReportData(b.RuntimeData))
	same("guest SVN", c.GuestSVN, uint32(7))
	same("VMPL", c.VMPL, uint32(1))
	same("debug", c.Debug, true)
	same("migration", c.Migration, true)
	same("SMT allowed", c.SMT, false)
	same("SMT on", c.SMTEnabled, true)
	same("reported", c.ReportedTCB, attestation.TCB{Bootloader: 4, SNP: 24, Microcode: 219})
	same("committed", c.CommittedTCB, attestation.TCB{Bootloader: 1, TEE: 2, Microcode: 4})
	same("current", c.CurrentTCB, attestation.TCB{Bootloader: 5, TEE: 6, Microcode: 8})
	same("launch", c.LaunchTCB, attestation.TCB{Bootloader: 9, TEE: 10, Microcode: 12})
	same("chip", len(c.ChipID), 64)
	same("family", string(c.FamilyID), strings.Repeat("\x01", 16))
	same("image", string(c.ImageID), strings.Repeat("\x02", 16))
	same("ID key", string(c.IDKeyDigest), strings.Repeat("\x03", 48))
	same("author key", string(c.AuthorKeyDigest), strings.Repeat("\x04", 48))
	same("nonce", string(c.RuntimeData.Nonce), "fresh")
	same("configuration hash", c.ConfigurationHash, wire.Digest(hash))
	again, err := c.Configuration.Encode()
	if err != nil || !bytes.Equal(again, file) {
		t.Errorf("configuration: %v", err)
	}
}

// An ordinary simulated guest is what a strict policy accepts.
func TestGenuineOrdinary(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	c, err := genuine(t, at.Bundle(t, at.ReleaseData(t, file), file))
	if err != nil {
		t.Fatal(err)
	}
	if c.Debug || c.Migration || !c.SMT || c.VMPL != 0 || c.ReportedTCB != c.CurrentTCB || c.ReportedTCB != c.CommittedTCB || c.ReportedTCB != c.LaunchTCB {
		t.Errorf("unexpected claims: %+v", c)
	}
	b := at.Bundle(t, at.ReleaseData(t, file), file)
	b.Configuration = nil
	c, err = genuine(t, b)
	if err != nil || c.Configuration != nil || c.ConfigurationHash != wire.ConfigurationHash(file) {
		t.Errorf("without a configuration: %v, %v", c, err)
	}
}

func TestGenuineRefusesOtherPlatforms(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	for p, want := range map[attestation.Platform]attestation.Check{
		"": attestation.CheckPlatform, "simulated": attestation.CheckPlatform, attestation.PlatformAzureAttestation: attestation.CheckToken,
		attestation.PlatformTDX: attestation.CheckReport, attestation.PlatformSGX: attestation.CheckReport, // a report of SEV-SNP is no quote
	} {
		b := at.Bundle(t, at.ClientData(t, file), file)
		b.Platform = p
		_, err := genuine(t, b)
		wantCheck(t, err, want)
	}
}

// Text from whoever made the evidence is shown as a literal: its escapes and lines are
// not a terminal's. Plain text stays as it is.
func TestErrorQuotesFreeText(t *testing.T) {
	t.Parallel()
	for platform, want := range map[attestation.Platform]string{
		"nitro":                               "nitro",
		"\x1b[2J\nattestation accepted\u202e": `"\x1b[2J\nattestation accepted\u202e"`,
		`"sev-snp"`:                           `"\"sev-snp\""`,
	} {
		_, err := genuine(t, &attestation.Bundle{Platform: platform})
		var e *attestation.Error
		if !errors.As(err, &e) || e.Check != attestation.CheckPlatform || e.Actual != want {
			t.Errorf("%q: %v", platform, err)
		}
	}
}

func TestGenuineBindsRuntimeData(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	data := at.ClientData(t, file)
	other := data
	other.Nonce = []byte("another")
	encoded, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}

	t.Run("other runtime data", func(t *testing.T) {
		t.Parallel()
		b := at.Bundle(t, data, file)
		b.RuntimeData = encoded
		_, err := genuine(t, b)
		wantCheck(t, err, attestation.CheckReportData)
	})
	t.Run("second half not zero", func(t *testing.T) {
		t.Parallel()
		_, err := genuine(t, at.Bundle(t, data, file, at.With(func(r *sevsnp.Report) { r.ReportData[63] = 1 })))
		wantCheck(t, err, attestation.CheckReportData)
	})
	t.Run("hash in the second half", func(t *testing.T) {
		t.Parallel()
		_, err := genuine(t, at.Bundle(t, data, file, at.With(func(r *sevsnp.Report) {
			r.ReportData = append(make([]byte, 32), r.ReportData[:32]...)
		})))
		wantCheck(t, err, attestation.CheckReportData)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		_, err := genuine(t, at.BundleOver(t, nil, file))
		wantCheck(t, err, attestation.CheckRuntimeData)
	})
	t.Run("not canonical", func(t *testing.T) {
		t.Parallel()
		_, err := genuine(t, at.BundleOver(t, append(encoded, ' '), file))
		wantCheck(t, err, attestation.CheckRuntimeData)
	})
}

func TestGenuineBindsConfiguration(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	c, err := wire.ParseConfiguration(file)
	if err != nil {
		t.Fatal(err)
	}
	c.PIN.LifetimeLimit++
	changed, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b := at.Bundle(t, at.ClientData(t, file), file)
	b.Configuration = changed
	_, err = genuine(t, b)
	wantCheck(t, err, attestation.CheckConfiguration)

	// A file that the evidence binds is still parsed strictly.
	data := at.ReleaseData(t, file)
	loose := append(bytes.Clone(file), '\n')
	hash := sha256.Sum256(loose)
	data.Config = hash[:]
	_, err = genuine(t, at.Bundle(t, data, loose))
	wantCheck(t, err, attestation.CheckConfiguration)
}

// An enclave that speaks of another ledger than it was measured with is broken.
func TestGenuineComparesLedger(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*attestation.Ledger){
		"id":      func(l *attestation.Ledger) { l.ID = bytes.Repeat([]byte{9}, 32) },
		"backend": func(l *attestation.Ledger) { l.Backend = "endorsed" },
		"genesis": func(l *attestation.Ledger) { l.Genesis = bytes.Repeat([]byte{9}, 32) },
		"number":  func(l *attestation.Ledger) { l.Number++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := at.Configuration(t)
			data := at.ClientData(t, file)
			change(data.Ledger)
			_, err := genuine(t, at.Bundle(t, data, file))
			wantCheck(t, err, attestation.CheckLedger)
		})
	}
}

func TestChecksAreDistinct(t *testing.T) {
	t.Parallel()
	for _, p := range attestation.Platforms() {
		seen := map[attestation.Check]bool{}
		for _, c := range attestation.Checks(p) {
			if c == "" || seen[c] {
				t.Errorf("%s: check %q stands twice or is empty", p, c)
			}
			seen[c] = true
		}
	}
	for _, c := range attestation.Checks(attestation.PlatformSEVSNP) {
		if !errors.Is(&attestation.Error{Check: c}, &attestation.Error{Check: c}) || errors.Is(&attestation.Error{Check: c}, &attestation.Error{Check: c + "x"}) {
			t.Errorf("errors.Is does not compare check %q", c)
		}
	}
}
