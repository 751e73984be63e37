package policy

import (
	"slices"
	"testing"

	"github.com/passclave/passclave/attestation"
)

func tdxScene() *scene {
	return &scene{tdxClaims(), tdxPolicy(), attestation.PurposeClient, testNow}
}

func sgxScene() *scene {
	return &scene{sgxClaims(), sgxPolicy(), attestation.PurposeClient, testNow}
}

// uvmScene is SEV-SNP on ACI: the utility VM endorsed, the containers in host data.
func uvmScene() *scene {
	s := newScene()
	s.p.Releases[0].Measurement, s.p.Releases[0].UVM = Rule[Hex]{}, testUVM()
	s.p.Releases[0].HostData = Require(Hex(fill(0xcc, 32)).String())
	s.c.HostData = fill(0xcc, 32)
	s.c.UVM = &attestation.UVM{Issuer: testUVM().Issuer, Feed: aciFeed, SVN: 100, Signed: testNow}
	return s
}

func signerScene() *scene {
	s := sgxScene()
	s.p.Releases[0].Measurement, s.p.Releases[0].Signer = Rule[Hex]{}, testSigner()
	return s
}

// tokenScene is an attestation service's word for SEV-SNP: it names no product line,
// no signing key and no chip.
func tokenScene() *scene {
	s := newScene()
	s.p.AttestationServices = []AttestationService{{Issuer: "https://maa.test", Compliance: []string{"azure-compliant-uvm", "azure-signed-katacc-uvm"}}}
	s.p.ChipIDs = nil
	s.c.Token = &attestation.Token{Issuer: "https://maa.test", Compliance: "azure-compliant-uvm", Expires: testNow}
	s.c.Product, s.c.Signer, s.c.RevocationChecked, s.c.ChipID = "", "", false, nil
	return s
}

var platformAttacks = []struct {
	name  string
	base  func() *scene
	wrong func(*scene)
	want  []Field
}{
	{"other platform", tdxScene, func(s *scene) { s.c.Platform = attestation.PlatformSEVSNP }, []Field{FieldPlatforms, FieldHostData}},
	{"debug", tdxScene, func(s *scene) { s.c.Debug, s.c.TDX.Attributes = true, s.c.TDX.Attributes|1 }, []Field{FieldDebug}},
	{"no collateral", tdxScene, func(s *scene) { *s.c.Intel = attestation.Intel{FMSPC: s.c.Intel.FMSPC} },
		[]Field{FieldTCBStatus, FieldEvaluation, FieldAdvisories}},
	{"unknown firmware", tdxScene, func(s *scene) { s.c.Intel.TCBStatus, s.p.Intel.Advisories = "", nil }, []Field{FieldTCBStatus}},
	{"unknown advisories", tdxScene, func(s *scene) {
		s.c.Intel.TCBStatus, s.c.Intel.Advisories, s.p.Intel.TCBStatus = "", nil, Waive[[]string]("test")
	}, []Field{FieldAdvisories}},
	{"unlisted advisory before a listed one", tdxScene, func(s *scene) { s.c.Intel.Advisories = []string{"INTEL-SA-0", "INTEL-SA-1"} }, []Field{FieldAdvisories}},
	{"old firmware", tdxScene, func(s *scene) { s.c.Intel.TCBStatus = "OutOfDate" }, []Field{FieldTCBStatus}},
	{"status by case", tdxScene, func(s *scene) { s.c.Intel.TCBStatus = "uptodate" }, []Field{FieldTCBStatus}},
	{"revoked", tdxScene, func(s *scene) { s.c.Intel.TCBStatus = "Revoked" }, []Field{FieldTCBStatus}},
	{"old collateral", tdxScene, func(s *scene) { s.c.Intel.EvaluationNumber-- }, []Field{FieldEvaluation}},
	{"other machine", tdxScene, func(s *scene) { s.c.Intel.FMSPC[5] ^= 1 }, []Field{FieldFMSPCs}},
	{"new advisory", tdxScene, func(s *scene) { s.c.Intel.Advisories = append(s.c.Intel.Advisories, "INTEL-SA-3") }, []Field{FieldAdvisories}},
	{"no advisory is listed", tdxScene, func(s *scene) { s.p.Intel.Advisories = []string{} }, []Field{FieldAdvisories}},
	{"no revocation list", tdxScene, func(s *scene) { s.c.RevocationChecked = false }, []Field{FieldRevocation}},
	{"nothing of Intel", tdxScene, func(s *scene) { s.c.Intel = nil },
		[]Field{FieldTCBStatus, FieldEvaluation, FieldFMSPCs, FieldAdvisories}},
	{"nothing of the TD", tdxScene, func(s *scene) { s.c.TDX = nil }, slices.Concat([]Field{
		FieldMRSEAM, FieldMRSignerSEAM, FieldMROwner, FieldMROwnerConfig, FieldTDXAttributes, FieldXFAM, FieldTEETCBSVN}, fieldRTMR)},
	{"nothing of the TD, everything allowed", tdxScene, func(s *scene) {
		s.p.TDX.Attributes, s.p.TDX.XFAM = Require(Flags{}), Require(Flags{})
		s.c.TDX = nil
	}, slices.Concat([]Field{
		FieldMRSEAM, FieldMRSignerSEAM, FieldMROwner, FieldMROwnerConfig, FieldTDXAttributes, FieldXFAM, FieldTEETCBSVN}, fieldRTMR)},
	{"other module", tdxScene, func(s *scene) { s.c.TDX.MRSEAM[0] ^= 1 }, []Field{FieldMRSEAM}},
	{"other module signer", tdxScene, func(s *scene) { s.c.TDX.MRSignerSEAM[0] ^= 1 }, []Field{FieldMRSignerSEAM}},
	{"other owner", tdxScene, func(s *scene) { s.c.TDX.MROwner[0] ^= 1 }, []Field{FieldMROwner}},
	{"other owner's configuration", tdxScene, func(s *scene) { s.c.TDX.MROwnerConfig[0] ^= 1 }, []Field{FieldMROwnerConfig}},
	{"no attribute", tdxScene, func(s *scene) { s.c.TDX.Attributes = 0 }, []Field{FieldTDXAttributes}},
	{"one attribute more", tdxScene, func(s *scene) { s.c.TDX.Attributes |= 1 << 29 }, []Field{FieldTDXAttributes}},
	{"one feature more", tdxScene, func(s *scene) { s.c.TDX.XFAM |= 1 << 63 }, []Field{FieldXFAM}},
	{"a feature that must be", tdxScene, func(s *scene) { s.c.TDX.XFAM &^= 1 }, []Field{FieldXFAM}},
	{"old module", tdxScene, func(s *scene) { s.c.TDX.TEETCBSVN[15]-- }, []Field{FieldTEETCBSVN}},
	{"no module version", tdxScene, func(s *scene) { s.c.TDX.TEETCBSVN = nil }, []Field{FieldTEETCBSVN}},
	{"other TD", tdxScene, func(s *scene) { s.c.Measurement[0] ^= 1 }, []Field{FieldMeasurement}},
	{"other firmware setup", tdxScene, func(s *scene) { s.c.TDX.RTMRs[0][0] ^= 1 }, []Field{FieldRTMR0}},
	{"other kernel", tdxScene, func(s *scene) { s.c.TDX.RTMRs[1][0] ^= 1 }, []Field{FieldRTMR1}},
	{"other command line", tdxScene, func(s *scene) { s.c.TDX.RTMRs[2][0] ^= 1 }, []Field{FieldRTMR2}},
	{"more at run time", tdxScene, func(s *scene) { s.c.TDX.RTMRs[3] = nil }, []Field{FieldRTMR3}},
	{"host data not filled up with zeros", tdxScene, func(s *scene) { s.c.HostData[47] = 1 }, []Field{FieldHostData}},
	{"host data of SNP's size", tdxScene, func(s *scene) { s.c.HostData = s.c.HostData[:32] }, []Field{FieldHostData}},

	{"other attributes", sgxScene, func(s *scene) { s.c.SGX.Attributes |= 0x10 }, []Field{FieldSGXAttributes}},
	{"debug enclave", sgxScene, func(s *scene) { s.c.Debug, s.c.SGX.Attributes = true, s.c.SGX.Attributes|2 }, []Field{FieldDebug}},
	{"one feature more, sgx", sgxScene, func(s *scene) { s.c.SGX.XFRM |= 1 << 40 }, []Field{FieldXFRM}},
	{"saves more", sgxScene, func(s *scene) { s.c.SGX.MiscSelect |= 2 }, []Field{FieldMiscSelect}},
	{"old configuration", sgxScene, func(s *scene) { s.c.SGX.ConfigSVN-- }, []Field{FieldConfigSVN}},
	{"no report", sgxScene, func(s *scene) {
		s.c.SGX, s.p.SGX = nil, &SGX{Attributes: Require(Flags{}), XFRM: Require(Flags{}), MiscSelect: Require(Flags{})}
	}, []Field{FieldSGXAttributes, FieldXFRM, FieldMiscSelect, FieldConfigSVN}},
	{"other enclave", sgxScene, func(s *scene) { s.c.Measurement[0] ^= 1 }, []Field{FieldMeasurement}},
	{"sgx host data not filled up with zeros", sgxScene, func(s *scene) { s.c.HostData[63] = 1 }, []Field{FieldHostData}},
	{"other signer", signerScene, func(s *scene) { s.c.SGX.MRSigner[0] ^= 1 }, []Field{FieldSigner}},
	{"other product", signerScene, func(s *scene) { s.c.SGX.ProductID++ }, []Field{FieldSigner}},
	{"older build", signerScene, func(s *scene) { s.c.SGX.SVN-- }, []Field{FieldSigner}},

	{"no endorsement", uvmScene, func(s *scene) { s.c.UVM = nil }, []Field{FieldUVM}},
	{"other issuer", uvmScene, func(s *scene) { s.c.UVM.Issuer += "5" }, []Field{FieldUVM}},
	{"other feed", uvmScene, func(s *scene) { s.c.UVM.Feed = "ConfAKS-AMD-UVM" }, []Field{FieldUVM}},
	{"older utility VM", uvmScene, func(s *scene) { s.c.UVM.SVN-- }, []Field{FieldUVM}},
	{"other containers", uvmScene, func(s *scene) { s.c.HostData[0] ^= 1 }, []Field{FieldHostData}},

	{"other service", tokenScene, func(s *scene) { s.c.Token.Issuer += "/" }, []Field{FieldServices}},
	{"other compliance", tokenScene, func(s *scene) { s.c.Token.Compliance = "other" }, []Field{FieldServices}},
	{"no compliance", tokenScene, func(s *scene) { s.c.Token.Compliance = "" }, []Field{FieldServices}},
	{"chips are named", tokenScene, func(s *scene) { s.p.ChipIDs = testPolicy().ChipIDs }, []Field{FieldChipIDs}},
	{"token of old firmware", tokenScene, func(s *scene) { s.c.ReportedTCB.SNP-- }, []Field{FieldTCB}},
	{"token below one of two floors", tokenScene, func(s *scene) {
		s.p.Products = append(s.p.Products, Product{"Genoa", Require(attestation.TCB{Bootloader: 9})})
	}, []Field{FieldTCB}},
	{"token below one floor, the other waived", tokenScene, func(s *scene) {
		s.p.Products = append(s.p.Products, Product{"Genoa", Waive[attestation.TCB]("test")})
		s.c.ReportedTCB.SNP--
	}, []Field{FieldTCB}},
	{"token of a product not named", tokenScene, func(s *scene) { s.c.Product = "Genoa" }, []Field{FieldProducts}},
	{"token with a vlek", tokenScene, func(s *scene) { s.c.Signer = attestation.SignerVLEK }, []Field{FieldSigners, FieldProviders}},
	{"debug by token", tokenScene, func(s *scene) { s.c.Debug = true }, []Field{FieldDebug}},
}

func TestEachAttackOnEachPlatform(t *testing.T) {
	t.Parallel()
	tried := map[Field]bool{}
	for _, a := range platformAttacks {
		s := a.base()
		if got := s.refused(t); got != nil {
			t.Fatalf("%s: refused %v before", a.name, got)
		}
		a.wrong(s)
		if got := s.refused(t); !slices.Equal(got, a.want) {
			t.Errorf("%s: refused %v, want %v", a.name, got, a.want)
		}
		if len(a.want) == 1 {
			tried[a.want[0]] = true
		}
	}
	for _, f := range slices.Concat(fieldsIntel, tdxFields[11:], sgxFields[11:15], []Field{FieldUVM, FieldSigner}) {
		if !tried[f] && !slices.Contains(fieldsAfter, f) {
			t.Errorf("no attack is refused for %s alone", f)
		}
	}
}

func TestFieldsOfEachPlatform(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		s    *scene
		want []Field
	}{"sev-snp": {newScene(), allFields}, "tdx": {tdxScene(), tdxFields}, "sgx": {sgxScene(), sgxFields}} {
		var got []Field
		for _, f := range Explain(x.s.c, x.s.p, x.s.purpose, x.s.now) {
			got = append(got, f.Field)
			if f.Verdict != Accepted {
				t.Errorf("%s: %s is %s", name, f.Field, f.Verdict)
			}
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: explained %v", name, got)
		}
	}
	for f, text := range remedies {
		if text == "" {
			t.Errorf("%s: an empty remedy", f)
		}
	}
	for _, f := range slices.Concat(allFields, tdxFields, sgxFields, []Field{FieldPolicy, FieldUVM, FieldSigner}) {
		if remedies[f] == "" {
			t.Errorf("%s has no remedy", f)
		}
	}
}

// One policy for all platforms judges each by its own rules.
func TestAllPlatforms(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		base func() *scene
		now  string
	}{
		"sev-snp": {newScene, "1.0"}, "tdx": {tdxScene, "1.0 tdx"}, "sgx": {sgxScene, "1.0 sgx"}, "sgx by signer": {signerScene, "1.x sgx"},
	} {
		s := x.base()
		s.p = allPlatforms()
		if name == "sgx by signer" {
			s.c.Measurement = fill(9, 32)
		}
		if got := s.refused(t); got != nil {
			t.Errorf("%s: refused %v", name, got)
		}
		for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
			if f.Field == FieldConfig && f.Release != x.now {
				t.Errorf("%s: compared with %q", name, f.Release)
			}
		}
	}
	// A release of another platform is none, even with the same bytes.
	s := tdxScene()
	s.p = allPlatforms()
	s.c.Measurement = fill(9, 48)
	if got := s.refused(t); !slices.Equal(got, []Field{FieldMeasurement}) {
		t.Errorf("other TD: refused %v", got)
	}
}

// What a token leaves open shows as left to the service, and as a warning.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := tokenScene()
	var left []Field
	for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
		if f.Verdict == Waived {
			left = append(left, f.Field)
		}
	}
	if !slices.Equal(left, []Field{FieldRevocation, FieldProducts, FieldSigners}) {
		t.Errorf("left to the service: %v", left)
	}
	if w := Warnings(s.c, s.p); w[0].Field != FieldServices {
		t.Errorf("warnings: %v", w)
	}
	s.p.AttestationServices[0].Compliance = nil
	s.c.Token.Compliance = ""
	if got := s.refused(t); got != nil {
		t.Errorf("any compliance: refused %v", got)
	}
	tdx := tdxScene()
	tdx.p.AttestationServices = s.p.AttestationServices
	tdx.p.Intel.FMSPCs, tdx.p.Intel.Advisories = nil, nil
	tdx.c.Token, tdx.c.Intel = s.c.Token, nil
	if got := tdx.refused(t); got != nil {
		t.Errorf("TDX by token: refused %v", got)
	}
	sgx := sgxScene()
	sgx.p.AttestationServices = s.p.AttestationServices
	sgx.p.Intel.FMSPCs, sgx.p.Intel.Advisories = nil, nil
	sgx.c.Token, sgx.c.Intel = s.c.Token, &attestation.Intel{}
	sgx.c.SGX.Attributes, sgx.c.SGX.XFRM, sgx.c.SGX.MiscSelect = 0, 0, 0
	if got := sgx.refused(t); got != nil {
		t.Errorf("SGX by token: refused %v", got)
	}
	sgx.p.AttestationServices, sgx.c.Token = nil, nil
	if got := sgx.refused(t); !slices.Contains(got, FieldSGXAttributes) || !slices.Contains(got, FieldXFRM) {
		t.Errorf("SGX without bits: refused %v", got)
	}
	tdx.p.Intel.FMSPCs = intelPolicy().FMSPCs
	if got := tdx.refused(t); !slices.Equal(got, []Field{FieldFMSPCs}) {
		t.Errorf("TDX by token, machines named: refused %v", got)
	}
}

// Evidence that binds nothing is accepted only where the policy waives that by name,
// and what is bound is judged in spite of it.
func TestUnbound(t *testing.T) {
	t.Parallel()
	unbound := func() *scene {
		s := uvmScene()
		s.c.RuntimeData, s.c.Configuration, s.c.ConfigurationHash = nil, nil, [32]byte{}
		return s
	}
	s := unbound()
	ours := []Field{FieldPurpose, FieldRuntimeData, FieldConfig, FieldLedgerID, FieldLedgerOrigin, FieldLedgerNumber, FieldBackends, FieldArgon2id}
	if got := s.refused(t); !slices.Equal(got, ours) {
		t.Errorf("refused %v", got)
	}
	s.p.RuntimeData = Waive[Demand]("test")
	if got := s.refused(t); got != nil {
		t.Errorf("waived: refused %v", got)
	}
	s.p.Releases[0].HostData = Require(HostDataConfiguration)
	s.c.HostData = make([]byte, 32)
	if got := s.refused(t); !slices.Equal(got, []Field{FieldHostData}) {
		t.Errorf("zeros for the hash of no configuration: refused %v", got)
	}
	for _, a := range attacks {
		s := newScene()
		s.p.RuntimeData = Waive[Demand]("test")
		a.wrong(s)
		if s.p == nil || s.c.RuntimeData == nil || s.p.RuntimeData.Waived == "" {
			continue
		}
		if got := s.refused(t); !slices.Equal(got, a.want) {
			t.Errorf("%s, runtime data waived: refused %v, want %v", a.name, got, a.want)
		}
	}
}

var intelWaivers = map[Field]waiving{
	FieldTCBStatus: {
		func(s *scene) { s.p.Intel.TCBStatus = Waive[[]string]("test") },
		func(s *scene) { s.c.Intel.TCBStatus = "OutOfDate" },
	},
	FieldRevocation: {
		func(s *scene) { s.p.Revocation = Waive[Demand]("test") },
		func(s *scene) { s.c.RevocationChecked = false },
	},
	FieldDebug: waivers[FieldDebug],
}

var tdxWaivers = with(intelWaivers, map[Field]waiving{
	FieldMRSEAM: {
		func(s *scene) { s.p.TDX.MRSEAM = Waive[[]Hex]("test") },
		func(s *scene) { s.c.TDX.MRSEAM = fill(9, 48) },
	},
	FieldMRSignerSEAM: {
		func(s *scene) { s.p.TDX.MRSignerSEAM = Waive[Hex]("test") },
		func(s *scene) { s.c.TDX.MRSignerSEAM = fill(9, 48) },
	},
	FieldMROwner: {
		func(s *scene) { s.p.TDX.MROwner = Waive[Hex]("test") },
		func(s *scene) { s.c.TDX.MROwner = fill(9, 48) },
	},
	FieldMROwnerConfig: {
		func(s *scene) { s.p.TDX.MROwnerConfig = Waive[Hex]("test") },
		func(s *scene) { s.c.TDX.MROwnerConfig = fill(9, 48) },
	},
	FieldTDXAttributes: {
		func(s *scene) { s.p.TDX.Attributes = Waive[Flags]("test") },
		func(s *scene) { s.c.TDX.Attributes = 0 },
	},
	FieldXFAM: {
		func(s *scene) { s.p.TDX.XFAM = Waive[Flags]("test") },
		func(s *scene) { s.c.TDX.XFAM = 0 },
	},
	FieldTEETCBSVN: {
		func(s *scene) { s.p.TDX.MinimumTEETCBSVN = Waive[Hex]("test") },
		func(s *scene) { s.c.TDX.TEETCBSVN = make([]byte, 16) },
	},
	FieldRTMR0: rtmrWaiver(0), FieldRTMR1: rtmrWaiver(1), FieldRTMR2: rtmrWaiver(2), FieldRTMR3: rtmrWaiver(3),
})

func rtmrWaiver(i int) waiving {
	return waiving{
		func(s *scene) { s.p.Releases[0].RTMRs[i] = Waive[Hex]("test") },
		func(s *scene) { s.c.TDX.RTMRs[i] = fill(9, 48) },
	}
}

var sgxWaivers = with(intelWaivers, map[Field]waiving{
	FieldSGXAttributes: {
		func(s *scene) { s.p.SGX.Attributes = Waive[Flags]("test") },
		func(s *scene) { s.c.SGX.Attributes = 0 },
	},
	FieldXFRM: {
		func(s *scene) { s.p.SGX.XFRM = Waive[Flags]("test") },
		func(s *scene) { s.c.SGX.XFRM = 0 },
	},
	FieldMiscSelect: {
		func(s *scene) { s.p.SGX.MiscSelect = Waive[Flags]("test") },
		func(s *scene) { s.c.SGX.MiscSelect = 8 },
	},
})

func with(maps ...map[Field]waiving) map[Field]waiving {
	out := map[Field]waiving{}
	for _, m := range maps {
		for f, w := range m {
			out[f] = w
		}
	}
	return out
}

func TestWaiversOfEachPlatform(t *testing.T) {
	t.Parallel()
	testWaivers(t, tdxScene, tdxWaivers)
	testWaivers(t, sgxScene, sgxWaivers)
}
