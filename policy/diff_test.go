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
		{func(p *TrustPolicy) { p.Ledger.Genesis = fill(9, 32) }, FieldLedgerOrigin, true, true},
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
			if len(d.got) != 1 || d.got[0].Field != x.field || d.got[0].Weaker != d.weaker || d.got[0].Before == d.got[0].After ||
				x.field == FieldChipIDs && (d.got[0].Before == "" || d.got[0].After == "") {
				t.Errorf("case %d, %s: %+v, want weaker %v", i, x.field, d.got, d.weaker)
			}
		}
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
