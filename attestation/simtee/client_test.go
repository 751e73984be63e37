package simtee_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/wire"
)

// answering serves one connection with fixed bytes and returns its address.
func answering(t *testing.T, answer []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var asked [64]byte
		io.ReadFull(c, asked[:])
		c.Write(answer)
	}()
	return "unix:" + path
}

func TestClient(t *testing.T) {
	t.Parallel()
	for _, p := range []attestation.Platform{attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX} {
		a := simtee.Answer{Platform: p, Report: []byte{1}, Certificates: [][]byte{{2}, {3}},
			Collateral: []attestation.Collateral{{Name: "tcb-info", Data: []byte{4}, Issuer: [][]byte{{5}}}}}
		b, err := simtee.NewClient(answering(t, wire.Marshal(a))).Make(t.Context(), [64]byte{})
		want := &attestation.Bundle{Platform: p, Report: a.Report, Certificates: a.Certificates, Collateral: a.Collateral}
		if err != nil || !reflect.DeepEqual(b, want) {
			t.Errorf("%s: %+v, %v", p, b, err)
		}
	}
	_, err := simtee.NewClient(answering(t, wire.Marshal(simtee.Answer{Refusal: "no"}))).Make(t.Context(), [64]byte{})
	if !errors.Is(err, simtee.ErrRefused) {
		t.Errorf("refusal: %v", err)
	}
}

func TestClientRefusesAnswers(t *testing.T) {
	t.Parallel()
	large := wire.Marshal(simtee.Answer{Platform: attestation.PlatformTDX, Report: make([]byte, simtee.MaxAnswer)})
	for name, c := range map[string]struct {
		answer []byte
		want   error
	}{
		"nothing":        {nil, simtee.ErrAnswer},
		"no CBOR":        {[]byte("report"), simtee.ErrAnswer},
		"trailing byte":  {append(wire.Marshal(simtee.Answer{Platform: attestation.PlatformTDX, Report: []byte{1}}), 0), simtee.ErrAnswer},
		"unknown member": {wire.Marshal(map[int]any{1: []byte{1}, 4: "tdx", 9: 1}), simtee.ErrAnswer},
		"too large":      {large, simtee.ErrAnswer},
		"no report":      {wire.Marshal(simtee.Answer{Platform: attestation.PlatformTDX, Certificates: [][]byte{{1}}}), simtee.ErrAnswer},
		"no platform":    {wire.Marshal(simtee.Answer{Report: []byte{1}}), simtee.ErrAnswer},
		"a token":        {wire.Marshal(simtee.Answer{Platform: attestation.PlatformAzureAttestation, Report: []byte{1}}), simtee.ErrAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := simtee.NewClient(answering(t, c.answer)).Make(t.Context(), [64]byte{}); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClientWithoutServer(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "/a/path", "tcp:127.0.0.1:1"} {
		if _, err := simtee.NewClient(address).Make(t.Context(), [64]byte{}); !errors.Is(err, simtee.ErrAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
	var op *net.OpError
	if _, err := simtee.NewClient("unix:"+filepath.Join(t.TempDir(), "none")).Make(t.Context(), [64]byte{}); !errors.As(err, &op) {
		t.Errorf("nobody listens: %v", err)
	}
}

// A server that never answers holds the client only as long as its context.
func TestClientContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var asked [64]byte
		io.ReadFull(c, asked[:])
		cancel()
		io.Copy(io.Discard, c) // until the client hangs up
	}()
	if _, err := simtee.NewClient("unix:"+path).Make(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	seed := wire.Marshal(simtee.Answer{Platform: attestation.PlatformSGX, Report: []byte{1}, Certificates: [][]byte{{2}}})
	if _, err := simtee.ParseAnswer(seed); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(wire.Marshal(simtee.Answer{Refusal: "no"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := simtee.ParseAnswer(data)
		switch {
		case err == nil && (len(a.Report) == 0 || a.Platform == "" || a.Refusal != "" || !bytes.Equal(wire.Marshal(a), data)):
			t.Errorf("%x was accepted as %+v", data, a)
		case err != nil && !errors.Is(err, simtee.ErrAnswer) && !errors.Is(err, simtee.ErrRefused):
			t.Errorf("untyped refusal %v", err)
		}
	})
}
