// Package attestationtest makes simulated evidence for tests, genuine or false in
// one chosen way. Its machine is made anew for each process, and kept nowhere.
package attestationtest

import (
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/wire"
)

var founded = sync.OnceValues(func() (*machine.Machine, error) { return machine.FoundFast(time.Now()) })

// NewMachine returns the simulated hardware of this process.
func NewMachine(t testing.TB) *machine.Machine {
	t.Helper()
	m, err := founded()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Roots returns what a verifier has to trust to find the evidence of m genuine: of
// SEV-SNP, and of TDX and SGX.
func Roots(m *machine.Machine) attestation.Roots {
	return attestation.Roots{Simulation: []wire.Digest{
		sha256.Sum256(m.Root().Raw), sha256.Sum256(m.Intel().Certificate(intel.Root).Raw)}}
}

// Option makes a guest, or its evidence, unlike the ordinary one.
type Option func(*guest)

type guest struct {
	machine *machine.Machine
	report  []func(*sevsnp.Report)
	raw     []func([]byte)
}

// On has another machine than the process's make the evidence.
func On(m *machine.Machine) Option { return func(g *guest) { g.machine = m } }

// With changes the report before it is signed.
func With(change func(*sevsnp.Report)) Option {
	return func(g *guest) { g.report = append(g.report, change) }
}

// Raw changes the bytes of the report after everything else and signs what comes
// out, reserved bits and all.
func Raw(change func([]byte)) Option { return func(g *guest) { g.raw = append(g.raw, change) } }

// Measurement sets the launch measurement, 48 bytes. It is 48 times 0x4d otherwise.
func Measurement(m []byte) Option {
	return With(func(r *sevsnp.Report) { r.Measurement = m })
}

// HostData sets HOST_DATA, 32 bytes. It is the hash of the configuration otherwise.
func HostData(h []byte) Option { return With(func(r *sevsnp.Report) { r.HostData = h }) }

// Bits of a guest policy (AMD 56860, table 9).
const (
	policySMT       = 1 << 16
	policyMigration = 1 << 18
	policyDebug     = 1 << 19
)

// Debug sets the debug bit: the host may read the guest's memory.
func Debug() Option { return With(func(r *sevsnp.Report) { r.Policy |= policyDebug }) }

// Migration allows a migration agent.
func Migration() Option { return With(func(r *sevsnp.Report) { r.Policy |= policyMigration }) }

// NoSMT forbids SMT, which an ordinary guest allows.
func NoSMT() Option { return With(func(r *sevsnp.Report) { r.Policy &^= policySMT }) }

// VMPL sets the privilege level that asked for the report, 0 otherwise.
func VMPL(level uint32) Option { return With(func(r *sevsnp.Report) { r.Vmpl = level }) }

// GuestSVN sets the guest's security version number, 0 otherwise.
func GuestSVN(n uint32) Option { return With(func(r *sevsnp.Report) { r.GuestSvn = n }) }

// Bundle returns evidence over runtime data, with the configuration's file and AMD's
// revocation list. It does
// not ask whether runtime data and configuration fit each other, nor whether the
// runtime data is valid: see [BundleOver].
func Bundle(t testing.TB, r attestation.RuntimeData, configuration []byte, options ...Option) *attestation.Bundle {
	t.Helper()
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return BundleOver(t, data, configuration, options...)
}

// BundleOver is [Bundle] over any bytes in the place of runtime data.
func BundleOver(t testing.TB, runtimeData, configuration []byte, options ...Option) *attestation.Bundle {
	t.Helper()
	g := guest{machine: NewMachine(t)}
	for _, o := range options {
		o(&g)
	}
	r, err := g.machine.Template()
	if err != nil {
		t.Fatal(err)
	}
	measurement, reportData, hostData := [48]byte{}, attestation.ReportData(runtimeData), wire.ConfigurationHash(configuration)
	for i := range measurement {
		measurement[i] = 0x4d
	}
	r.Measurement, r.ReportData, r.HostData = measurement[:], reportData[:], hostData[:]
	for _, change := range g.report {
		change(r)
	}
	report, err := g.machine.Sign(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range g.raw {
		change(report)
		if err := g.machine.SignRaw(report); err != nil {
			t.Fatal(err)
		}
	}
	collateral, err := g.machine.Collateral(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &attestation.Bundle{
		Platform:      attestation.PlatformSEVSNP,
		Report:        report,
		Certificates:  g.machine.Certificates(),
		Collateral:    slices.Clone(collateral),
		RuntimeData:   runtimeData,
		Configuration: configuration,
	}
}
