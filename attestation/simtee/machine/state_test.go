package machine

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
)

var founded = sync.OnceValues(func() (*Machine, error) { return FoundFast(time.Now()) })

func fast(t *testing.T) *Machine {
	t.Helper()
	m, err := founded()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The first start makes keys of AMD's sizes, the next ones find them.
func TestNew(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	first, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if bits := first.ark.key.N.BitLen(); bits != 4096 || first.ask.key.N.BitLen() != bits || first.key.Params().BitSize != 384 {
		t.Errorf("keys of %d bits", bits)
	}
	for name, mode := range map[string]os.FileMode{"": 0o700 | os.ModeDir, KeysFile: 0o600, RootFile: 0o600, IntelKeysFile: 0o600, IntelRootFile: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, info, err, mode)
		}
	}
	for p, root := range map[attestation.Platform]*x509.Certificate{
		attestation.PlatformSEVSNP: first.Root(), attestation.PlatformTDX: first.Intel().Certificate(intel.Root),
		attestation.PlatformSGX: first.Intel().Certificate(intel.Root),
	} {
		file, err := os.ReadFile(filepath.Join(dir, RootFileOf(p)))
		if err != nil {
			t.Fatal(err)
		}
		if block, rest := pem.Decode(file); block == nil || len(rest) > 0 || !bytes.Equal(block.Bytes, root.Raw) {
			t.Errorf("root file of %s: %q", p, file)
		}
	}
	second, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !second.key.Equal(first.key) || !second.ask.key.Equal(first.ask.key) || second.chip != first.chip {
		t.Error("the second start has other keys, or another chip")
	}
	for i, c := range second.Certificates() {
		if !bytes.Equal(c, first.Certificates()[i]) {
			t.Errorf("the second start has another certificate %d", i)
		}
	}
	if a, b := intelState(t, first), intelState(t, second); !bytes.Equal(a, b) || second.intel.Platform() != first.intel.Platform() {
		t.Error("the second start has another Intel")
	}
}

func intelState(t *testing.T, m *Machine) []byte {
	t.Helper()
	state, err := m.intel.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// A folder of a version that knew AMD alone goes on, and gets Intel's keys, once.
func TestFolderWithoutIntel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := fast(t).Save(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{IntelKeysFile, IntelRootFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Root().Raw, fast(t).Root().Raw) || !bytes.Equal(intelState(t, first), intelState(t, second)) {
		t.Error("another root")
	}
	if err := os.WriteFile(filepath.Join(dir, IntelKeysFile), []byte("keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir); !errors.Is(err, ErrState) {
		t.Errorf("damaged: %v", err)
	}
}

// A damaged state is refused and left as it is: nothing replaces the root by a new one.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	m := fast(t)
	good, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.Certify(Chip{ID: [64]byte{1}}, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := (&Machine{ark: m.ark, ask: m.ask, vcek: m.vcek, key: other.key}).encode()
	if err != nil {
		t.Fatal(err)
	}
	half := good[:bytes.LastIndex(good, []byte("-----BEGIN CERTIFICATE"))]
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string][]byte{
		"empty":            {},
		"no PEM":           []byte("keys"),
		"cut":              good[:len(good)-40],
		"no VCEK":          half,
		"trailing":         append(bytes.Clone(good), '\n'),
		"ASK as VCEK":      append(bytes.Clone(half), half[bytes.LastIndex(half, []byte("-----BEGIN CERTIFICATE")):]...),
		"VCEK first":       append(bytes.Clone(good[len(half):]), half...),
		"another's key":    foreign,
		"certificate only": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.vcek.Raw}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, KeysFile)
			if err := os.WriteFile(path, state, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := New(dir); !errors.Is(err, ErrState) {
				t.Errorf("got %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, state) {
				t.Errorf("the state changed: %v", err)
			}
		})
	}
}

// Whoever dumps the root sees what it is.
func TestRootSaysSimulation(t *testing.T) {
	t.Parallel()
	root, err := x509.ParseCertificate(fast(t).Root().Raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains([]byte(root.Subject.String()), []byte("SIMULATION")) || root.CheckSignatureFrom(root) != nil {
		t.Errorf("root %s", root.Subject)
	}
}

func TestMeasured(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "binary")
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(content string, when time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	var cache measured
	check := func(step string) {
		t.Helper()
		want, err := Measure(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := cache.of(f)
		if err != nil || got != want {
			t.Errorf("%s: %x, %v, want %x", step, got, err, want)
		}
	}
	write("one", when)
	check("first")
	check("again")
	write("two", when.Add(time.Nanosecond))
	check("another time")
	write("longer", when.Add(time.Nanosecond))
	check("another size")
	if err := os.Rename(path, path+"-old"); err != nil { // keeps its inode in use
		t.Fatal(err)
	}
	write("sister", when.Add(time.Nanosecond))
	check("another file")
	if _, err := Measure(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
