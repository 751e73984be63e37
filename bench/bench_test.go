package main

import (
	"bytes"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/wire"
)

// BenchmarkAssertion is an assertion through host and enclave in one process, from
// the HTTP handler on: for profiles of both. The client's part is done before.
func BenchmarkAssertion(b *testing.B) {
	p, err := newSeeded(b.Context(), b.TempDir(), 16)
	if err != nil {
		b.Fatal(err)
	}
	defer p.close()
	requests := make([]*http.Request, b.N)
	for i := range requests {
		r, err := p.assert(i)
		if err != nil {
			b.Fatal(err)
		}
		requests[i] = post(r)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, r := range requests {
		if _, err := p.serve(r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloor is the cryptography of an assertion.
func BenchmarkFloor(b *testing.B) {
	f, err := newFloors()
	if err != nil {
		b.Fatal(err)
	}
	for name, one := range map[string]func(){"assertion": f.assertion, "first": f.firstTouch, "create": f.create, "pin-attempt": f.attempt} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	}
}

// The load generator's requests are ones that host and enclave answer.
func TestInProcess(t *testing.T) {
	t.Parallel()
	assertion, create, err := allocations(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if assertion < 10 || create < assertion {
		t.Errorf("%.0f allocations of an assertion, %.0f of a create", assertion, create)
	}
}

func TestFloorsOpenTheirOwn(t *testing.T) {
	t.Parallel()
	f, err := newFloors()
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []func(){f.assertion, f.firstTouch, f.create, f.attempt} {
		one() // panics if something does not open
	}
}

func TestSignaturesOfSGXHold(t *testing.T) {
	t.Parallel()
	now := time.Now()
	h, err := intel.Found(now)
	if err != nil {
		t.Fatal(err)
	}
	collateral, err := h.Collateral(attestation.PlatformSGX, now)
	if err != nil {
		t.Fatal(err)
	}
	list, err := dcapSignatures(h, collateral)
	if err != nil {
		t.Fatal(err)
	}
	if err := bareSignatures(list); err != nil {
		t.Error(err)
	}
	if _, err := dcapSignatures(h, collateral[1:]); err == nil {
		t.Error("a floor without all signatures")
	}
}

func TestAccountsAscend(t *testing.T) {
	t.Parallel()
	p := population{make([]byte, 32), 100}
	last := p.device(0)
	for i := 1; i < p.size; i++ {
		d := p.device(i)
		if bytes.Compare(last.account[:], d.account[:]) >= 0 {
			t.Fatalf("account %d does not come after the one before", i)
		}
		last = d
	}
	if again := p.device(p.size - 1); again.id != last.id || !again.key.Equal(last.key) {
		t.Error("a device is not the same again")
	}
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	v := []float64{4, 1, 3, 2, 5, 10, 9, 8, 7, 6}
	if m := median(v); m != 5.5 {
		t.Errorf("median %v", m)
	}
	if m := median(v[:5]); m != 3 {
		t.Errorf("median of five %v", m)
	}
	if p := quantile(v, 0.9); p != 10 {
		t.Errorf("p90 %v", p)
	}
}

// A start is measured by who answers what the enclave asks of its host meanwhile.
func TestAskStatus(t *testing.T) {
	t.Parallel()
	host, enclave := net.Pipe()
	t.Cleanup(func() { host.Close(); enclave.Close() })
	go func() {
		asked, _ := wire.ReadFrame(enclave)
		enclave.Write(wire.Frame{Call: 1, Kind: wire.FrameLineage, Body: wire.Marshal(wire.Lineage{KEK: "v1"})}.Append(nil))
		answered, _ := wire.ReadFrame(enclave)
		ready := wire.Status{Ready: answered.Kind == wire.FrameAnswer && answered.Call == 1}
		enclave.Write(wire.Frame{Call: asked.Call, Kind: wire.FrameReply, Body: wire.Marshal(wire.Result{Value: wire.Marshal(ready)})}.Append(nil))
	}()
	host.SetDeadline(time.Now().Add(10 * time.Second))
	if status, err := askStatus(host, 7); err != nil || !status.Ready {
		t.Errorf("%+v, %v", status, err)
	}
}
