//go:build !sgx

package workload

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/collateral"
)

func TestTEEFlags(t *testing.T) {
	t.Parallel()
	for _, good := range []Flags{{Simulated: "unix:x"}, {Kind: "auto"}, {Kind: "tsm", Collateral: true}} {
		if err := good.check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []Flags{{}, {Simulated: "unix:x", Kind: "auto"}, {Simulated: "unix:x", Collateral: true}, {Collateral: true}} {
		if bad.check() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// machineTEE has reports of the test's machine.
type machineTEE struct {
	t            *testing.T
	certificates [][]byte
}

func (h *machineTEE) Make(_ context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	report, _, err := at.NewMachine(h.t).Report([48]byte{1}, [32]byte{2}, reportData)
	return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: report, Certificates: h.certificates}, err
}

func TestChoose(t *testing.T) {
	t.Parallel()
	names := []string{"tsm", "sev-guest", "sev", "agent"}
	for i, want := range names {
		if interfaces[i].name != want {
			t.Errorf("%d is %s, want %s", i, interfaces[i].name, want)
		}
	}
	absent := errors.New("absent")
	var asked []string
	with := func(there ...string) (list []reportInterface) {
		asked = nil
		for _, name := range names {
			list = append(list, reportInterface{name, func(context.Context) (attestation.Maker, error) {
				asked = append(asked, name)
				if !slices.Contains(there, name) {
					return nil, absent
				}
				return &machineTEE{t: t}, nil
			}, []string{"/" + name}})
		}
		return list
	}
	for _, test := range []struct {
		kind  string
		there []string
		want  string
		asked int
	}{
		{"auto", names, "tsm", 1}, {"auto", []string{"sev", "agent"}, "sev", 3}, {"auto", []string{"agent"}, "agent", 4},
		{"sev-guest", names, "sev-guest", 1}, {"agent", names, "agent", 1},
		{"auto", nil, "", 4}, {"tsm", []string{"sev"}, "", 1}, {"sgx", names, "", 0},
	} {
		got, err := choose(t.Context(), test.kind, with(test.there...))
		if test.want == "" {
			if err == nil || test.asked > 0 && !errors.Is(err, absent) {
				t.Errorf("%+v: %v", test, err)
			}
		} else if err != nil || got.Name != test.want || !slices.Equal(got.folders, []string{"/" + test.want}) {
			t.Errorf("%+v: %+v, %v", test, got, err)
		}
		if len(asked) != test.asked {
			t.Errorf("%+v: asked %v", test, asked)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// On ACI the security context is stapled to what the hardware says, and holds.
func TestOpenTEE(t *testing.T) {
	t.Parallel()
	m := at.NewMachine(t)
	report, err := (&machineTEE{t: t}).Make(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	host := at.HostAMD(t, m.Certificates(), binary.LittleEndian.Uint64(report.Report[0x180:]))
	encoded := func(b []byte) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(base64.StdEncoding.EncodeToString(b))}
	}
	root := fstest.MapFS{
		"context/security-policy-base64": encoded([]byte("package policy")),
		"context/reference-info-base64":  encoded([]byte("reference")),
		"context/host-amd-cert-base64":   encoded(host),
	}
	getenv := Environment(func(name string) string { return map[string]string{aci.EnvFolder: "/context", "PATH": "x"}[name] })
	if getenv("PATH") != "" {
		t.Error("PATH was kept")
	}
	list := []reportInterface{{"test", func(context.Context) (attestation.Maker, error) { return &machineTEE{t, m.Certificates()}, nil }, nil}}
	opened, err := openTEE(t.Context(), quiet(), Flags{Kind: "auto"}, list, root, getenv)
	if err != nil || !opened.Context {
		t.Fatalf("%+v, %v", opened, err)
	}
	// Its certificates hold for real roots alone: the test completes with the simulation's.
	whole := opened.Maker.(*collateral.Maker)
	whole.Completer = collateral.New(collateral.Options{Roots: at.Roots(m)})
	b, err := opened.Make(t.Context(), [64]byte{3})
	if err != nil || !bytes.Equal(b.HostAMD, host) || len(b.Endorsements) != 1 || string(b.SecurityPolicy) != "package policy" || b.Certificates != nil {
		t.Fatalf("%+v, %v", b, err)
	}
	bare := *b
	bare.Endorsements, bare.SecurityPolicy = nil, nil // of no report
	if c, err := attestation.Hardware(&bare, at.Roots(m), time.Now()); err != nil || c.ReportData != [64]byte{3} {
		t.Error(err)
	}

	alone, err := openTEE(t.Context(), quiet(), Flags{Kind: "auto"}, list, fstest.MapFS{}, func(string) string { return "" })
	if err != nil || alone.Context {
		t.Errorf("%+v, %v", alone, err)
	}
	root["context/security-policy"] = &fstest.MapFile{Data: []byte("x")}
	if _, err := openTEE(t.Context(), quiet(), Flags{Kind: "auto"}, list, root, getenv); !errors.Is(err, aci.ErrAmbiguous) {
		t.Errorf("two policies: %v", err)
	}
	simulated, err := openTEE(t.Context(), quiet(), Flags{Simulated: "unix:/none"}, nil, root, getenv)
	if err != nil || simulated.Name != "simulation" || simulated.folders != nil {
		t.Errorf("%+v, %v", simulated, err)
	}
}

// Nobody outside the machine is asked without its roots: the client has its own.
func TestWebClient(t *testing.T) {
	t.Parallel()
	c, err := webClient()
	if err != nil || c.Timeout == 0 {
		t.Errorf("%+v, %v", c, err)
	}
}
