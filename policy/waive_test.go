package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// waivers maps every field that may be waived to the waiver and to what it waives.
type waiving struct{ waive, wrong func(*scene) }

var waivers = map[Field]waiving{
	FieldExpires: {
		func(s *scene) { s.p.Expires = Waive[time.Time]("test") },
		func(s *scene) { s.now = s.now.AddDate(50, 0, 0) },
	},
	FieldTCB: {
		func(s *scene) { s.p.Products[0].MinimumTCB = Waive[attestation.TCB]("test") },
		func(s *scene) { s.c.ReportedTCB = attestation.TCB{} },
	},
	FieldRevocation: {
		func(s *scene) { s.p.Revocation = Waive[Demand]("test") },
		func(s *scene) { s.c.RevocationChecked = false },
	},
	FieldMeasurement: {
		func(s *scene) { s.p.Releases[0].Measurement = Waive[Hex]("test") },
		func(s *scene) { s.c.Measurement = fill(9, 48) },
	},
	FieldConfig: {
		func(s *scene) { s.p.Releases[0].Configuration = Waive[Hex]("test") },
		func(s *scene) { s.c.ConfigurationHash = wire.Digest(fill(9, 32)); s.c.HostData = fill(9, 32) },
	},
	FieldHostData: {
		func(s *scene) { s.p.Releases[0].HostData = Waive[string]("test") },
		func(s *scene) { s.c.HostData = fill(9, 32) },
	},
	FieldLedgerID: {
		func(s *scene) { s.p.Ledger.ID = Waive[Hex]("test") },
		func(s *scene) { s.c.RuntimeData.Ledger.ID, s.c.Configuration.Ledger.ID = fill(9, 32), fill(9, 32) },
	},
	FieldDebug: {
		func(s *scene) { s.p.Debug = Waive[Permission]("test") },
		func(s *scene) { s.c.Debug = true },
	},
	FieldMigration: {
		func(s *scene) { s.p.Migration = Waive[Permission]("test") },
		func(s *scene) { s.c.Migration = true },
	},
	FieldArgon2id: {
		func(s *scene) { s.p.MinimumArgon2id = Waive[Argon2id]("test") },
		func(s *scene) { s.c.Configuration.PIN.Argon2id = wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1} },
	},
}

// A waiver lets through its own field and no other, and shows everywhere.
func TestWaivers(t *testing.T) {
	t.Parallel()
	testWaivers(t, newScene, waivers)
}

func testWaivers(t *testing.T, base func() *scene, waivers map[Field]waiving) {
	t.Helper()
	for f, w := range waivers {
		s := base()
		w.wrong(s)
		if got := s.refused(t); !slices.Equal(got, []Field{f}) {
			t.Errorf("%s, not waived: refused %v", f, got)
		}
		w.waive(s)
		if got := s.refused(t); got != nil {
			t.Errorf("%s, waived: refused %v", f, got)
		}
		for _, x := range Explain(s.c, s.p, s.purpose, s.now) {
			if want := (x.Field == f); want != (x.Verdict == Waived) {
				t.Errorf("%s waived: %s is %s", f, x.Field, x.Verdict)
			}
		}
		if !slices.ContainsFunc(Warnings(s.c, s.p), func(x Warning) bool { return x.Text == string(f)+waivedText[f]+" waived: test" }) {
			t.Errorf("%s waived: not among the warnings %v", f, Warnings(s.c, s.p))
		}
		if p := mustParse(t, s.p.Encode()); len(p.waived()) != 1 || p.waived()[0].field != f {
			t.Errorf("%s: waivers after encoding: %v", f, p.waived())
		}
		for other := range waivers {
			if other == f || other == FieldHostData && f == FieldConfig {
				continue
			}
			s := base()
			w.waive(s)
			waivers[other].wrong(s)
			if got := s.refused(t); !slices.Equal(got, []Field{other}) {
				t.Errorf("%s waived, %s wrong: refused %v", f, other, got)
			}
		}
	}
}

var waivedText = map[Field]string{FieldTCB: " of Milan"}

func TestWarnings(t *testing.T) {
	t.Parallel()
	fields := func(c *attestation.Claims, p *TrustPolicy) (out []Field) {
		for _, w := range Warnings(c, p) {
			out = append(out, w.Field)
		}
		return out
	}
	c, p := testClaims(), testPolicy()
	if got := fields(c, p); !slices.Equal(got, []Field{FieldBackends}) { // local is what the policy accepts
		t.Errorf("strict policy: %v", got)
	}
	c.Simulated, c.Debug, c.Migration = true, true, true
	p.MinimumArgon2id.Want.MemoryKiB--
	if got := fields(c, p); !slices.Equal(got, []Field{FieldSimulation, FieldDebug, FieldMigration, FieldBackends, FieldArgon2id}) {
		t.Errorf("dangerous evidence: %v", got)
	}
	if got := fields(c, nil); !slices.Equal(got, []Field{FieldSimulation, FieldDebug, FieldMigration}) {
		t.Errorf("without policy: %v", got)
	}
	p.MinimumArgon2id = Require(Argon2id{64 << 10, 2})
	if got := fields(nil, p); !slices.Equal(got, []Field{FieldBackends, FieldArgon2id}) {
		t.Errorf("without claims: %v", got)
	}
}

// twoReleases is a policy during an update, with another binary and configuration.
func twoReleases() *TrustPolicy {
	p := testPolicy()
	p.Releases = append(p.Releases, Release{
		Name: "1.1", Platform: attestation.PlatformSEVSNP, Measurement: Require(Hex(fill(0x3f, 48))), Configuration: Require(Hex(fill(0xd0, 32))),
		HostData: Require(HostDataConfiguration),
	})
	return p
}

func TestTwoReleases(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name         string
		measurement  byte
		config       byte
		want         []Field
		comparedWith string
	}{
		{"old", 0x3e, 0xc0, nil, "1.0"},
		{"new", 0x3f, 0xd0, nil, "1.1"},
		{"old binary, new configuration", 0x3e, 0xd0, []Field{FieldConfig}, "1.0"},
		{"new binary, old configuration", 0x3f, 0xc0, []Field{FieldMeasurement}, "1.0"},
		{"neither", 0x99, 0x98, []Field{FieldMeasurement, FieldConfig}, "1.0"},
		{"other binary, new configuration", 0x99, 0xd0, []Field{FieldMeasurement}, "1.1"},
	} {
		s := newScene()
		s.p = twoReleases()
		s.c.Measurement = fill(x.measurement, 48)
		s.c.ConfigurationHash, s.c.HostData = wire.Digest(fill(x.config, 32)), fill(x.config, 32)
		if got := s.refused(t); !slices.Equal(got, x.want) {
			t.Errorf("%s: refused %v, want %v", x.name, got, x.want)
		}
		for _, f := range Explain(s.c, s.p, s.purpose, s.now) {
			if ofRelease := f.Field == FieldMeasurement || f.Field == FieldConfig || f.Field == FieldHostData; ofRelease && f.Release != x.comparedWith || !ofRelease && f.Release != "" {
				t.Errorf("%s: %s compared with release %q, want %q", x.name, f.Field, f.Release, x.comparedWith)
			}
		}
	}
}
