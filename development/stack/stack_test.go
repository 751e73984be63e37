package stack_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/policy"
	"github.com/passclave/passclave/wire"
)

// start starts a stack of fake parts; the test's end stops it.
func start(t *testing.T, o stack.Options) *stack.Stack {
	t.Helper()
	s, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func options(t *testing.T) stack.Options {
	t.Helper()
	return stack.Options{Dir: t.TempDir(), Bin: bin(t), Founding: stack.Founding{AnyPorts: true}}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFoundingAndGoingOn(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := start(t, o)
	if err := s.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	configuration, err := wire.ParseConfiguration(read(t, o.Dir, "configuration.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := configuration.Issuers[0].Issuer; got != s.IssuerURL {
		t.Errorf("issuer %s, configured %s", s.IssuerURL, got)
	}
	if got := configuration.KeyService.Vault; got != s.BrokerURL {
		t.Errorf("broker %s, configured %s", s.BrokerURL, got)
	}
	trust, err := policy.Parse(read(t, s.PolicyFile))
	if err != nil {
		t.Fatal(err)
	}
	if trust.Releases[0].Measurement.Waived != "development" {
		t.Errorf("measurement is not waived by name: %+v", trust.Releases[0].Measurement)
	}
	if trust.Revocation.Waived != "" {
		t.Errorf("revocation is waived: %+v", trust.Revocation)
	}
	founded := s.Founded
	s.Stop()

	files := []string{"configuration.json", "policy.json", "release.json", "ca.pem", "tls.pem", "broker/keys.json", "simtee/simulation-root.pem", "stack.json"}
	before := map[string]string{}
	for _, f := range files {
		before[f] = string(read(t, o.Dir, f))
	}
	again := start(t, o)
	if !founded || again.Founded {
		t.Errorf("founded at first: %v, again: %v", founded, again.Founded)
	}
	for _, f := range files {
		if string(read(t, o.Dir, f)) != before[f] {
			t.Errorf("%s was changed by a second start", f)
		}
	}
	if again.URL != s.URL || again.IssuerURL != s.IssuerURL || again.RPURL != s.RPURL {
		t.Error("addresses moved")
	}
}

// A strict founding pins the measurement for clients and broker.
func TestStrictFounding(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Founding.Strict = true
	s := start(t, o)
	trust, err := policy.Parse(read(t, s.PolicyFile))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("ab", 48)
	if got := trust.Releases[0].Measurement; got.Waived != "" || got.Want.String() != want {
		t.Errorf("trust policy: %+v", got)
	}
	if !strings.Contains(string(read(t, o.Dir, "release.json")), want) {
		t.Error("release policy does not name the measurement")
	}
}

// The platform is founded: policies name it, its root and its claims, a later start goes
// on with it, and refuses another.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	for p, c := range map[attestation.Platform]struct {
		root        string
		measurement int
		claims      map[string]string // of the release policy
	}{
		"":                         {"simtee/simulation-root.pem", 48, map[string]string{"x-ms-attestation-type": "sevsnpvm", "x-ms-sevsnpvm-launchmeasurement": "ab", "x-ms-sevsnpvm-hostdata": ""}},
		attestation.PlatformSEVSNP: {"simtee/simulation-root.pem", 48, map[string]string{"x-ms-attestation-type": "sevsnpvm", "x-ms-sevsnpvm-is-debuggable": "false"}},
		attestation.PlatformTDX:    {"simtee/simulation-intel-root.pem", 48, map[string]string{"x-ms-attestation-type": "tdxvm", "tdx_mrtd": "ab", "tdx_mrconfigid": strings.Repeat("00", 16), "tdx_td_attributes_debug": "false"}},
		attestation.PlatformSGX:    {"simtee/simulation-intel-root.pem", 32, map[string]string{"x-ms-attestation-type": "sgx", "x-ms-sgx-mrenclave": "ab", "x-ms-sgx-config-id": strings.Repeat("00", 32), "x-ms-sgx-is-debuggable": "false"}},
	} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Founding.Platform, o.Founding.Strict = p, true
			s := start(t, o)
			is := cmp.Or(p, attestation.PlatformSEVSNP)
			block, _ := pem.Decode(read(t, o.Dir, c.root))
			root := sha256.Sum256(block.Bytes)
			trust, err := policy.Parse(read(t, s.PolicyFile))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(trust.Platforms, []attestation.Platform{is}) || trust.Releases[0].Platform != is ||
				!bytes.Equal(trust.Simulation.Roots[0], root[:]) || trust.Releases[0].Measurement.Want.String() != strings.Repeat("ab", c.measurement) {
				t.Errorf("trust policy %+v", trust)
			}
			release := string(read(t, o.Dir, "release.json"))
			c.claims["x-passclave-root"] = hex.EncodeToString(root[:])
			for claim, value := range c.claims {
				_, rest, found := strings.Cut(release, fmt.Sprintf(`"claim": %q`, claim))
				rest, _, _ = strings.Cut(rest, "}")
				if !found || !strings.Contains(rest, value) {
					t.Errorf("release policy does not say %s %s: %s", claim, value, release)
				}
			}
			if string(read(t, o.Dir, "simtee/simulates")) != string(is) || s.Platform != is {
				t.Errorf("simulates %s, %s", read(t, o.Dir, "simtee/simulates"), s.Platform)
			}
			s.Stop()
			o.Founding.Platform = ""
			again := start(t, o)
			if string(read(t, o.Dir, "simtee/simulates")) != string(is) || again.Platform != is {
				t.Errorf("goes on as %s", again.Platform)
			}
			again.Stop()
			o.Founding.Platform = attestation.PlatformTDX
			if is == attestation.PlatformTDX {
				o.Founding.Platform = attestation.PlatformSGX
			}
			var refused *stack.RefusedError
			if _, err := stack.Start(t.Context(), o); !errors.As(err, &refused) {
				t.Errorf("another platform: %v", err)
			}
		})
	}
	o := options(t)
	o.Founding.Platform = attestation.PlatformAzureAttestation
	var refused *stack.RefusedError
	if _, err := stack.Start(t.Context(), o); !errors.As(err, &refused) {
		t.Errorf("a platform that is none: %v", err)
	}
}

// Where the founding makes PINs cheap, the trust policy says so by name.
func TestCheapPINs(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Founding.PIN = wire.PINConfiguration{ConsecutiveLimit: 3, LifetimeLimit: 5, Argon2id: wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}}
	s := start(t, o)
	trust, err := policy.Parse(read(t, s.PolicyFile))
	if err != nil {
		t.Fatal(err)
	}
	if trust.MinimumArgon2id.Waived != "test" {
		t.Errorf("demands %+v", trust.MinimumArgon2id)
	}
}

// Another address is kept, and one of all interfaces is dialled on loopback.
func TestListen(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o).Stop()
	o.Listen = "0.0.0.0:0"
	s := start(t, o)
	if s.URL != "http://127.0.0.1:0" {
		t.Errorf("URL %s", s.URL)
	}
	s.Stop()
	o.Listen = ""
	if again := start(t, o); again.URL != s.URL {
		t.Errorf("then %s", again.URL)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o)
	if _, err := stack.Start(t.Context(), o); !errors.Is(err, stack.ErrInUse) {
		t.Errorf("second start: %v", err)
	}
}

// What is gone or exchanged since the founding, and what a start says of it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string) error{
		"KEK gone":      func(dir string) error { return os.Remove(filepath.Join(dir, "broker/keys.json")) },
		"KEK exchanged": func(dir string) error { return exchangeKey(dir) },
		"KEK unreadable": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "broker/keys.json"), []byte("{"), 0o600)
		},
		"configuration gone": func(dir string) error { return os.Remove(filepath.Join(dir, "configuration.json")) },
		"configuration changed": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "configuration.json"), []byte("{}"), 0o600)
		},
		"root gone":  func(dir string) error { return os.RemoveAll(filepath.Join(dir, "simtee")) },
		"facts gone": func(dir string) error { return os.Remove(filepath.Join(dir, "stack.json")) },
		"facts of others": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "stack.json"), []byte(`{"version":2}`), 0o600)
		},
		"foreign folder": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "stack.json")), os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			start(t, o).Stop()
			if err := spoil(o.Dir); err != nil {
				t.Fatal(err)
			}
			_, err := stack.Start(t.Context(), o)
			var refused *stack.RefusedError
			if !errors.As(err, &refused) || refused.Reason == "" || refused.Remedy == "" {
				t.Fatalf("start: %v", err)
			}
			if _, err := os.Stat(filepath.Join(o.Dir, "host/database")); err != nil {
				t.Errorf("the database: %v", err)
			}
		})
	}
}

func exchangeKey(dir string) error {
	broker := filepath.Join(dir, "broker")
	if err := os.Remove(filepath.Join(broker, "keys.json")); err != nil {
		return err
	}
	return fakeKey(broker, "passclave-kek", filepath.Join(dir, "release.json"), true)
}

// A founding that was cut short before the host ran is begun anew.
func TestFoundingCutShort(t *testing.T) {
	t.Parallel()
	o := options(t)
	if err := os.Remove(filepath.Join(o.Bin, "passclave-keybroker")); err != nil {
		t.Fatal(err)
	}
	var failed *stack.PartError
	if _, err := stack.Start(t.Context(), o); !errors.As(err, &failed) || failed.Part != stack.Broker {
		t.Fatalf("without its broker: %v", err)
	}
	root := read(t, o.Dir, "simtee/simulation-root.pem")
	o.Bin = bin(t)
	if s := start(t, o); !s.Founded {
		t.Error("not founded anew")
	}
	if string(read(t, o.Dir, "simtee/simulation-root.pem")) == string(root) {
		t.Error("went on with half a founding")
	}
}

// A founding that was cut short after its KEK was made is begun anew, with another;
// but a KEK in a folder where no founding is under way stays, and nothing starts.
func TestKEKWithoutService(t *testing.T) {
	t.Parallel()
	o := options(t)
	if err := os.Remove(filepath.Join(o.Bin, "passclave-keybroker")); err != nil {
		t.Fatal(err)
	}
	var failed *stack.PartError
	if _, err := stack.Start(t.Context(), o); !errors.As(err, &failed) || failed.Part != stack.Broker {
		t.Fatalf("without its broker: %v", err)
	}
	broker := filepath.Join(o.Dir, "broker")
	if err := fakeKey(broker, "passclave-kek", filepath.Join(o.Dir, "release.json"), true); err != nil {
		t.Fatal(err)
	}
	half := read(t, broker, file.FileName)
	o.Bin = bin(t)
	start(t, o).Stop()
	kek := read(t, broker, file.FileName)
	if string(kek) == string(half) {
		t.Error("went on with the KEK of half a founding")
	}

	// The founding is done: what is lost from now on, the KEK is not removed for it.
	gone := []string{"stack.json", "host", "simtee", "issuer", "rp", "configuration.json", "policy.json", "release.json"}
	for _, name := range gone {
		if err := os.RemoveAll(filepath.Join(o.Dir, name)); err != nil {
			t.Fatal(err)
		}
		if name == "stack.json" {
			continue // the database alone is a refusal of its own
		}
		_, err := stack.Start(t.Context(), o)
		var refused *stack.RefusedError
		if !errors.As(err, &refused) || refused.Remedy == "" {
			t.Errorf("%s gone: %v", name, err)
		}
		if string(read(t, broker, file.FileName)) != string(kek) {
			t.Fatalf("%s gone: the KEK was changed", name)
		}
	}
}

// A part's folder that no founding left there is not removed: it may be a simulation
// root brought back from a backup before the rest, or a folder of somebody's own.
func TestFolderThatNoFoundingMade(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"simtee", "issuer", "rp", "enclave"} {
		o := options(t)
		kept := filepath.Join(o.Dir, part, "kept")
		if err := errors.Join(os.MkdirAll(filepath.Dir(kept), 0o700), os.WriteFile(kept, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := stack.Start(t.Context(), o)
		var refused *stack.RefusedError
		if !errors.As(err, &refused) || refused.Remedy == "" {
			t.Errorf("%s: %v", part, err)
		}
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("%s: %v", part, err)
		}
	}
}

// `keys restore` into a new folder, then `up`.
func TestRestoredKEKStays(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]func(*stack.Options) error{
		"a key": func(o *stack.Options) error {
			release := filepath.Join(t.TempDir(), "release.json")
			policy := releasepolicy.Require("https://broker.example", map[string]any{"x-passclave-simulated": true})
			if err := os.WriteFile(release, policy, 0o600); err != nil {
				return err
			}
			return fakeKey(filepath.Join(o.Dir, "broker"), "passclave-kek", release, true)
		},
		"a file that cannot be read as keys": func(o *stack.Options) error {
			if err := os.Mkdir(filepath.Join(o.Dir, "broker"), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(o.Dir, "broker", file.FileName), []byte("{"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			if err := content(&o); err != nil {
				t.Fatal(err)
			}
			before := read(t, o.Dir, "broker", file.FileName)
			_, err := stack.Start(t.Context(), o)
			var refused *stack.RefusedError
			if !errors.As(err, &refused) || refused.Remedy == "" {
				t.Errorf("start: %v", err)
			}
			if string(read(t, o.Dir, "broker", file.FileName)) != string(before) {
				t.Error("the KEK was changed")
			}
		})
	}
}

// A part that ends before it is ready ends the start, and nothing is left running.
func TestPartThatFails(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o).Stop()
	if err := os.WriteFile(filepath.Join(o.Dir, "broken-enclave"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := stack.Start(t.Context(), o)
	var failed *stack.PartError
	if !errors.As(err, &failed) || failed.Part != stack.Enclave || failed.Last != `ERROR "enclave is broken"` {
		t.Fatalf("start: %v", err)
	}
	if err := os.Remove(filepath.Join(o.Dir, "broken-enclave")); err != nil {
		t.Fatal(err)
	}
	start(t, o) // the lock was given back
}

// Every part is started again after a crash and after a clean end.
func TestRestarts(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := start(t, o)
	for _, p := range stack.Parts {
		pid := s.PID(p)
		if err := s.Kill(t.Context(), p); err != nil {
			t.Fatalf("kill %s: %v", p, err)
		}
		if again := s.PID(p); again == pid || again == 0 {
			t.Errorf("%s: process %d, then %d", p, pid, again)
		}
	}
	if err := s.Restart(t.Context(), stack.Enclave); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
}

// SetBinary counts from the next start on.
func TestSetBinary(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := start(t, o)
	other := filepath.Join(bin(t), "passclave-enclave")
	s.SetBinary(stack.Enclave, other)
	if err := s.Restart(t.Context(), stack.Enclave); err != nil {
		t.Fatal(err)
	}
	arguments := read(t, "/proc", strconv.Itoa(s.PID(stack.Enclave)), "cmdline")
	if got, _, _ := strings.Cut(string(arguments), "\x00"); got != other {
		t.Errorf("runs %s", got)
	}
}

func TestStopsInReverseOrder(t *testing.T) {
	t.Parallel()
	o := options(t)
	var l logs
	o.Log = &l
	s := start(t, o)
	s.Stop()
	var ends []string
	for _, line := range strings.Split(l.b.String(), "\n") {
		if _, text, ok := strings.Cut(line, " | "); ok && strings.HasSuffix(text, ` ends"`) {
			ends = append(ends, text)
		}
	}
	want := []string{`"host ends"`, `"enclave ends"`, `"demorp ends"`, `"devissuer ends"`, `"keybroker ends"`, `"simtee ends"`}
	if !slices.Equal(ends, want) {
		t.Errorf("ended as %q", ends)
	}
	if lines := l.lines(stack.Broker); len(lines) != 2 || !strings.Contains(lines[0], "-create") {
		t.Errorf("the broker logged %q", lines)
	}
}

// A ready service, one that is not yet, and why.
func TestReady(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := start(t, o)
	if err := os.WriteFile(filepath.Join(o.Dir, "sealed"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var notReady *stack.NotReadyError
	if err := s.Ready(t.Context()); !errors.As(err, &notReady) || notReady.Reason != "no KEK" {
		t.Errorf("sealed: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.WaitReady(ctx); !errors.As(err, &notReady) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting: %v", err)
	}
}

// When the process that runs the stack is killed, its parts end too.
func TestPartsDieWithTheirParent(t *testing.T) {
	t.Parallel()
	o := options(t)
	cmd := exec.Command(filepath.Join(o.Bin, "parent"), o.Dir, o.Bin)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pids map[stack.Part]int
	if err := json.Unmarshal(line, &pids); err != nil {
		t.Fatal(err)
	}
	var ends []unix.PollFd
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		ends = append(ends, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range ends {
		n, err := unix.Poll(ends[i:i+1], 10_000)
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(ends[i:i+1], 10_000)
		}
		if n != 1 {
			t.Errorf("a part lives on: %v", err)
		}
	}
	cmd.Wait()
	start(t, o) // and the folder is free
}

// The certificate is renewed at a start within its last month, by the same CA.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	o := options(t)
	start(t, o).Stop()
	first := certificate(t, o.Dir)
	if err := stack.RenewCertificate(o.Dir, first.NotAfter.Add(-31*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if certificate(t, o.Dir).SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("renewed too early")
	}
	if err := stack.RenewCertificate(o.Dir, first.NotAfter.Add(-29*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	renewed := certificate(t, o.Dir)
	if renewed.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("not renewed")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, o.Dir, "ca.pem"))
	for name, good := range map[string]bool{"localhost": true, "127.0.0.1": true, "example.org": false, "127.0.0.2": false} {
		_, err := renewed.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: first.NotAfter})
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func certificate(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	b, _ := pem.Decode(read(t, dir, "tls.pem"))
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
