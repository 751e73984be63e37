package policy

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// scene is everything that a judgement depends on.
type scene struct {
	c       *attestation.Claims
	p       *TrustPolicy
	purpose string
	now     time.Time
}

func newScene() *scene {
	return &scene{testClaims(), testPolicy(), attestation.PurposeClient, testNow}
}

// refused returns the fields that Accept refuses, and fails the test where Accept,
// its error and Explain disagree.
func (s *scene) refused(t *testing.T) []Field {
	t.Helper()
	var want []Finding
	for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
		if f.Verdict == Refused {
			want = append(want, f)
			if f.Remedy == "" || f.Expected == "" || f.Actual == "" || f.Expected == f.Actual {
				t.Errorf("%s does not explain itself: %+v", f.Field, f)
			}
		} else if f.Remedy != "" {
			t.Errorf("%s is not refused and has a remedy", f.Field)
		}
	}
	err := Accept(s.c, s.p, s.purpose, s.now)
	if err == nil {
		if want != nil {
			t.Fatalf("accepted, but explained as refused: %+v", want)
		}
		return nil
	}
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("refused with %T", err)
	}
	if !slices.Equal(r.Findings, want) {
		t.Fatalf("refused %+v, explained %+v", r.Findings, want)
	}
	return r.Fields()
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	s := newScene()
	if f := s.refused(t); f != nil {
		t.Fatalf("refused: %v", f)
	}
	var fields []Field
	for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
		fields = append(fields, f.Field)
		if f.Verdict != Accepted {
			t.Errorf("%s: %s", f.Field, f.Verdict)
		}
	}
	if !slices.Equal(fields, allFields) {
		t.Errorf("explained %v", fields)
	}
}

// attacks are evidence or policies that differ from what fits in one thing.
var attacks = []struct {
	name  string
	wrong func(*scene)
	want  []Field
}{
	{"other purpose", func(s *scene) { s.purpose = attestation.PurposeRelease }, []Field{FieldPurpose}},
	{"evidence for release shown to a client", func(s *scene) {
		s.c.RuntimeData.Purpose = attestation.PurposeRelease
	}, []Field{FieldPurpose}},
	{"no purpose on either side", func(s *scene) { s.purpose, s.c.RuntimeData.Purpose = "", "" }, []Field{FieldPurpose}},
	{"no runtime data, no purpose", func(s *scene) { s.purpose, s.c.RuntimeData = "", nil },
		[]Field{FieldPurpose, FieldRuntimeData, FieldHostData}},
	{"expired this second", func(s *scene) { s.now = s.p.Expires.Want }, []Field{FieldExpires}},
	{"expired long ago", func(s *scene) { s.now = s.p.Expires.Want.AddDate(9, 0, 0) }, []Field{FieldExpires}},
	{"other platform", func(s *scene) { s.c.Platform = attestation.PlatformTDX }, []Field{FieldPlatforms, FieldHostData}},
	{"no platform", func(s *scene) { s.c.Platform = "" }, []Field{FieldPlatforms}},
	{"a token", func(s *scene) { s.c.Token = &attestation.Token{Issuer: "https://maa.test"} }, []Field{FieldServices}},
	{"a token without issuer", func(s *scene) { s.c.Token = &attestation.Token{} }, []Field{FieldServices}},
	{"no revocation list", func(s *scene) { s.c.RevocationChecked = false }, []Field{FieldRevocation}},
	{"vlek", func(s *scene) { s.c.Signer = attestation.SignerVLEK }, []Field{FieldSigners, FieldProviders}},
	{"another cloud's vlek", func(s *scene) { vlek(s); s.c.SNP.CSP = "other" }, []Field{FieldProviders}},
	{"nobody's vlek", func(s *scene) { vlek(s); s.c.SNP.CSP = "" }, []Field{FieldProviders}},
	{"author key not enabled", func(s *scene) { s.c.SNP.AuthorKey = false }, []Field{FieldAuthorKeys}},
	{"one permission more", func(s *scene) { s.c.SNP.Policy |= 1 << 23 }, []Field{FieldGuestPolicy}},
	{"one permission less", func(s *scene) { s.c.SNP.Policy &^= 1 << 17 }, []Field{FieldGuestPolicy}},
	{"no alias check", func(s *scene) { s.c.SNP.PlatformInfo &^= 0x20 }, []Field{FieldPlatformInfo}},
	{"unknown machine setting", func(s *scene) { s.c.SNP.PlatformInfo |= 0x40 }, []Field{FieldPlatformInfo}},
	{"not mitigated at launch", func(s *scene) { s.c.SNP.LaunchMitigation = 5 }, []Field{FieldMitigations}},
	{"not mitigated now", func(s *scene) { s.c.SNP.CurrentMitigation = 5 }, []Field{FieldMitigations}},
	{"nothing of the report", func(s *scene) { s.c.SNP = nil }, []Field{FieldGuestPolicy, FieldPlatformInfo, FieldMitigations}},
	{"no signer", func(s *scene) { s.c.Signer = "" }, []Field{FieldSigners}},
	{"vlek alone is named", func(s *scene) {
		s.p.ReportSigners, s.p.VLEKProviders = []string{attestation.SignerVLEK}, []string{"cloud"}
	}, []Field{FieldSigners}},
	{"other ID key", func(s *scene) { s.c.IDKeyDigest[0] ^= 1 }, []Field{FieldIDKeys}},
	{"no ID key", func(s *scene) { s.c.IDKeyDigest = make([]byte, 48) }, []Field{FieldIDKeys}},
	{"other author", func(s *scene) { s.c.AuthorKeyDigest[0] ^= 1 }, []Field{FieldAuthorKeys}},
	{"other family", func(s *scene) { s.c.FamilyID[0] ^= 1 }, []Field{FieldFamilyIDs}},
	{"other image", func(s *scene) { s.c.ImageID[0] ^= 1 }, []Field{FieldImageIDs}},
	{"no endorsement", func(s *scene) { s.p.Releases[0].Measurement, s.p.Releases[0].UVM = Rule[Hex]{}, testUVM() }, []Field{FieldUVM}},
	{"simulated, root not named", func(s *scene) { s.c.Simulated = true }, []Field{FieldSimulation}},
	{"simulated, no simulation in the policy", func(s *scene) {
		s.c.Simulated, s.p.Simulation = true, nil
	}, []Field{FieldSimulation}},
	{"other product", func(s *scene) { s.c.Product = "Genoa" }, []Field{FieldProducts}},
	{"no product", func(s *scene) { s.c.Product = "" }, []Field{FieldProducts}},
	{"product by case", func(s *scene) { s.c.Product = "milan" }, []Field{FieldProducts}},
	{"reported bootloader", func(s *scene) { s.c.ReportedTCB.Bootloader-- }, []Field{FieldTCB}},
	{"reported tee", func(s *scene) { s.p.Products[0].MinimumTCB.Want.TEE = 1 }, []Field{FieldTCB}},
	{"reported snp", func(s *scene) { s.c.ReportedTCB.SNP-- }, []Field{FieldTCB}},
	{"reported microcode", func(s *scene) { s.c.ReportedTCB.Microcode-- }, []Field{FieldTCB}},
	{"committed bootloader", func(s *scene) { s.c.CommittedTCB.Bootloader-- }, []Field{FieldTCB}},
	{"committed snp", func(s *scene) { s.c.CommittedTCB.SNP-- }, []Field{FieldTCB}},
	{"current microcode", func(s *scene) { s.c.CurrentTCB.Microcode-- }, []Field{FieldTCB}},
	{"launch snp", func(s *scene) { s.c.LaunchTCB.SNP-- }, []Field{FieldTCB}},
	{"launch tee", func(s *scene) {
		s.p.Products[0].MinimumTCB.Want.TEE = 1
		s.c.ReportedTCB.TEE, s.c.CommittedTCB.TEE, s.c.CurrentTCB.TEE = 1, 1, 1
	}, []Field{FieldTCB}},
	{"floor of the other product", func(s *scene) {
		s.p.Products = append([]Product{{"Genoa", Waive[attestation.TCB]("test")}}, s.p.Products...)
		s.c.ReportedTCB.SNP--
	}, []Field{FieldTCB}},
	{"other chip", func(s *scene) { s.c.ChipID[0] ^= 1 }, []Field{FieldChipIDs}},
	{"hidden chip", func(s *scene) { s.c.ChipID = make([]byte, 64) }, []Field{FieldChipIDs}},
	{"no chip", func(s *scene) { s.c.ChipID = nil }, []Field{FieldChipIDs}},
	{"other measurement", func(s *scene) { s.c.Measurement[47] ^= 1 }, []Field{FieldMeasurement}},
	{"no measurement", func(s *scene) { s.c.Measurement = nil }, []Field{FieldMeasurement}},
	{"other configuration", func(s *scene) {
		s.c.ConfigurationHash[0] ^= 1
		s.c.HostData = s.c.ConfigurationHash[:]
	}, []Field{FieldConfig}},
	{"configuration without host data", func(s *scene) { s.c.ConfigurationHash[0] ^= 1 }, []Field{FieldConfig, FieldHostData}},
	{"no configuration file", func(s *scene) { s.c.Configuration = nil }, []Field{FieldConfig, FieldArgon2id}},
	{"other host data", func(s *scene) { s.c.HostData[0] ^= 1 }, []Field{FieldHostData}},
	{"no host data", func(s *scene) { s.c.HostData = nil }, []Field{FieldHostData}},
	{"other launch policy", func(s *scene) { s.p.Releases[0].HostData = Require(Hex(fill(0xcc, 32)).String()) }, []Field{FieldHostData}},
	{"other ledger", func(s *scene) { s.p.Ledger.ID.Want[0] ^= 1 }, []Field{FieldLedgerID}},
	{"other ledger in runtime data alone", func(s *scene) { s.c.RuntimeData.Ledger.ID = fill(9, 32) }, []Field{FieldLedgerID}},
	{"other ledger in the configuration alone", func(s *scene) { s.c.Configuration.Ledger.ID = fill(9, 32) }, []Field{FieldLedgerID}},
	{"two ledgers, waived", func(s *scene) {
		s.p.Ledger.ID = Waive[Hex]("test")
		s.c.RuntimeData.Ledger.ID = fill(9, 32)
	}, []Field{FieldLedgerID}},
	{"other genesis", func(s *scene) { s.p.Ledger.Genesis.Want[0] ^= 1 }, []Field{FieldLedgerOrigin}},
	{"other genesis in runtime data alone", func(s *scene) { s.c.RuntimeData.Ledger.Genesis = fill(9, 32) }, []Field{FieldLedgerOrigin}},
	{"other genesis in the configuration alone", func(s *scene) { s.c.Configuration.Ledger.Genesis = fill(9, 32) }, []Field{FieldLedgerOrigin}},
	{"founded again", func(s *scene) { s.p.Ledger.Number = 2 }, []Field{FieldLedgerNumber}},
	{"founded again in runtime data alone", func(s *scene) { s.c.RuntimeData.Ledger.Number = 2 }, []Field{FieldLedgerNumber}},
	{"founded again in the configuration alone", func(s *scene) { s.c.Configuration.Ledger.Number = 2 }, []Field{FieldLedgerNumber}},
	{"backend not named", func(s *scene) {
		s.c.RuntimeData.Ledger.Backend, s.c.Configuration.Ledger.Backend = "endorsed", "endorsed"
	}, []Field{FieldBackends}},
	{"other backend in runtime data alone", func(s *scene) { s.c.RuntimeData.Ledger.Backend = "endorsed" }, []Field{FieldBackends}},
	{"other backend in the configuration alone", func(s *scene) { s.c.Configuration.Ledger.Backend = "endorsed" }, []Field{FieldBackends}},
	{"no ledger in runtime data for a client", func(s *scene) {
		s.c.RuntimeData.Ledger = nil
	}, []Field{FieldLedgerID, FieldLedgerOrigin, FieldLedgerNumber, FieldBackends}},
	{"older guest", func(s *scene) { s.c.GuestSVN = 6 }, []Field{FieldGuestSVN}},
	{"debug", func(s *scene) { s.c.Debug = true }, []Field{FieldDebug}},
	{"migration", func(s *scene) { s.c.Migration = true }, []Field{FieldMigration}},
	{"smt", func(s *scene) { s.p.SMT = Forbidden }, []Field{FieldSMT}},
	{"vmpl", func(s *scene) { s.c.VMPL = 1 }, []Field{FieldVMPL}},
	{"report asked for by the host", func(s *scene) { s.p.MaximumVMPL, s.c.VMPL = 3, 0xffffffff }, []Field{FieldVMPL}},
	{"less memory", func(s *scene) { s.c.Configuration.PIN.Argon2id.MemoryKiB-- }, []Field{FieldArgon2id}},
	{"less time", func(s *scene) { s.c.Configuration.PIN.Argon2id.Time-- }, []Field{FieldArgon2id}},
	{"two things", func(s *scene) { s.c.Debug, s.c.VMPL = true, 2 }, []Field{FieldVMPL, FieldDebug}},

	{"no policy", func(s *scene) { s.p = nil }, []Field{FieldPolicy}},
	{"empty policy", func(s *scene) { s.p = &TrustPolicy{} }, []Field{FieldPolicy}},
	{"policy made in code, not whole", func(s *scene) { s.p.Debug.Want = Allowed }, []Field{FieldPolicy}},
}

// vlek has a cloud's key sign, which the policy accepts.
func vlek(s *scene) {
	s.c.Signer, s.c.SNP.CSP = attestation.SignerVLEK, "cloud"
	s.p.ReportSigners, s.p.VLEKProviders = []string{attestation.SignerVCEK, attestation.SignerVLEK}, []string{"cloud"}
}

func TestEachAttackGivesItsField(t *testing.T) {
	t.Parallel()
	tried := map[Field]bool{}
	for _, a := range attacks {
		s := newScene()
		a.wrong(s)
		if got := s.refused(t); !slices.Equal(got, a.want) {
			t.Errorf("%s: refused %v, want %v", a.name, got, a.want)
		}
		if len(a.want) == 1 {
			tried[a.want[0]] = true
		}
	}
	tried[FieldRuntimeData] = true // without it, nothing stands for the purpose either
	for _, f := range append(allFields, FieldPolicy) {
		if !tried[f] {
			t.Errorf("no attack is refused for %s alone", f)
		}
	}
}

func TestNothingIsAcceptedWithoutClaims(t *testing.T) {
	t.Parallel()
	for _, c := range []*attestation.Claims{nil, {}} {
		if err := Accept(c, testPolicy(), attestation.PurposeClient, testNow); err == nil {
			t.Error("accepted")
		}
	}
}

func TestAtTheLimit(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*scene){
		"second before the end": func(s *scene) { s.now = s.p.Expires.Want.Add(-time.Second) },
		"newer firmware":        func(s *scene) { s.c.ReportedTCB.Microcode++ },
		"newer guest":           func(s *scene) { s.c.GuestSVN++ },
		"second chip":           func(s *scene) { s.c.ChipID = fill(0xc2, 64) },
		"any chip":              func(s *scene) { s.c.ChipID, s.p.ChipIDs = make([]byte, 64), nil },
		"named simulation":      func(s *scene) { s.c.Simulated, s.c.Root = true, wire.Digest(fill(0x51, 32)) },
		"hardware alone":        func(s *scene) { s.p.Simulation = nil },
		"a cloud's key":         vlek,
		"smt off":               func(s *scene) { s.c.SMT, s.p.SMT = false, Forbidden },
		"vmpl at the limit":     func(s *scene) { s.c.VMPL, s.p.MaximumVMPL = 2, 2 },
		"dearer PIN":            func(s *scene) { s.c.Configuration.PIN.Argon2id.Time = 4 },
		"launch policy": func(s *scene) {
			s.c.HostData = fill(0xcc, 32)
			s.p.Releases[0].HostData = Require(Hex(fill(0xcc, 32)).String())
		},
		"for the key service": func(s *scene) {
			s.purpose = attestation.PurposeRelease
			s.c.RuntimeData = &attestation.RuntimeData{Purpose: s.purpose, Config: fill(0xc0, 32)}
		},
	} {
		s := newScene()
		change(s)
		if got := s.refused(t); got != nil {
			t.Errorf("%s: refused %v", name, got)
		}
		if got := len(Explain(s.c, s.p, s.purpose, s.now)); got != len(allFields) {
			t.Errorf("%s: %d findings", name, got)
		}
	}
}

// Where runtime data and configuration disagree, both are shown.
func TestDisagreementIsShown(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.c.RuntimeData.Ledger.Number = 2
	err := Accept(s.c, s.p, s.purpose, s.now)
	var r *Refusal
	if !errors.As(err, &r) || len(r.Findings) != 1 || r.Findings[0].Actual != "2 in the runtime data, 1 in the configuration" {
		t.Errorf("%v", err)
	}
	s.c.RuntimeData.Ledger, s.c.Configuration = nil, nil
	for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
		if f.Field == FieldLedgerNumber && (f.Verdict != Refused || f.Actual != none) {
			t.Errorf("%+v", f)
		}
	}
}

// Evidence for the key service names no ledger: the configuration's is judged, and
// without its file nothing stands for it.
func TestLedgerOfReleaseEvidence(t *testing.T) {
	t.Parallel()
	release := func() *scene {
		s := newScene()
		s.purpose = attestation.PurposeRelease
		s.c.RuntimeData = &attestation.RuntimeData{Purpose: s.purpose, Config: fill(0xc0, 32)}
		return s
	}
	s := release()
	s.p.Ledger.ID.Want[0] ^= 1
	if got := s.refused(t); !slices.Equal(got, []Field{FieldLedgerID}) {
		t.Errorf("other ledger: refused %v", got)
	}
	s = release()
	s.c.Configuration = nil
	s.p.Releases[0].Configuration, s.p.Ledger.ID = Waive[Hex]("test"), Waive[Hex]("test")
	s.p.MinimumArgon2id = Waive[Argon2id]("test")
	if got := s.refused(t); !slices.Equal(got, []Field{FieldLedgerID, FieldLedgerOrigin, FieldLedgerNumber, FieldBackends}) {
		t.Errorf("no ledger at all: refused %v", got)
	}
}

// Where nothing is there that could be wrong, no remedy says that it is another.
func TestRemedyWithoutRuntimeData(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.c.RuntimeData, s.c.Configuration, s.c.ConfigurationHash = nil, nil, wire.Digest{}
	var got []Field
	for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
		if f.Remedy == unboundRemedy {
			got = append(got, f.Field)
		}
	}
	if !slices.Equal(got, unboundFields) {
		t.Errorf("without runtime data: %v", got)
	}
	s = newScene()
	s.c.RuntimeData.Purpose = attestation.PurposeRelease
	for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
		if f.Remedy == unboundRemedy {
			t.Errorf("%s, with runtime data: %s", f.Field, f.Remedy)
		}
	}
}
