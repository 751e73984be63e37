package attestation_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/wire"
)

var fullBundle = attestation.Bundle{
	Platform:       attestation.PlatformTDX,
	Report:         []byte{1},
	Certificates:   [][]byte{{2}, {3}},
	Endorsements:   [][]byte{{4}},
	HostAMD:        []byte{5},
	Collateral:     []attestation.Collateral{{Name: "crl", Data: []byte{6}, Issuer: [][]byte{{7}}}},
	RuntimeData:    []byte{8},
	Configuration:  []byte{9},
	SecurityPolicy: []byte{10},
	Time:           11,
}

// The format, byte for byte: bundles are kept and verified years later.
const (
	goldenBundle  = "a2010102aa0163746478024101038241024103048141040541050681a3016363726c0241060381410707410808410909410a0a0b"
	goldenMinimum = "a2010102a20163746478024101"
)

func TestBundle(t *testing.T) {
	t.Parallel()
	for golden, b := range map[string]attestation.Bundle{
		goldenBundle:  fullBundle,
		goldenMinimum: {Platform: attestation.PlatformTDX, Report: []byte{1}},
	} {
		if got := hex.EncodeToString(b.Encode()); got != golden {
			t.Errorf("got  %s\nwant %s", got, golden)
		}
		data, err := hex.DecodeString(golden)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := attestation.ParseBundle(data)
		if err != nil || !reflect.DeepEqual(*parsed, b) {
			t.Errorf("got %+v, %v, want %+v", parsed, err, b)
		}
	}
}

func TestBundleRefused(t *testing.T) {
	t.Parallel()
	type loose struct {
		Version any `cbor:"1,keyasint"`
		Bundle  any `cbor:"2,keyasint"`
	}
	many := func(b attestation.Bundle, n int) []byte {
		list := make([][]byte, n)
		for i := range list {
			list[i] = []byte{1}
		}
		if b.Certificates != nil {
			b.Certificates = list
		}
		if b.Endorsements != nil {
			b.Endorsements = list
		}
		if b.Collateral != nil {
			b.Collateral = make([]attestation.Collateral, n)
		}
		return b.Encode()
	}
	minimum := map[int]any{1: "tdx", 2: []byte{1}}
	for name, data := range map[string][]byte{
		"empty":              nil,
		"cut":                fullBundle.Encode()[:20],
		"trailing byte":      append(fullBundle.Encode(), 0),
		"version 0":          wire.Marshal(loose{0, minimum}),
		"version 2":          wire.Marshal(loose{2, minimum}),
		"no version":         wire.Marshal(map[int]any{2: minimum}),
		"no bundle":          wire.Marshal(map[int]any{1: 1}),
		"bundle is a list":   wire.Marshal(loose{1, []int{1}}),
		"unknown member":     wire.Marshal(map[int]any{1: 1, 2: minimum, 3: 1}),
		"unknown in bundle":  wire.Marshal(loose{1, map[int]any{1: "tdx", 2: []byte{1}, 99: 1}}),
		"duplicate member":   bytes.Replace(fullBundle.Encode(), []byte{0x0a, 0x0b}, []byte{0x01, 0x0b}, 1),
		"long number":        bytes.Replace(fullBundle.Encode(), []byte{0x0a, 0x0b}, []byte{0x0a, 0x18, 0x0b}, 1),
		"many certificates":  many(attestation.Bundle{Certificates: [][]byte{}}, 33),
		"many endorsements":  many(attestation.Bundle{Endorsements: [][]byte{}}, 33),
		"many of collateral": many(attestation.Bundle{Collateral: []attestation.Collateral{}}, 33),
		"too large":          (&attestation.Bundle{Report: make([]byte, attestation.MaxBundle)}).Encode(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := attestation.ParseBundle(data)
			wantCheck(t, err, attestation.CheckBundle)
		})
	}
	if _, err := attestation.ParseBundle(many(attestation.Bundle{Certificates: [][]byte{}}, 32)); err != nil {
		t.Errorf("32 certificates: %v", err)
	}
}

// maker answers with fixed evidence and notes what it was asked for.
type maker struct {
	asked [64]byte
	err   error
}

func (m *maker) Make(_ context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	m.asked = reportData
	return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: []byte{1}}, m.err
}

func TestMake(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	r := at.ReleaseData(t, file)
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var m maker
	b, err := attestation.Make(t.Context(), &m, data, file, time.Unix(77, 0))
	if err != nil {
		t.Fatal(err)
	}
	if m.asked != attestation.ReportData(data) || !bytes.Equal(b.RuntimeData, data) || !bytes.Equal(b.Configuration, file) || b.Time != 77 {
		t.Errorf("made %+v over %x", b, m.asked)
	}

	broken := &maker{err: errors.New("broken")}
	if _, err := attestation.Make(t.Context(), broken, data, file, time.Now()); !errors.Is(err, broken.err) {
		t.Errorf("broken hardware: %v", err)
	}
	var never maker
	if _, err := attestation.Make(t.Context(), &never, data, append(file, ' '), time.Now()); err == nil {
		t.Error("another configuration than the one that is bound")
	}
	_, err = attestation.Make(t.Context(), &never, append(data, ' '), file, time.Now())
	wantCheck(t, err, attestation.CheckRuntimeData)
	if never.asked != [64]byte{} {
		t.Error("the hardware was asked for what is refused")
	}
}

func FuzzBundle(f *testing.F) {
	for _, b := range []attestation.Bundle{fullBundle, {Platform: attestation.PlatformSEVSNP}} {
		if _, err := attestation.ParseBundle(b.Encode()); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := attestation.ParseBundle(data)
		if err != nil {
			wantCheck(t, err, attestation.CheckBundle)
			return
		}
		if again := b.Encode(); !bytes.Equal(again, data) {
			t.Errorf("%x was accepted and is %x", data, again)
		}
	})
}

// No bytes in the place of report, certificates and runtime data do more than be refused.
func FuzzGenuine(f *testing.F) {
	file := at.Configuration(f)
	b := at.Bundle(f, at.ReleaseData(f, file), file)
	roots := at.Roots(at.NewMachine(f))
	if _, err := attestation.Genuine(b, roots, time.Now()); err != nil {
		f.Fatal(err)
	}
	c := b.Certificates
	f.Add(b.Report, c[0], c[1], c[2], b.RuntimeData, b.Configuration)
	f.Fuzz(func(t *testing.T, report, vcek, ask, ark, runtimeData, configuration []byte) {
		changed := attestation.Bundle{
			Platform: attestation.PlatformSEVSNP, Report: report, Certificates: [][]byte{vcek, ask, ark},
			RuntimeData: runtimeData, Configuration: configuration,
		}
		claims, err := attestation.Genuine(&changed, roots, time.Now())
		var e *attestation.Error
		switch {
		case err != nil && !errors.As(err, &e):
			t.Errorf("%v has no check", err)
		case err == nil && (!bytes.Equal(report[:0x2a0], b.Report[:0x2a0]) || !bytes.Equal(runtimeData, b.RuntimeData) || len(configuration) > 0 && !bytes.Equal(configuration, b.Configuration)):
			t.Errorf("genuine: %+v", claims)
		}
	})
}
