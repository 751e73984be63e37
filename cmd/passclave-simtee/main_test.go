//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/attestation/simtee/machine"
)

// state returns a folder with the machine of the tests and a configuration's file.
func state(t *testing.T) (dir, configuration string) {
	t.Helper()
	dir = t.TempDir()
	if err := at.NewMachine(t).Save(dir); err != nil {
		t.Fatal(err)
	}
	configuration = filepath.Join(dir, "configuration.json")
	if err := os.WriteFile(configuration, at.Configuration(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, configuration
}

// started is a running command: what it said when it was ready, and how to end it.
type started struct {
	ready string
	stop  func() int
}

func start(t *testing.T, args ...string) started {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		c := run(ctx, args, in, io.Discard)
		in.Close()
		code <- c
		code <- c
	}()
	stop := func() int { cancel(); return <-code }
	t.Cleanup(func() { stop() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("not ready: exit code %d", stop())
	}
	return started{line, stop}
}

func TestServe(t *testing.T) {
	t.Parallel()
	dir, configuration := state(t)
	socket := filepath.Join(dir, "run", "s")
	args := []string{"-state", dir, "-socket", socket, "-host-data", configuration}
	s := start(t, args...)
	if s.ready != "ready unix:"+socket+"\n" {
		t.Errorf("ready line %q", s.ready)
	}
	for path, mode := range map[string]os.FileMode{socket: 0o600 | os.ModeSocket, filepath.Dir(socket): 0o700 | os.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", path, info, err, mode)
		}
	}
	file, err := os.ReadFile(configuration)
	if err != nil {
		t.Fatal(err)
	}
	data := at.ClientData(t, file)
	encoded, err := data.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := simtee.NewClient("unix:"+socket).Evidence(t.Context(), encoded, file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := attestation.Genuine(b, at.Roots(at.NewMachine(t)), time.Now())
	if err != nil || !c.Simulated || !bytes.Equal(c.HostData, c.ConfigurationHash[:]) {
		t.Errorf("evidence: %+v, %v", c, err)
	}

	// A second one does not take the socket away, and leaves it in place.
	if code := run(t.Context(), args, io.Discard, io.Discard); code != 1 {
		t.Errorf("a second server: exit code %d", code)
	}
	if _, err := simtee.NewClient("unix:"+socket).Make(t.Context(), [64]byte{}); err != nil {
		t.Errorf("after a second server: %v", err)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// After a kill -9 the socket is still there; nobody serves it.
func TestServeReplacesDeadSocket(t *testing.T) {
	t.Parallel()
	dir, configuration := state(t)
	socket := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s := start(t, "-state", dir, "-socket", socket, "-host-data", configuration)
	if _, err := simtee.NewClient("unix:"+socket).Make(t.Context(), [64]byte{}); err != nil {
		t.Error(err)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestServeRefusesConfiguration(t *testing.T) {
	t.Parallel()
	dir, configuration := state(t)
	if err := os.WriteFile(configuration, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{configuration, configuration + "-none"} {
		args := []string{"-state", dir, "-socket", filepath.Join(dir, "s"), "-host-data", file}
		if code := run(t.Context(), args, io.Discard, io.Discard); code != 1 {
			t.Errorf("%s: exit code %d", file, code)
		}
	}
}

func TestServePlatforms(t *testing.T) {
	t.Parallel()
	for _, p := range []attestation.Platform{attestation.PlatformTDX, attestation.PlatformSGX} {
		dir, configuration := state(t)
		socket := filepath.Join(dir, "s")
		s := start(t, "-platform", string(p), "-state", dir, "-socket", socket, "-host-data", configuration)
		b, err := simtee.NewClient("unix:"+socket).Make(t.Context(), [64]byte{})
		if err != nil || b.Platform != p || len(b.Collateral) != 4 {
			t.Errorf("%s: %+v, %v", p, b, err)
		}
		if code := s.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

func TestMeasureAndRoot(t *testing.T) {
	t.Parallel()
	dir, _ := state(t)
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m, err := machine.Measure(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags []string
		root  string
		want  []byte
	}{
		{nil, machine.RootFile, m.SHA384[:]},
		{[]string{"-platform", "sev-snp"}, machine.RootFile, m.SHA384[:]},
		{[]string{"-platform", "tdx"}, machine.IntelRootFile, m.SHA384[:]},
		{[]string{"-platform", "sgx"}, machine.IntelRootFile, m.SHA256[:]},
	} {
		var out, log bytes.Buffer
		args := append([]string{"measure"}, append(c.flags, path)...)
		if code := run(t.Context(), args, &out, io.Discard); code != 0 || out.String() != hex.EncodeToString(c.want)+"\n" {
			t.Errorf("%q: exit code %d, %q", args, code, &out)
		}
		out.Reset()
		args = append([]string{"root"}, append(c.flags, "-state", dir)...)
		if code := run(t.Context(), args, &out, &log); code != 0 || out.String() != filepath.Join(dir, c.root)+"\n" {
			t.Errorf("%q: exit code %d, %q", args, code, &out)
		}
		if !strings.Contains(log.String(), "SIMULATION") {
			t.Errorf("the log does not say SIMULATION: %s", &log)
		}
	}
}

func TestUse(t *testing.T) {
	t.Parallel()
	for want, list := range map[int][][]string{
		0: {{"-h"}, {"measure", "-h"}, {"root", "-h"}},
		1: {{"measure", "/none/such"}},
		2: {{}, {"-state", "a"}, {"-none"}, {"-state", "a", "-socket", "b", "-host-data", "c", "d"}, {"measure"}, {"measure", "a", "b"}, {"root"},
			{"measure", "-platform", "azure-attestation", "a"}, {"root", "-platform", "", "-state", "a"}},
	} {
		for _, args := range list {
			var out, usage bytes.Buffer
			if code := run(t.Context(), args, &out, &usage); code != want || out.Len() > 0 || usage.Len() == 0 {
				t.Errorf("%q: exit code %d, want %d; %q, %q", args, code, want, &out, &usage)
			}
		}
	}
}
