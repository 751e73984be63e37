package attestation_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee/machine"
)

// bundle returns genuine evidence, but for the options.
func bundle(t *testing.T, options ...at.Option) *attestation.Bundle {
	t.Helper()
	file := at.Configuration(t)
	return at.Bundle(t, at.ReleaseData(t, file), file, options...)
}

func TestSimulationMustBeNamed(t *testing.T) {
	t.Parallel()
	b := bundle(t)
	_, err := attestation.Genuine(b, attestation.Roots{}, time.Now())
	wantCheck(t, err, attestation.CheckRoot)

	roots := at.Roots(at.NewMachine(t))
	roots.Simulation[0][0] ^= 1
	_, err = attestation.Genuine(b, roots, time.Now())
	wantCheck(t, err, attestation.CheckRoot)
}

// Nothing that is signed can be changed, and no byte of the signature either.
func TestEveryByteOfReportCounts(t *testing.T) {
	t.Parallel()
	m, b := at.NewMachine(t), bundle(t)
	flip := func(i int, mask byte) attestation.Check {
		report := bytes.Clone(b.Report)
		report[i] ^= mask
		_, err := attestation.VerifySNP(report, b.Certificates, at.Roots(m), time.Now())
		if err == nil {
			t.Fatalf("byte %#x changed by %#x: genuine", i, mask)
		}
		var e *attestation.Error
		if !errors.As(err, &e) {
			t.Fatalf("byte %#x: %v has no check", i, err)
		}
		return e.Check
	}
	step := 1
	if runtime.GOOS == "js" { // where P-384 takes 20 times as long
		step = 37
	}
	for i := 0; i < len(b.Report); i += step {
		flip(i, 1<<(i%8))
	}
	for bit := range 8 { // the family, model and stepping, which go-sev-guest packs into fewer bits
		for i := 0x188; i < 0x18b; i++ {
			flip(i, 1<<bit)
		}
	}
	// Where the value is free, only the signature stands against a change.
	for name, i := range map[string]int{
		"guest SVN": 0x04, "debug": 0x0a, "family": 0x10, "image": 0x20, "VMPL": 0x30, "current TCB": 0x38, "report data": 0x50,
		"measurement": 0x90, "host data": 0xc0, "ID key": 0xe0, "author key": 0x110, "report ID": 0x140, "reported TCB": 0x180,
		"chip ID": 0x1a0, "committed TCB": 0x1e0, "launch TCB": 0x1f0, "R": 0x2a0, "S": 0x2a0 + 72,
	} {
		if c := flip(i, 1<<3); c != attestation.CheckSignature {
			t.Errorf("%s: refused by check %q, want %q", name, c, attestation.CheckSignature)
		}
	}
}

func TestReportForm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		option at.Option
		want   attestation.Check
	}{
		"version 1":             {at.With(func(r *sevsnp.Report) { r.Version = 1 }), attestation.CheckReport},
		"version 6":             {at.With(func(r *sevsnp.Report) { r.Version = 6 }), attestation.CheckReport},
		"product in version 2":  {at.Raw(func(b []byte) { b[0] = 2 }), attestation.CheckReport},
		"policy's reserved 1":   {at.With(func(r *sevsnp.Report) { r.Policy &^= 1 << 17 }), attestation.CheckReport},
		"policy's reserved 0":   {at.With(func(r *sevsnp.Report) { r.Policy |= 1 << 63 }), attestation.CheckReport},
		"reserved after signer": {at.Raw(func(b []byte) { b[0x4c] = 1 }), attestation.CheckReport},
		"reserved after CPUID":  {at.Raw(func(b []byte) { b[0x18b] = 1 }), attestation.CheckReport},
		"stepping's high bits":  {at.Raw(func(b []byte) { b[0x18a] |= 0x80 }), attestation.CheckReport},
		"reserved at the end":   {at.Raw(func(b []byte) { b[0x29f] = 1 }), attestation.CheckReport},
		"signature algorithm":   {at.Raw(func(b []byte) { b[0x34] = 2 }), attestation.CheckReport},
		"VLEK":                  {signedBy(abi.VlekReportSigner), attestation.CheckChain},
		"signed by nobody":      {signedBy(abi.NoneReportSigner), attestation.CheckSigner},
		"reserved signer":       {at.Raw(func(b []byte) { b[0x48] = 2 << 2 }), attestation.CheckReport},
		"Turin, Milan's ASK":    {at.With(func(r *sevsnp.Report) { r.Cpuid1EaxFms = 0x00b00f21 }), attestation.CheckChain},
		"mitigations too early": {at.Raw(func(b []byte) { b[0x1f8] = 1 }), attestation.CheckReport},
		"unknown product":       {at.With(func(r *sevsnp.Report) { r.Cpuid1EaxFms = 0x00800f11 }), attestation.CheckPlatform},
		"Genoa, Milan's ASK":    {at.With(func(r *sevsnp.Report) { r.Cpuid1EaxFms = 0x00a10f11 }), attestation.CheckChain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := genuine(t, bundle(t, c.option))
			wantCheck(t, err, c.want)
		})
	}
	for _, cut := range []int{0, 1, abi.ReportSize - 1, abi.ReportSize + 1} {
		t.Run(fmt.Sprintf("%d bytes", cut), func(t *testing.T) {
			t.Parallel()
			b := bundle(t)
			b.Report = append(b.Report, 0)[:cut]
			_, err := genuine(t, b)
			wantCheck(t, err, attestation.CheckReport)
		})
	}
}

func signedBy(key abi.ReportSigner) at.Option {
	return at.With(func(r *sevsnp.Report) { r.SignerInfo = abi.ComposeSignerInfo(abi.SignerInfo{SigningKey: key}) })
}

// version2 is the version that ACI's machines still make. It does not name the product.
var version2 = at.With(func(r *sevsnp.Report) { r.Version, r.Cpuid1EaxFms = 2, 0 })

func TestReportVersion2(t *testing.T) {
	t.Parallel()
	c, err := genuine(t, bundle(t, version2))
	if err != nil || c.Product != "Milan" || c.ReportVersion != 2 {
		t.Errorf("version 2: %+v, %v", c, err)
	}
}

// go-sev-guest verifies these reports: the key has signed them.
func TestReportMustFitCertificate(t *testing.T) {
	t.Parallel()
	for name, i := range map[string]int{"bootloader": 0, "TEE": 1, "reserved": 2, "SNP": 6, "microcode": 7} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := genuine(t, bundle(t, at.With(func(r *sevsnp.Report) { r.ReportedTcb += 1 << (8 * i) })))
			wantCheck(t, err, attestation.CheckTCB)
		})
	}
	t.Run("chip", func(t *testing.T) {
		t.Parallel()
		_, err := genuine(t, bundle(t, at.With(func(r *sevsnp.Report) { r.ChipId[63] ^= 1 })))
		wantCheck(t, err, attestation.CheckChip)
	})
	t.Run("masked chip", func(t *testing.T) {
		t.Parallel()
		_, err := genuine(t, bundle(t, at.With(func(r *sevsnp.Report) {
			r.ChipId = make([]byte, 64)
			r.SignerInfo = abi.ComposeSignerInfo(abi.SignerInfo{MaskChipKey: true})
		})))
		wantCheck(t, err, attestation.CheckChip)
	})
}

func TestOtherChip(t *testing.T) {
	t.Parallel()
	chip := machine.Chip{ID: [64]byte{1}, TCB: machine.TCB{Bootloader: 1, TEE: 2, SNP: 3, Microcode: 4}}
	other, err := at.NewMachine(t).Certify(chip, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	b := bundle(t, at.On(other))
	c, err := genuine(t, b)
	if err != nil {
		t.Fatal(err)
	}
	if c.ReportedTCB != (attestation.TCB{Bootloader: 1, TEE: 2, SNP: 3, Microcode: 4}) || !bytes.Equal(c.ChipID, chip.ID[:]) {
		t.Errorf("claims of another chip: %+v", c)
	}
	// Its key does not sign for the first chip, nor the other way round.
	b.Certificates = at.NewMachine(t).Certificates()
	_, err = genuine(t, b)
	wantCheck(t, err, attestation.CheckSignature)
	if !errors.Is(err, &attestation.Error{Check: attestation.CheckTCB}) {
		t.Errorf("nothing about the other firmware: %v", err)
	}
	// A report that is changed elsewhere has the right certificate.
	b = bundle(t)
	b.Report[0x90] ^= 1 // MEASUREMENT
	_, err = genuine(t, b)
	wantCheck(t, err, attestation.CheckSignature)
	if errors.Is(err, &attestation.Error{Check: attestation.CheckTCB}) || errors.Is(err, &attestation.Error{Check: attestation.CheckChip}) {
		t.Errorf("the certificate is blamed: %v", err)
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	m := at.NewMachine(t)
	now := time.Now()
	b := bundle(t)
	for name, when := range map[string]time.Time{
		"zero": {}, "before": now.Add(-24 * time.Hour), "after": now.AddDate(7, 0, 1),
	} {
		_, err := attestation.Genuine(b, at.Roots(m), when)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckValidity) })
	}
	chip := machine.Chip{TCB: machine.TCB{SNP: 1}}
	expired, err := m.Certify(chip, now.Add(-48*time.Hour), now.Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	_, err = genuine(t, bundle(t, at.On(expired)))
	wantCheck(t, err, attestation.CheckValidity)
}
