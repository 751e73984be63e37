package policy

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	for name, p := range variants() {
		if got := Diff(p, mustParse(t, p.Encode())); got != nil {
			t.Errorf("%s differs from itself: %v", name, got)
		}
	}
	for i, x := range []struct {
		change func(*TrustPolicy)
		field  Field
		weaker bool // and in the other direction, back
		back   bool
	}{
		{func(p *TrustPolicy) { p.Name = "other" }, FieldName, false, false},
		{func(p *TrustPolicy) { p.Expires.Want = p.Expires.Want.Add(time.Hour) }, FieldExpires, true, false},
		{func(p *TrustPolicy) { p.Expires = Waive[time.Time]("test") }, FieldExpires, true, false},
		{func(p *TrustPolicy) { p.Platforms = append(p.Platforms, "tdx") }, FieldPlatforms, true, false},
		{func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "https://maa.test"}} }, FieldServices, true, false},
		{func(p *TrustPolicy) { p.RuntimeData = Waive[Demand]("test") }, FieldRuntimeData, true, false},
		{func(p *TrustPolicy) { p.Revocation = Waive[Demand]("test") }, FieldRevocation, true, false},
		{func(p *TrustPolicy) { p.ReportSigners = []string{"vcek", "vlek"} }, FieldSigners, true, false},
		{func(p *TrustPolicy) { p.VLEKProviders = []string{"cloud"} }, FieldProviders, true, false},
		{func(p *TrustPolicy) { p.IDKeyDigests = nil }, FieldIDKeys, true, false},
		{func(p *TrustPolicy) { p.AuthorKeyDigests = p.AuthorKeyDigests[1:] }, FieldAuthorKeys, false, true},
		{func(p *TrustPolicy) { p.FamilyIDs = nil }, FieldFamilyIDs, true, false},
		{func(p *TrustPolicy) { p.ImageIDs = nil }, FieldImageIDs, true, false},
		{func(p *TrustPolicy) { p.GuestPolicy = nil }, FieldGuestPolicy, true, false},
		{func(p *TrustPolicy) { p.GuestPolicy.Allowed |= 1 << 40 }, FieldGuestPolicy, true, false},
		{func(p *TrustPolicy) { p.PlatformInfo.Required = 0 }, FieldPlatformInfo, true, false},
		{func(p *TrustPolicy) { p.RequiredMitigations = 1 }, FieldMitigations, true, false},
		{func(p *TrustPolicy) { p.Releases[0].Measurement, p.Releases[0].UVM = Rule[Hex]{}, testUVM() }, FieldUVM, true, true},
		{func(p *TrustPolicy) { p.Simulation = nil }, FieldSimulation, false, true},
		{func(p *TrustPolicy) { p.Simulation.Roots = []Hex{fill(9, 32)} }, FieldSimulation, true, true},
		{func(p *TrustPolicy) { p.Products[0].Name = "Genoa" }, FieldProducts, true, true},
		{func(p *TrustPolicy) { p.Products = append(p.Products, Product{Name: "Genoa"}) }, FieldProducts, true, false},
		{func(p *TrustPolicy) { p.Products[0].MinimumTCB.Want.SNP-- }, FieldTCB, true, false},
		{func(p *TrustPolicy) { p.Products[0].MinimumTCB.Want.SNP--; p.Products[0].MinimumTCB.Want.TEE++ }, FieldTCB, true, true},
		{func(p *TrustPolicy) { p.Products[0].MinimumTCB = Waive[attestation.TCB]("test") }, FieldTCB, true, false},
		{func(p *TrustPolicy) { p.ChipIDs = nil }, FieldChipIDs, true, false},
		{func(p *TrustPolicy) { p.ChipIDs = p.ChipIDs[:1] }, FieldChipIDs, false, true},
		{func(p *TrustPolicy) { p.Releases = twoReleases().Releases }, FieldReleases, true, false},
		{func(p *TrustPolicy) { p.Releases[0].Measurement.Want = fill(9, 48) }, FieldMeasurement, true, true},
		{func(p *TrustPolicy) { p.Releases[0].Measurement = Waive[Hex]("test") }, FieldMeasurement, true, false},
		{func(p *TrustPolicy) { p.Releases[0].Configuration.Want = fill(9, 32) }, FieldConfig, true, true},
		{func(p *TrustPolicy) { p.Releases[0].HostData = Waive[string]("test") }, FieldHostData, true, false},
		{func(p *TrustPolicy) { p.Ledger.ID.Want = fill(9, 32) }, FieldLedgerID, true, true},
		{func(p *TrustPolicy) { p.Ledger.ID = Waive[Hex]("test") }, FieldLedgerID, true, false},
		{func(p *TrustPolicy) { p.Ledger.Genesis = Require(Hex(fill(9, 32))) }, FieldLedgerOrigin, true, true},
		{func(p *TrustPolicy) { p.Ledger.Number = 2 }, FieldLedgerNumber, true, true},
		{func(p *TrustPolicy) { p.Ledger.Backends = append(p.Ledger.Backends, "azure") }, FieldBackends, true, false},
		{func(p *TrustPolicy) { p.MinimumGuestSVN-- }, FieldGuestSVN, true, false},
		{func(p *TrustPolicy) { p.Debug = Waive[Permission]("test") }, FieldDebug, true, false},
		{func(p *TrustPolicy) { p.Migration = Waive[Permission]("test") }, FieldMigration, true, false},
		{func(p *TrustPolicy) { p.SMT = Forbidden }, FieldSMT, false, true},
		{func(p *TrustPolicy) { p.MaximumVMPL++ }, FieldVMPL, true, false},
		{func(p *TrustPolicy) { p.MinimumArgon2id.Want.Time-- }, FieldArgon2id, true, false},
		{func(p *TrustPolicy) { p.MinimumArgon2id = Waive[Argon2id]("test") }, FieldArgon2id, true, false},
	} {
		b := testPolicy()
		x.change(b)
		for _, d := range []struct {
			got    []Change
			weaker bool
		}{{Diff(testPolicy(), b), x.weaker}, {Diff(b, testPolicy()), x.back}} {
			back := x.field == FieldUVM && len(d.got) == 1 && d.got[0].Field == FieldMeasurement
			if len(d.got) != 1 || d.got[0].Field != x.field && !back || d.got[0].Weaker != d.weaker || d.got[0].Before == d.got[0].After ||
				x.field == FieldChipIDs && (d.got[0].Before == "" || d.got[0].After == "") {
				t.Errorf("case %d, %s: %+v, want weaker %v", i, x.field, d.got, d.weaker)
			}
		}
	}
}

// A service more is a weakening also beside one that stays, and so is a word of its
// compliance; leaving runtime data out is demanding them.
func TestDiffOfServices(t *testing.T) {
	t.Parallel()
	with := func(list ...AttestationService) *TrustPolicy {
		p := testPolicy()
		p.AttestationServices = list
		return p
	}
	one, two := AttestationService{Issuer: "https://one.test"}, AttestationService{Issuer: "https://two.test"}
	strict, looser := AttestationService{"https://one.test", []string{"a"}}, AttestationService{"https://one.test", []string{"a", "b"}}
	for name, x := range map[string]struct {
		a, b   *TrustPolicy
		weaker bool
	}{
		"one more": {with(one), with(one, two), true}, "one less": {with(one, two), with(one), false}, "another": {with(one), with(two), true},
		"a word more": {with(strict), with(looser), true}, "a word less": {with(looser), with(strict), false}, "any word": {with(strict), with(one), true},
	} {
		if got := Diff(x.a, x.b); len(got) != 1 || got[0].Field != FieldServices || got[0].Weaker != x.weaker {
			t.Errorf("%s: %+v", name, got)
		}
	}
	p := testPolicy()
	p.RuntimeData = Require(Required)
	if got := Diff(testPolicy(), p); got != nil {
		t.Errorf("runtime data demanded by name: %+v", got)
	}
}

// Another reason for a waiver shows, and is no weakening.
func TestDiffOfReasons(t *testing.T) {
	t.Parallel()
	a, b := testPolicy(), testPolicy()
	a.Debug, b.Debug = Waive[Permission]("one"), Waive[Permission]("two")
	if got := Diff(a, b); len(got) != 1 || got[0].Weaker {
		t.Errorf("%+v", got)
	}
}

// A renamed release accepts nothing new.
func TestDiffOfNames(t *testing.T) {
	t.Parallel()
	b := testPolicy()
	b.Releases[0].Name = "renamed"
	for _, c := range Diff(testPolicy(), b) {
		if c.Weaker || c.Field != FieldReleases {
			t.Errorf("%+v", c)
		}
	}
	a := twoReleases()
	b = twoReleases()
	b.Releases[0].Name, b.Releases[1].Name = "1.1", "1.0"
	got := Diff(a, b)
	for _, c := range got {
		if c.Weaker || c.Of == "" {
			t.Errorf("exchanged names: %+v", c)
		}
	}
	if len(got) != 4 {
		t.Errorf("exchanged names: %+v", got)
	}
}

// platformChanges are changes of a policy for one platform, each of one field.
var platformChanges = []struct {
	base   func() *TrustPolicy
	change func(*TrustPolicy)
	field  Field
	weaker bool // and in the other direction, back
	back   bool
}{
	{tdxPolicy, func(p *TrustPolicy) { p.Intel.TCBStatus.Want = p.Intel.TCBStatus.Want[:1] }, FieldTCBStatus, false, true},
	{tdxPolicy, func(p *TrustPolicy) { p.Intel.MinimumEvaluationNumber++ }, FieldEvaluation, false, true},
	{tdxPolicy, func(p *TrustPolicy) { p.Intel.FMSPCs = nil }, FieldFMSPCs, true, false},
	{tdxPolicy, func(p *TrustPolicy) { p.Intel.Advisories = nil }, FieldAdvisories, true, false},
	{tdxPolicy, func(p *TrustPolicy) { p.Intel.Advisories = []string{} }, FieldAdvisories, false, true},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.MRSEAM.Want = p.TDX.MRSEAM.Want[:1] }, FieldMRSEAM, false, true},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.MRSignerSEAM.Want = fill(1, 48) }, FieldMRSignerSEAM, true, true},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.MROwner = Waive[Hex]("test") }, FieldMROwner, true, false},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.MROwnerConfig.Want = fill(1, 48) }, FieldMROwnerConfig, true, true},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.Attributes.Want.Required = 0 }, FieldTDXAttributes, true, false},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.XFAM.Want.Allowed &^= 1 << 18 }, FieldXFAM, false, true},
	{tdxPolicy, func(p *TrustPolicy) { p.TDX.MinimumTEETCBSVN.Want[3]++ }, FieldTEETCBSVN, false, true},
	{tdxPolicy, func(p *TrustPolicy) { p.Releases[0].RTMRs[2] = Waive[Hex]("test") }, FieldRTMR2, true, false},
	{tdxPolicy, func(p *TrustPolicy) { p.Releases[0].RTMRs[3].Want = fill(1, 48) }, FieldRTMR3, true, true},
	{sgxPolicy, func(p *TrustPolicy) { p.SGX.Attributes.Want.Allowed |= 0x10 }, FieldSGXAttributes, true, false},
	{sgxPolicy, func(p *TrustPolicy) { p.SGX.XFRM.Want.Required |= 4 }, FieldXFRM, false, true},
	{sgxPolicy, func(p *TrustPolicy) { p.SGX.MiscSelect = Waive[Flags]("test") }, FieldMiscSelect, true, false},
	{sgxPolicy, func(p *TrustPolicy) { p.SGX.MinimumConfigSVN-- }, FieldConfigSVN, true, false},
	{func() *TrustPolicy { return signerScene().p }, func(p *TrustPolicy) { p.Releases[0].Signer.MinimumSVN++ }, FieldSigner, false, true},
	{func() *TrustPolicy { return signerScene().p }, func(p *TrustPolicy) { p.Releases[0].Signer.ProductID++ }, FieldSigner, true, true},
	{func() *TrustPolicy { return signerScene().p }, func(p *TrustPolicy) { p.Releases[0].Signer.MRSigner = fill(1, 32) }, FieldSigner, true, true},
	{func() *TrustPolicy { return uvmScene().p }, func(p *TrustPolicy) { p.Releases[0].UVM.Issuer += "5" }, FieldUVM, true, true},
	{func() *TrustPolicy { return uvmScene().p }, func(p *TrustPolicy) { p.Releases[0].UVM.MinimumSVN++ }, FieldUVM, false, true},
	{func() *TrustPolicy { return uvmScene().p }, func(p *TrustPolicy) { p.Releases[0].UVM.Feed = "other" }, FieldUVM, true, true},
	{func() *TrustPolicy { return tokenScene().p }, func(p *TrustPolicy) { p.AttestationServices[0].Compliance = nil }, FieldServices, true, false},
	{func() *TrustPolicy { return tokenScene().p }, func(p *TrustPolicy) {
		p.AttestationServices[0].Compliance = p.AttestationServices[0].Compliance[:1]
	}, FieldServices, false, true},
}

func TestDiffOfEachPlatform(t *testing.T) {
	t.Parallel()
	for i, x := range platformChanges {
		b := x.base()
		x.change(b)
		for _, d := range []struct {
			got    []Change
			weaker bool
		}{{Diff(x.base(), b), x.weaker}, {Diff(b, x.base()), x.back}} {
			if len(d.got) != 1 || d.got[0].Field != x.field || d.got[0].Weaker != d.weaker || d.got[0].Before == "" || d.got[0].After == "" {
				t.Errorf("case %d, %s: %+v, want weaker %v", i, x.field, d.got, d.weaker)
			}
		}
	}
	// With tokens, a product line less is a floor less.
	a := tokenScene().p
	a.Products = append(a.Products, Product{"Genoa", Require(attestation.TCB{Bootloader: 9})})
	if d := Diff(a, tokenScene().p); !slices.ContainsFunc(d, func(c Change) bool { return c.Field == FieldTCB && c.Of == "Genoa" && c.Weaker }) {
		t.Errorf("a floor less: %+v", d)
	}
}

// The same soundness over every two changed policies and every attacked evidence.
func TestDiffIsSoundOnEachPlatform(t *testing.T) {
	t.Parallel()
	var policies []*TrustPolicy
	for _, x := range platformChanges {
		b := x.base()
		x.change(b)
		policies = append(policies, b)
	}
	for _, base := range []func() *scene{newScene, tdxScene, sgxScene, signerScene, uvmScene, tokenScene} {
		policies = append(policies, base().p)
	}
	var claims []*attestation.Claims
	for _, a := range platformAttacks {
		s := a.base()
		claims = append(claims, s.c)
		s = a.base()
		a.wrong(s)
		claims = append(claims, s.c)
	}
	accepts := make([][]bool, len(policies))
	for i, p := range policies {
		for _, c := range claims {
			accepts[i] = append(accepts[i], Accept(c, p, attestation.PurposeClient, testNow) == nil)
		}
		if !slices.Contains(accepts[i], true) {
			t.Logf("policy %d accepts nothing", i)
		}
	}
	for i, a := range policies {
		for k, b := range policies {
			if slices.ContainsFunc(Diff(a, b), func(c Change) bool { return c.Weaker }) {
				continue
			}
			for n := range claims {
				if accepts[k][n] && !accepts[i][n] {
					t.Errorf("from policy %d to %d nothing is weaker, but the latter accepts evidence %d: %+v", i, k, n, Diff(a, b))
				}
			}
		}
	}
}

// Where no change is Weaker, the later policy accepts nothing that the earlier one
// refuses: over small random policies and evidence.
func TestDiffIsSound(t *testing.T) {
	t.Parallel()
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		a, other := drawPolicy(t), drawPolicy(t)
		b := mustClone(t, a)
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			oneOf(t, changes...)(b, other)
		}
		if slices.ContainsFunc(Diff(a, b), func(c Change) bool { return c.Weaker }) {
			return
		}
		for range 30 {
			s := drawScene(t)
			s.p = b
			if Accept(s.c, s.p, s.purpose, s.now) != nil {
				continue
			}
			accepted++
			if err := Accept(s.c, a, s.purpose, s.now); err != nil {
				t.Fatalf("the later policy accepts: %v; changes %+v", err, Diff(a, b))
			}
		}
	})
	if accepted == 0 {
		t.Error("nothing was accepted: the test shows nothing")
	}

}

// changes take one thing of another policy over.
var changes = []func(p, from *TrustPolicy){
	func(p, from *TrustPolicy) { p.Expires = from.Expires },
	func(p, from *TrustPolicy) { p.Simulation = from.Simulation },
	func(p, from *TrustPolicy) { p.ChipIDs = from.ChipIDs },
	func(p, from *TrustPolicy) { p.Products = from.Products },
	func(p, from *TrustPolicy) { p.Releases = from.Releases },
	func(p, from *TrustPolicy) { p.Ledger = from.Ledger },
	func(p, from *TrustPolicy) { p.Debug = from.Debug },
	func(p, from *TrustPolicy) { p.SMT = from.SMT },
	func(p, from *TrustPolicy) { p.MaximumVMPL = from.MaximumVMPL },
	func(p, from *TrustPolicy) { p.MinimumArgon2id = from.MinimumArgon2id },
}

func mustClone(t *rapid.T, p *TrustPolicy) *TrustPolicy {
	q, err := Parse(p.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func oneOf[T any](t *rapid.T, values ...T) T { return rapid.SampledFrom(values).Draw(t, "value") }

// mostly draws the first value three times of four.
func mostly[T any](t *rapid.T, usual T, others ...T) T {
	if rapid.IntRange(0, 3).Draw(t, "usual") > 0 {
		return usual
	}
	return oneOf(t, others...)
}

func drawRelease(t *rapid.T, name string) Release {
	return Release{
		Name:          name,
		Platform:      attestation.PlatformSEVSNP,
		Measurement:   oneOf(t, Require(Hex(fill(0x3e, 48))), Require(Hex(fill(0x3f, 48))), Waive[Hex]("test")),
		Configuration: oneOf(t, Require(Hex(fill(0xc0, 32))), Waive[Hex]("test")),
		HostData:      oneOf(t, Require(HostDataConfiguration), Require(Hex(fill(0xc0, 32)).String()), Waive[string]("test")),
	}
}

func drawPolicy(t *rapid.T) *TrustPolicy {
	p := testPolicy()
	p.Expires = mostly(t, p.Expires, Require(testNow.Add(2*time.Hour)), Waive[time.Time]("test"))
	p.Simulation = mostly(t, p.Simulation, nil)
	p.ChipIDs = mostly(t, p.ChipIDs, nil, []Hex{fill(0xc2, 64)})
	p.Products[0].MinimumTCB = mostly(t, p.Products[0].MinimumTCB, Require(attestation.TCB{SNP: 9}), Waive[attestation.TCB]("test"))
	p.Releases = []Release{drawRelease(t, "1.0")}
	if rapid.Bool().Draw(t, "two releases") {
		p.Releases = append(p.Releases, drawRelease(t, "1.1"))
	}
	p.Ledger.ID = mostly(t, p.Ledger.ID, Waive[Hex]("test"), Require(Hex(fill(9, 32))))
	p.Debug = mostly(t, p.Debug, Waive[Permission]("test"))
	p.SMT = mostly(t, p.SMT, Forbidden)
	p.MaximumVMPL = mostly[uint32](t, 0, 1)
	p.MinimumArgon2id = mostly(t, p.MinimumArgon2id, Waive[Argon2id]("test"), Require(Argon2id{8, 9}))
	return p
}

func drawScene(t *rapid.T) *scene {
	s := newScene()
	s.c.Measurement = mostly(t, fill(0x3e, 48), fill(0x3f, 48), fill(0x40, 48))
	s.c.HostData = mostly(t, s.c.HostData, s.c.HostData, fill(9, 32))
	s.c.ChipID = mostly(t, s.c.ChipID, fill(0xc2, 64), fill(9, 64))
	s.c.Simulated = mostly(t, false, false, true)
	s.c.Root = mostly(t, wire.Digest(fill(0x51, 32)), wire.Digest(fill(0x52, 32)))
	s.c.LaunchTCB.SNP = mostly[uint8](t, 22, 9, 8)
	s.c.Debug = mostly(t, false, true)
	s.c.SMT = mostly(t, false, true)
	s.c.VMPL = mostly[uint32](t, 0, 1, 2)
	s.now = mostly(t, testNow, testNow.Add(90*time.Minute), testNow.Add(24*time.Hour))
	if rapid.IntRange(0, 5).Draw(t, "other ledger") == 0 {
		s.c.RuntimeData.Ledger.ID, s.c.Configuration.Ledger.ID = fill(9, 32), fill(9, 32)
	}
	s.c.Configuration.PIN.Argon2id.Time = mostly[uint32](t, 3, 2, 9)
	if rapid.IntRange(0, 5).Draw(t, "no file") == 0 {
		s.c.Configuration = nil
	}
	return s
}
