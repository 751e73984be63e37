package policy

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

func TestForDevelopment(t *testing.T) {
	t.Parallel()
	root := wire.Digest(fill(0x51, 32))
	s := newScene()
	s.c.Simulated, s.c.Root = true, root
	for _, t := range []*attestation.TCB{&s.c.ReportedTCB, &s.c.CommittedTCB, &s.c.CurrentTCB, &s.c.LaunchTCB} {
		*t = simulatedTCB
	}
	s.p = ForDevelopment(root, s.c.ConfigurationHash, s.c.Configuration.Ledger)
	if got := mustParse(t, s.p.Encode()); !reflect.DeepEqual(got, s.p) {
		t.Errorf("parses to another policy:\n%s", got.Encode())
	}
	if got := s.refused(t); got != nil {
		t.Fatalf("refused %v", got)
	}
	s.c.Measurement = fill(9, 48) // a rebuilt enclave
	if got := s.refused(t); got != nil {
		t.Errorf("rebuilt: refused %v", got)
	}
	var waived []Field
	for _, w := range s.p.waived() {
		waived = append(waived, w.field)
	}
	if !slices.Equal(waived, []Field{FieldMeasurement}) {
		t.Errorf("waives %v", waived)
	}
	s.c.LaunchTCB.SNP--
	if got := s.refused(t); !slices.Equal(got, []Field{FieldTCB}) {
		t.Errorf("older firmware: refused %v", got)
	}
	s.c.LaunchTCB = simulatedTCB
	s.now = s.p.Expires.Want
	if got := s.refused(t); !slices.Equal(got, []Field{FieldExpires}) {
		t.Errorf("20 years later: refused %v", got)
	}
	s.now = testNow
	s.c.Root[0] ^= 1
	if got := s.refused(t); !slices.Equal(got, []Field{FieldSimulation}) {
		t.Errorf("other root: refused %v", got)
	}
}

func TestFromEvidence(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*attestation.Claims){
		"hardware":   func(c *attestation.Claims) {},
		"simulation": func(c *attestation.Claims) { c.Simulated = true },
		"ACI":        func(c *attestation.Claims) { c.HostData = fill(0xcc, 32) },
		"old launch": func(c *attestation.Claims) { c.LaunchTCB.SNP-- },
		"no smt":     func(c *attestation.Claims) { c.SMT = false },
	} {
		s := newScene()
		change(s.c)
		s.p = FromEvidence(s.c)
		if got := mustParse(t, s.p.Encode()); !reflect.DeepEqual(got, s.p) {
			t.Errorf("%s: parses to another policy:\n%s", name, got.Encode())
		}
		if got := s.refused(t); got != nil {
			t.Errorf("%s: refused %v", name, got)
		}
		if got := s.p.waived(); len(got) != 1 || got[0].field != FieldExpires {
			t.Errorf("%s: waives %v", name, got)
		}
	}
}

func TestFromEvidenceOfEachPlatform(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		s      *scene
		waived []Field
	}{
		"tdx": {tdxScene(), nil}, "sgx": {sgxScene(), nil}, "aci": {uvmScene(), nil}, "token": {tokenScene(), nil}, "vlek": {vlekScene(), nil},
		"no list":        {change(newScene, func(c *attestation.Claims) { c.RevocationChecked = false }), []Field{FieldRevocation}},
		"hardening":      {change(tdxScene, func(c *attestation.Claims) { c.Intel.TCBStatus = "SWHardeningNeeded" }), nil},
		"nothing signed": {change(newScene, func(c *attestation.Claims) { c.IDKeyDigest, c.AuthorKeyDigest = make([]byte, 48), make([]byte, 48) }), nil},
		"no runtime data": {change(uvmScene, func(c *attestation.Claims) {
			c.RuntimeData, c.Configuration, c.ConfigurationHash = nil, nil, wire.Digest{}
		}), []Field{FieldRuntimeData}},
	} {
		s := x.s
		s.p = FromEvidence(s.c)
		if got := mustParse(t, s.p.Encode()); !reflect.DeepEqual(got, s.p) {
			t.Errorf("%s: parses to another policy:\n%s", name, got.Encode())
		}
		if got := s.refused(t); got != nil {
			t.Errorf("%s: refused %v", name, got)
		}
		var waived []Field
		for _, w := range s.p.waived()[1:] { // the first is the expiry
			waived = append(waived, w.field)
		}
		if !slices.Equal(waived, x.waived) {
			t.Errorf("%s: waives %v", name, waived)
		}
	}
	if r := FromEvidence(uvmScene().c).Releases[0]; r.UVM == nil || *r.UVM != *testUVM() {
		t.Errorf("ACI: %s", r)
	}
	// The policy of evidence that binds nothing does not accept what binds something.
	s := change(uvmScene, func(c *attestation.Claims) {
		c.RuntimeData, c.Configuration, c.ConfigurationHash = nil, nil, wire.Digest{}
	})
	p := FromEvidence(s.c)
	s = uvmScene()
	s.p = p
	if got := s.refused(t); !slices.Equal(got, []Field{FieldConfig, FieldLedgerID}) {
		t.Errorf("bound evidence under an unbound policy: refused %v", got)
	}
}

func change(base func() *scene, f func(*attestation.Claims)) *scene {
	s := base()
	f(s.c)
	return s
}

// Dangers of Intel's platforms are not taken over.
func TestFromDangerousEvidenceOfIntel(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		wrong func(*attestation.Claims)
		want  []Field
	}{
		"old firmware":     {func(c *attestation.Claims) { c.Intel.TCBStatus = "OutOfDate" }, []Field{FieldTCBStatus}},
		"unknown firmware": {func(c *attestation.Claims) { *c.Intel = attestation.Intel{} }, []Field{FieldTCBStatus}},
		"migratable":       {func(c *attestation.Claims) { c.TDX.Attributes |= 1 << 29 }, []Field{FieldTDXAttributes}},
		"under debug":      {func(c *attestation.Claims) { c.TDX.Attributes |= 1 << 3; c.Debug = true }, []Field{FieldTDXAttributes, FieldDebug}},
	} {
		s := change(tdxScene, x.wrong)
		s.p = FromEvidence(s.c)
		if got := s.refused(t); !slices.Equal(got, x.want) {
			t.Errorf("%s: refused %v", name, got)
		}
	}
}

// What is different from the evidence that a policy was made from is refused, field
// by field: all but the expiry and the chip, which are left to the person.
func TestFromEvidenceIsStrict(t *testing.T) {
	t.Parallel()
	for _, a := range attacks {
		s := newScene()
		a.wrong(s)
		if s.p == nil || !reflect.DeepEqual(s.p, testPolicy()) {
			continue // an attack on the policy
		}
		s.p = FromEvidence(testClaims())
		var want []Field
		for _, f := range a.want {
			if f != FieldExpires && f != FieldChipIDs {
				want = append(want, f)
			}
		}
		if got := s.refused(t); !slices.Equal(got, want) {
			t.Errorf("%s: refused %v, want %v", a.name, got, want)
		}
	}
}

// Dangers in evidence are not taken over into a policy.
func TestFromDangerousEvidence(t *testing.T) {
	t.Parallel()
	for f, change := range map[Field]func(*attestation.Claims){
		FieldDebug:     func(c *attestation.Claims) { c.Debug = true },
		FieldMigration: func(c *attestation.Claims) { c.Migration = true },
		FieldVMPL:      func(c *attestation.Claims) { c.VMPL = 0xffffffff },
		FieldArgon2id:  func(c *attestation.Claims) { c.Configuration.PIN.Argon2id.MemoryKiB = 8 },
		FieldPlatforms: func(c *attestation.Claims) { c.Platform = "other" },
		FieldConfig:    func(c *attestation.Claims) { c.Configuration = nil },
	} {
		s := newScene()
		change(s.c)
		s.p = FromEvidence(s.c)
		want := []Field{f}
		switch f {
		case FieldPlatforms: // no whole policy can name it
			want = []Field{FieldPolicy}
		case FieldConfig:
			want = []Field{FieldConfig, FieldArgon2id}
		}
		if got := s.refused(t); !slices.Equal(got, want) {
			t.Errorf("%s: refused %v", f, got)
		}
	}
}

func TestRoots(t *testing.T) {
	t.Parallel()
	p := testPolicy()
	if got := p.Roots(); !slices.Equal(got.Simulation, []wire.Digest{wire.Digest(fill(0x51, 32))}) {
		t.Errorf("%v", got)
	}
	p.Simulation.Roots = append(p.Simulation.Roots, Hex{1}, nil)
	if got := p.Roots(); len(got.Simulation) != 1 {
		t.Errorf("roots of a wrong size: %v", got)
	}
	p.Simulation = nil
	if got := p.Roots(); got.Simulation != nil {
		t.Errorf("no simulation: %v", got)
	}
}

// docs/policy.md: its example is whole and canonical, and its table has every field.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(examples) == 0 {
		t.Fatal("no example")
	}
	if p := mustParse(t, examples[0][1]); !bytes.Equal(p.Encode(), examples[0][1]) {
		t.Errorf("the example in canonical form:\n%s", p.Encode())
	}
	for _, f := range slices.Concat(allFields, tdxFields, sgxFields, []Field{FieldPolicy, FieldName, FieldReleases, FieldUVM, FieldSigner}) {
		if !strings.Contains(string(doc), "| `"+string(f)+"` |") {
			t.Errorf("no row for %s", f)
		}
	}
}

// A policy of several platforms accepts the simulation of each.
func TestForDevelopmentOfAllPlatforms(t *testing.T) {
	t.Parallel()
	root := wire.Digest(fill(0x51, 32))
	for _, base := range []func() *scene{newScene, tdxScene, sgxScene} {
		s := base()
		s.c.Simulated, s.c.Root = true, root
		if s.c.Platform == attestation.PlatformSEVSNP {
			for _, t := range []*attestation.TCB{&s.c.ReportedTCB, &s.c.CommittedTCB, &s.c.CurrentTCB, &s.c.LaunchTCB} {
				*t = simulatedTCB
			}
		}
		s.p = ForDevelopment(root, s.c.ConfigurationHash, s.c.Configuration.Ledger, knownPlatforms...)
		if got := mustParse(t, s.p.Encode()); !reflect.DeepEqual(got, s.p) {
			t.Errorf("parses to another policy:\n%s", got.Encode())
		}
		if got := s.refused(t); got != nil {
			t.Errorf("%s: refused %v", s.c.Platform, got)
		}
		if s.c.Intel == nil {
			continue
		}
		s.c.Intel.TCBStatus = "OutOfDate"
		if got := s.refused(t); !slices.Equal(got, []Field{FieldTCBStatus}) {
			t.Errorf("%s out of date: refused %v", s.c.Platform, got)
		}
	}
}
