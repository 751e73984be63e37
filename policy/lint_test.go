package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
)

// perfect demands all that can be demanded but the ledger, of which there is only one kind.
func perfect() *TrustPolicy {
	p := testPolicy()
	p.Simulation = nil
	p.Expires = Require(testNow.AddDate(0, 6, 0))
	return p
}

func TestLint(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		p     *TrustPolicy
		field Field
		level Level
	}{
		"nothing":            {perfect(), "", ""},
		"ended":              {edited(perfect, func(p *TrustPolicy) { p.Expires.Want = testNow }), FieldExpires, LevelWarning},
		"ends soon":          {edited(perfect, func(p *TrustPolicy) { p.Expires.Want = testNow.AddDate(0, 0, 29) }), FieldExpires, LevelWarning},
		"ends late":          {edited(perfect, func(p *TrustPolicy) { p.Expires.Want = testNow.AddDate(3, 0, 0) }), FieldExpires, LevelNote},
		"never ends":         {edited(perfect, func(p *TrustPolicy) { p.Expires = Waive[time.Time]("test") }), FieldExpires, LevelWarning},
		"simulation":         {edited(perfect, func(p *TrustPolicy) { p.Simulation = testPolicy().Simulation }), FieldSimulation, LevelWarning},
		"no SNP floor":       {edited(perfect, func(p *TrustPolicy) { p.Products[0].MinimumTCB.Want.SNP = 0 }), FieldTCB, LevelWarning},
		"no microcode floor": {edited(perfect, func(p *TrustPolicy) { p.Products[0].MinimumTCB.Want.Microcode = 0 }), FieldTCB, LevelWarning},
		"vlek": {edited(perfect, func(p *TrustPolicy) {
			p.ReportSigners, p.VLEKProviders = []string{attestation.SignerVLEK}, []string{"cloud"}
		}), FieldSigners, LevelNote},
		"any chip":      {edited(perfect, func(p *TrustPolicy) { p.ChipIDs = nil }), FieldChipIDs, LevelNote},
		"aliases":       {edited(perfect, func(p *TrustPolicy) { p.PlatformInfo = nil }), FieldPlatformInfo, LevelNote},
		"vmpl":          {edited(perfect, func(p *TrustPolicy) { p.MaximumVMPL = 1 }), FieldVMPL, LevelNote},
		"cheap PIN":     {edited(perfect, func(p *TrustPolicy) { p.MinimumArgon2id.Want.Time = 2 }), FieldArgon2id, LevelWarning},
		"old UVMs":      {edited(perfect, func(p *TrustPolicy) { p.Releases[0] = uvmScene().p.Releases[0]; p.Releases[0].UVM.MinimumSVN = 99 }), FieldUVM, LevelWarning},
		"UVM":           {edited(perfect, func(p *TrustPolicy) { p.Releases[0] = uvmScene().p.Releases[0] }), "", ""},
		"token":         {edited(perfect, func(p *TrustPolicy) { p.AttestationServices = tokenScene().p.AttestationServices }), FieldServices, LevelNote},
		"old firmware":  {edited(intelPerfect, func(p *TrustPolicy) { p.Intel.TCBStatus.Want = []string{"OutOfDate"} }), FieldTCBStatus, LevelWarning},
		"old judgement": {edited(intelPerfect, func(p *TrustPolicy) { p.Intel.MinimumEvaluationNumber = 0 }), FieldEvaluation, LevelWarning},
		"any machine":   {edited(intelPerfect, func(p *TrustPolicy) { p.Intel.FMSPCs = nil }), FieldFMSPCs, LevelNote},
		"migratable":    {edited(intelPerfect, func(p *TrustPolicy) { p.TDX.Attributes.Want.Allowed |= 1 << 29 }), FieldTDXAttributes, LevelWarning},
	} {
		p := mustParse(t, x.p.Encode())
		got := slices.DeleteFunc(Lint(p, testNow), func(f LintFinding) bool { return f.Field == FieldBackends && f.Level == LevelNote })
		if x.field == "" {
			if len(got) > 0 {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		if len(got) != 1 || got[0].Field != x.field || got[0].Level != x.level || got[0].Text == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	ended := edited(perfect, func(p *TrustPolicy) { p.Expires.Want = testNow })
	if got := Lint(ended, testNow); !strings.Contains(got[0].Text, "has ended") {
		t.Errorf("ended: %+v", got)
	}
	if got := Lint(perfect(), testNow); len(got) != 1 {
		t.Errorf("the local ledger: %+v", got)
	}
	var fields []Field
	p := edited(perfect, func(p *TrustPolicy) {
		p.Releases[0].Configuration, p.Releases[0].HostData = Waive[Hex]("test"), Waive[string]("test")
	})
	for _, f := range Lint(p, testNow) {
		fields = append(fields, f.Field)
	}
	if !slices.Equal(fields, []Field{FieldConfig, FieldHostData, FieldConfig, FieldBackends}) {
		t.Errorf("nothing binds the configuration: %v", fields)
	}
	fields = nil
	for _, f := range Lint(edited(func() *TrustPolicy { return signerScene().p }, func(p *TrustPolicy) { p.Releases[0].Signer.MinimumSVN = 0 }), testNow) {
		fields = append(fields, f.Field)
	}
	if !slices.Contains(fields, FieldSigner) {
		t.Errorf("every build that was ever signed: %v", fields)
	}
}

func intelPerfect() *TrustPolicy {
	p := tdxPolicy()
	p.Simulation, p.Expires = nil, perfect().Expires
	return p
}

func edited(base func() *TrustPolicy, f func(*TrustPolicy)) *TrustPolicy {
	p := base()
	f(p)
	return p
}

// A CCE policy that lets the host in is a loud warning, whatever the trust policy says.
func TestWarningsOfSecurityPolicies(t *testing.T) {
	t.Parallel()
	warned := func(s *scene) bool {
		return slices.ContainsFunc(Warnings(s.c, s.p), func(w Warning) bool { return w.Field == FieldHostData })
	}
	s := newScene()
	s.c.SecurityPolicy = []byte("package policy\n\nexec_in_container := {\"allowed\": true}\n")
	if !warned(s) {
		t.Error("not warned of commands from outside")
	}
	s.c.SecurityPolicy = []byte("version = \"0.1.0\"\nalgorithm = \"sha256\"\n")
	if warned(s) {
		t.Error("initdata taken for a CCE policy")
	}
	s.c.UVM = uvmScene().c.UVM
	if !warned(s) {
		t.Error("text that is no CCE policy, on ACI")
	}
	s.c.SecurityPolicy = nil
	if warned(s) {
		t.Error("warned of nothing")
	}
	s.c.Intel = &attestation.Intel{TCBStatus: "Revoked"}
	if !slices.ContainsFunc(Warnings(s.c, nil), func(w Warning) bool { return w.Field == FieldTCBStatus }) {
		t.Error("not warned of a revoked machine")
	}
}
