//go:build linux

package machine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/wire"
)

// asks, in the environment, has the test binary be a program that asks the socket it
// names for a report, once a line comes in.
const asks = "PASSCLAVE_TEST_ASKS"

func TestMain(m *testing.M) {
	if address := os.Getenv(asks); address != "" {
		fmt.Println("started")
		bufio.NewReader(os.Stdin).ReadString('\n')
		b, err := simtee.NewClient(address).Make(context.Background(), [64]byte{1})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(hex.EncodeToString(b.Report))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve serves the tests' machine and returns its address, and a function that ends
// it and returns what Serve did.
func serve(t *testing.T, platform attestation.Platform, hostData [32]byte) (address string, stop func() error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- at.NewMachine(t).Serve(ctx, l, platform, hostData, slog.New(slog.DiscardHandler)) }()
	stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { stop() })
	return "unix:" + path, stop
}

func self(t *testing.T) machine.Measurement {
	t.Helper()
	m, err := machine.Measure("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What the socket answers is genuine and names this very binary.
func TestServe(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	address, stop := serve(t, attestation.PlatformSEVSNP, sha256.Sum256(file))
	data := at.ClientData(t, file)
	encoded, err := data.Encode()
	if err != nil {
		t.Fatal(err)
	}
	client := simtee.NewClient(address)
	for range 3 { // measured once, then remembered
		b, err := client.Evidence(t.Context(), encoded, file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := attestation.Genuine(b, at.Roots(at.NewMachine(t)), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		want, hash := self(t), wire.ConfigurationHash(file)
		if !bytes.Equal(c.Measurement, want.SHA384[:]) || !bytes.Equal(c.HostData, hash[:]) || !c.RevocationChecked || c.Debug || c.VMPL != 0 || c.Migration {
			t.Errorf("claims: %+v", c)
		}
	}
	if err := stop(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, err := client.Make(t.Context(), [64]byte{}); err == nil {
		t.Error("answered after its end")
	}
}

// On TDX and SGX, measurement and host data stand in the platform's own fields, and
// all collateral comes along.
func TestServeIntel(t *testing.T) {
	t.Parallel()
	hostData := [32]byte{1, 31: 2}
	for p, at := range map[attestation.Platform]struct{ measurement, host, hostLength, data int }{
		attestation.PlatformTDX: {48 + 0x88, 48 + 0xb8, 48, 48 + 0x208},
		attestation.PlatformSGX: {16 + 48 + 64, 16 + 48 + 192, 64, 16 + 48 + 320},
	} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			address, _ := serve(t, p, hostData)
			b, err := simtee.NewClient(address).Make(t.Context(), [64]byte{3, 63: 4})
			if err != nil {
				t.Fatal(err)
			}
			want := self(t).Of(p)
			host := append(hostData[:], make([]byte, at.hostLength-32)...)
			if b.Platform != p || len(b.Certificates) != 0 || len(b.Collateral) != 4 ||
				!bytes.Equal(b.Report[at.measurement:][:len(want)], want) || !bytes.Equal(b.Report[at.host:][:at.hostLength], host) ||
				b.Report[at.data] != 3 || b.Report[at.data+63] != 4 {
				t.Errorf("%d items of collateral, report %x", len(b.Collateral), b.Report)
			}
		})
	}
}

func TestServeNoSuchPlatform(t *testing.T) {
	t.Parallel()
	_, stop := serve(t, attestation.PlatformAzureAttestation, [32]byte{})
	if err := stop(); !errors.Is(err, machine.ErrPlatform) {
		t.Errorf("got %v", err)
	}
}

// A binary is measured as it runs, whatever stands at its path by then.
func TestServeMeasuresWhatRuns(t *testing.T) {
	t.Parallel()
	address, _ := serve(t, attestation.PlatformSEVSNP, [32]byte{})
	path := filepath.Join(t.TempDir(), "program")
	original, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	changed := append(original, 0) // still runs
	if err := os.WriteFile(path, changed, 0o700); err != nil {
		t.Fatal(err)
	}
	want, err := machine.Measure(path)
	if err != nil {
		t.Fatal(err)
	}
	if want == self(t) {
		t.Fatal("another binary, the same measurement")
	}
	p := exec.CommandContext(t.Context(), path)
	p.Env = append(os.Environ(), asks+"="+address)
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("%q, %v", line, err)
	}
	// The path now has the binary that the measurement would rather be of.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, original[:len(changed)-1], 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	report, err := hex.DecodeString(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	if got := report[0x90:0xc0]; !bytes.Equal(got, want.SHA384[:]) {
		t.Errorf("measured %x, want %x", got, want.SHA384)
	}
}

// Half a question holds nobody up, and the end of the server least of all.
func TestServeHalfAQuestion(t *testing.T) {
	t.Parallel()
	address, stop := serve(t, attestation.PlatformSEVSNP, [32]byte{})
	var waiting []net.Conn
	for range 5 {
		c, err := net.Dial("unix", address[len("unix:"):])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(make([]byte, 63)); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
	}
	if _, err := simtee.NewClient(address).Make(t.Context(), [64]byte{}); err != nil {
		t.Errorf("beside half questions: %v", err)
	}
	begin := time.Now()
	if err := stop(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("ended after %v", d)
	}
	for _, c := range waiting {
		if answer, err := io.ReadAll(c); err == nil && len(answer) > 0 {
			t.Errorf("half a question was answered: %x", answer)
		}
	}
}
