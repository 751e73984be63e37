package policy

import (
	"bytes"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// testClaims is what genuine evidence of a Milan machine could say, made for a client.
func testClaims() *attestation.Claims {
	l := wire.LedgerIdentity{ID: fill(0x1d, 32), Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1}
	tcb := attestation.TCB{Bootloader: 4, SNP: 22, Microcode: 213}
	c := &attestation.Claims{
		Platform:      attestation.PlatformSEVSNP,
		Root:          wire.Digest(fill(0xa1, 32)),
		Time:          testNow,
		ReportVersion: 3,
		Product:       "Milan",
		Measurement:   fill(0x3e, 48),
		HostData:      fill(0xc0, 32),
		SMT:           true,
		SMTEnabled:    true,
		GuestSVN:      7,
		ReportedTCB:   tcb, CommittedTCB: tcb, CurrentTCB: tcb, LaunchTCB: tcb,
		ChipID:            fill(0xc1, 64),
		ConfigurationHash: wire.Digest(fill(0xc0, 32)),
		Configuration: &wire.Configuration{
			Version: wire.ConfigurationVersion, Ledger: l,
			PIN: wire.PINConfiguration{Argon2id: wire.Argon2id{MemoryKiB: 64 << 10, Time: 3, Parallelism: 1}},
		},
		RuntimeData: &attestation.RuntimeData{
			Purpose: attestation.PurposeClient,
			Config:  fill(0xc0, 32),
			Ledger:  &attestation.Ledger{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number},
		},
	}
	return c
}

// testPolicy names everything that testClaims say, and waives nothing.
func testPolicy() *TrustPolicy {
	return &TrustPolicy{
		Version:    Version,
		Name:       "Größe & <test>",
		Expires:    Require(testNow.Add(time.Hour)),
		Platforms:  []attestation.Platform{attestation.PlatformSEVSNP},
		Simulation: &Simulation{Roots: []Hex{fill(0x51, 32)}},
		Products:   []Product{{Name: "Milan", MinimumTCB: Require(attestation.TCB{Bootloader: 4, SNP: 22, Microcode: 213})}},
		ChipIDs:    []Hex{fill(0xc1, 64), fill(0xc2, 64)},
		Releases: []Release{{
			Name: "1.0", Measurement: Require(Hex(fill(0x3e, 48))), Configuration: Require(Hex(fill(0xc0, 32))),
			HostData: Require(HostDataConfiguration),
		}},
		Ledger:          Ledger{ID: Require(Hex(fill(0x1d, 32))), Genesis: make([]byte, 32), Number: 1, Backends: []string{wire.BackendLocal}},
		MinimumGuestSVN: 7,
		Debug:           Require(Forbidden),
		Migration:       Require(Forbidden),
		SMT:             Allowed,
		MaximumVMPL:     0,
		MinimumArgon2id: Require(ProductionArgon2id),
	}
}

// allFields are the fields of every judgement, in the order of Explain.
var allFields = []Field{
	FieldPurpose, FieldExpires, FieldPlatforms, FieldSimulation, FieldProducts, FieldTCB, FieldChipIDs,
	FieldMeasurement, FieldConfig, FieldHostData, FieldLedgerID, FieldLedgerOrigin, FieldLedgerNumber, FieldBackends,
	FieldGuestSVN, FieldDebug, FieldMigration, FieldSMT, FieldVMPL, FieldArgon2id,
}

func mustParse(t testing.TB, data []byte) *TrustPolicy {
	t.Helper()
	p, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
