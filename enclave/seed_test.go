package enclave

import (
	"context"
	"crypto/sha256"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/wire"
)

// seeded puts an account with so many passkeys into the store, and returns its device.
func seeded(t testing.TB, w *world, passkeys int) (*phone, []wire.Handle) {
	t.Helper()
	p := w.device("seeded")
	p.vault, p.epoch, p.number = random(wire.SecretSize), 1, 1
	handles := make([]wire.Handle, passkeys)
	for i := range handles {
		handles[i] = wire.Handle(random(16))
	}
	commit, err := Seed(w.core, SeedAccount{
		ID: p.account, DeviceKey: point(p.key), UVKey: point(p.uvKey), VaultSecret: p.vault,
		Passkeys: handles, RPID: "rp.example", Time: w.wall,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Commit(context.Background(), commit); err != nil {
		t.Fatal(err)
	}
	return p, handles
}

func TestSeededAccountWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, handles := seeded(t, w, 3)
	for _, h := range handles {
		if err := p.assert(h); err != nil {
			t.Fatal(err)
		}
	}
	c := p.create()
	if err := p.assert(c.Handle); err != nil {
		t.Fatal(err)
	}
}

// A seeded account is as well guarded as another one.
func TestSeededAccountRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, handles := seeded(t, w, 1)
	p.vault = random(wire.SecretSize)
	wantCode(t, p.assert(handles[0]), wire.CodeVaultSecret)
	if _, err := Seed(w.core, SeedAccount{VaultSecret: []byte("short")}); err == nil {
		t.Fatal("seeded with a short vault secret")
	}
}

func TestSeedIsNotShipped(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("links the enclave")
	}
	binary := filepath.Join(t.TempDir(), "passclave-enclave")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "../cmd/passclave-enclave")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	symbols, err := exec.Command("go", "tool", "nm", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(symbols), "/enclave.(*Core).Step") {
		t.Fatal("Step is not among the symbols: this test sees nothing")
	}
	if strings.Contains(string(symbols), "/enclave.Seed") {
		t.Fatal("the enclave contains Seed")
	}
}

// BenchmarkStep is the core's part of an assertion, without HPKE, HTTP and store.
func BenchmarkStep(b *testing.B) {
	w := newWorld(b)
	p, handles := seeded(b, w, 2)
	raw, _ := p.envelope(p.assertAsk(handles[0]))
	envelope := must(wire.ParseEnvelope(raw))
	opened := must(envelope.Open(w.hpke))
	state := w.store.Load(wire.Need{Account: p.account, State: true, Records: handles[:1]})
	received := Received{Envelope: envelope, Raw: raw, Opened: opened, State: state, Now: w.wall, Time: w.now}
	b.ReportAllocs()
	for b.Loop() {
		s, effects := w.core.Step(State{}, received)
		_, effects = w.core.Step(s, w.do(effects[0]).(HeadRead))
		reply, ok := effects[0].(Reply)
		if !ok || reply.Response.Error != nil {
			b.Fatalf("%#v", effects[0])
		}
	}
}

// BenchmarkAssertion adds what the runtime does around it: from the envelope's bytes
// to the sealed answer's. The replay filter is left out, so that one envelope will do.
func BenchmarkAssertion(b *testing.B) {
	w := newWorld(b)
	p, handles := seeded(b, w, 2)
	raw, _ := p.envelope(p.assertAsk(handles[0]))
	b.ReportAllocs()
	for b.Loop() {
		opened, r := w.run(raw)
		if r.Error != nil {
			b.Fatal(r.Error)
		}
		if _, err := opened.SealResponse(wire.Marshal(r)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSeed must stay near 100 µs: a million accounts are seeded.
func BenchmarkSeed(b *testing.B) {
	w := newWorld(b)
	p := w.device("seeded")
	s := SeedAccount{
		DeviceKey: point(p.key), UVKey: point(p.uvKey), VaultSecret: random(wire.SecretSize),
		Passkeys: make([]wire.Handle, 2), RPID: "rp.example", Time: w.wall,
	}
	for i := uint64(0); b.Loop(); i++ {
		s.ID = wire.AccountID(sha256.Sum256(random(8)))
		s.Passkeys[0], s.Passkeys[1] = wire.Handle(random(16)), wire.Handle(random(16))
		if _, err := Seed(w.core, s); err != nil {
			b.Fatal(err)
		}
	}
}
