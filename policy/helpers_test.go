package policy

import (
	"bytes"
	"slices"
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
		Signer:            attestation.SignerVCEK,
		RevocationChecked: true,
		ChipID:            fill(0xc1, 64),
		FamilyID:          fill(0xfa, 16),
		ImageID:           fill(0x16, 16),
		IDKeyDigest:       fill(0x1e, 48),
		AuthorKeyDigest:   fill(0xae, 48),
		SNP: &attestation.SNP{
			Policy: 1<<16 | 1<<17 | 1<<22, PlatformInfo: 0x25, AuthorKey: true, LaunchMitigation: 7, CurrentMitigation: 7,
		},
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
		Revocation: Require(Required),
		SNP: &SNP{
			Products:            []Product{{Name: "Milan", MinimumTCB: Require(attestation.TCB{Bootloader: 4, SNP: 22, Microcode: 213})}},
			ChipIDs:             []Hex{fill(0xc1, 64), fill(0xc2, 64)},
			IDKeyDigests:        []Hex{fill(0x1e, 48), fill(0x2e, 48)},
			AuthorKeyDigests:    []Hex{fill(0xae, 48), fill(0xaf, 48)},
			FamilyIDs:           []Hex{fill(0xfa, 16), fill(0xfb, 16)},
			ImageIDs:            []Hex{fill(0x16, 16), fill(0x17, 16)},
			GuestPolicy:         &Flags{Required: 1 << 17, Allowed: 1<<17 | 1<<22},
			PlatformInfo:        &Flags{Required: 0x20, Allowed: 0x3f},
			RequiredMitigations: 3,
			MinimumGuestSVN:     7,
			Migration:           Require(Forbidden),
			SMT:                 Allowed,
			MaximumVMPL:         0,
		},
		Releases: []Release{{
			Name: "1.0", Platform: attestation.PlatformSEVSNP,
			Measurement: Require(Hex(fill(0x3e, 48))), Configuration: Require(Hex(fill(0xc0, 32))),
			HostData: Require(HostDataConfiguration),
		}},
		Ledger:          Ledger{ID: Require(Hex(fill(0x1d, 32))), Genesis: Require(Hex(make([]byte, 32))), Number: 1, Backends: []string{wire.BackendLocal}},
		Debug:           Require(Forbidden),
		MinimumArgon2id: Require(ProductionArgon2id),
	}
}

func tdxClaims() *attestation.Claims {
	c := testClaims()
	unSNP(c)
	c.Platform = attestation.PlatformTDX
	c.HostData = append(fill(0xc0, 32), make([]byte, 16)...)
	c.TDX = &attestation.TDX{
		RTMRs:  [4][]byte{fill(0x70, 48), fill(0x71, 48), fill(0x72, 48), fill(0x73, 48)},
		MRSEAM: fill(0x5e, 48), MRSignerSEAM: make([]byte, 48), MROwner: fill(0x0a, 48), MROwnerConfig: fill(0x0b, 48),
		Attributes: 1 << 28, XFAM: 0x618e7, TEETCBSVN: fill(3, 16),
	}
	c.Intel = testIntel()
	return c
}

func sgxClaims() *attestation.Claims {
	c := testClaims()
	unSNP(c)
	c.Platform = attestation.PlatformSGX
	c.Measurement = fill(0x3e, 32)
	c.HostData = append(fill(0xc0, 32), make([]byte, 32)...)
	c.SGX = &attestation.SGX{
		MRSigner: fill(0x56, 32), ProductID: 9, SVN: 4, ConfigSVN: 2, MiscSelect: 1, Attributes: 0x5, XFRM: 0xe7, CPUSVN: fill(1, 16),
	}
	c.Intel = testIntel()
	return c
}

func testIntel() *attestation.Intel {
	return &attestation.Intel{
		FMSPC: fill(0xf5, 6), TCBStatus: "UpToDate", TCBDate: testNow.AddDate(0, -3, 0), Advisories: []string{"INTEL-SA-1"},
		EvaluationNumber: 17,
	}
}

// unSNP takes away what other platforms do not have.
func unSNP(c *attestation.Claims) {
	none := attestation.TCB{}
	c.Product, c.Signer, c.SNP, c.SMT, c.SMTEnabled, c.GuestSVN = "", "", nil, false, false, 0
	c.ReportedTCB, c.CommittedTCB, c.CurrentTCB, c.LaunchTCB = none, none, none, none
	c.ChipID, c.FamilyID, c.ImageID, c.IDKeyDigest, c.AuthorKeyDigest = nil, nil, nil, nil, nil
}

func intelPolicy() *Intel {
	return &Intel{
		TCBStatus: Require([]string{"UpToDate", "SWHardeningNeeded"}), MinimumEvaluationNumber: 17,
		FMSPCs: []Hex{fill(0xf5, 6), fill(0xf6, 6)}, Advisories: []string{"INTEL-SA-1", "INTEL-SA-2"},
	}
}

func tdxPolicy() *TrustPolicy {
	p := testPolicy()
	p.SNP, p.Intel, p.Platforms = nil, intelPolicy(), []attestation.Platform{attestation.PlatformTDX}
	p.TDX = &TDX{
		MRSEAM: Require([]Hex{fill(0x5e, 48), fill(0x5f, 48)}), MRSignerSEAM: Require(Hex(make([]byte, 48))),
		MROwner: Require(Hex(fill(0x0a, 48))), MROwnerConfig: Require(Hex(fill(0x0b, 48))),
		Attributes: Require(Flags{Required: 1 << 28, Allowed: 1<<28 | 1<<30}), XFAM: Require(Flags{Required: 3, Allowed: 0x618e7}),
		MinimumTEETCBSVN: Require(Hex(fill(3, 16))),
	}
	p.Releases[0].Platform = attestation.PlatformTDX
	for i := range rtmrs {
		p.Releases[0].RTMRs = append(p.Releases[0].RTMRs, Require(Hex(fill(0x70+byte(i), 48))))
	}
	return p
}

func sgxPolicy() *TrustPolicy {
	p := testPolicy()
	p.SNP, p.Intel, p.Platforms = nil, intelPolicy(), []attestation.Platform{attestation.PlatformSGX}
	p.SGX = &SGX{
		Attributes: Require(Flags{Required: 0x5, Allowed: 0x85}), XFRM: Require(Flags{Required: 3, Allowed: 0xe7}),
		MiscSelect: Require(Flags{Allowed: 1}), MinimumConfigSVN: 2,
	}
	p.Releases[0].Platform, p.Releases[0].Measurement = attestation.PlatformSGX, Require(Hex(fill(0x3e, 32)))
	return p
}

// allPlatforms is a policy that names everything this version knows.
func allPlatforms() *TrustPolicy {
	p := twoReleases()
	p.Platforms = knownPlatforms
	p.AttestationServices = []AttestationService{{Issuer: "https://maa.test", Compliance: []string{"azure-compliant-uvm"}}, {Issuer: "https://other.test/x"}}
	p.ReportSigners, p.VLEKProviders = []string{"vcek", "vlek"}, []string{"cloud"}
	p.Intel, p.TDX, p.SGX = intelPolicy(), tdxPolicy().TDX, sgxPolicy().SGX
	p.Releases[1].Measurement, p.Releases[1].UVM = Rule[Hex]{}, testUVM()
	for i, r := range []Release{tdxPolicy().Releases[0], sgxPolicy().Releases[0], sgxPolicy().Releases[0]} {
		r.Name = []string{"1.0 tdx", "1.0 sgx", "1.x sgx"}[i]
		p.Releases = append(p.Releases, r)
	}
	last := &p.Releases[len(p.Releases)-1]
	last.Measurement, last.Signer = Rule[Hex]{}, testSigner()
	return p
}

func testUVM() *UVM {
	return &UVM{Issuer: "did:x509:0:sha256:A::eku:1.2", Feed: aciFeed, MinimumSVN: 100}
}

func testSigner() *Signer { return &Signer{MRSigner: fill(0x56, 32), ProductID: 9, MinimumSVN: 4} }

// Fields of every judgement, in the order of Explain.
var (
	fieldsBefore = []Field{FieldPurpose, FieldExpires, FieldPlatforms, FieldSimulation, FieldServices, FieldRuntimeData, FieldRevocation}
	fieldsAfter  = []Field{
		FieldConfig, FieldHostData, FieldLedgerID, FieldLedgerOrigin, FieldLedgerNumber, FieldBackends, FieldDebug, FieldArgon2id,
	}
	fieldsIntel = []Field{FieldTCBStatus, FieldEvaluation, FieldFMSPCs, FieldAdvisories}

	allFields = slices.Concat(fieldsBefore, []Field{
		FieldProducts, FieldTCB, FieldSigners, FieldProviders, FieldChipIDs, FieldIDKeys, FieldAuthorKeys, FieldFamilyIDs, FieldImageIDs,
		FieldGuestPolicy, FieldPlatformInfo, FieldMitigations,
		FieldGuestSVN, FieldMigration, FieldSMT, FieldVMPL, FieldMeasurement,
	}, fieldsAfter)
	tdxFields = slices.Concat(fieldsBefore, fieldsIntel, []Field{
		FieldMRSEAM, FieldMRSignerSEAM, FieldMROwner, FieldMROwnerConfig, FieldTDXAttributes, FieldXFAM, FieldTEETCBSVN, FieldMeasurement,
	}, fieldRTMR, fieldsAfter)
	sgxFields = slices.Concat(fieldsBefore, fieldsIntel, []Field{
		FieldSGXAttributes, FieldXFRM, FieldMiscSelect, FieldConfigSVN, FieldMeasurement,
	}, fieldsAfter)
)

func mustParse(t testing.TB, data []byte) *TrustPolicy {
	t.Helper()
	p, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
