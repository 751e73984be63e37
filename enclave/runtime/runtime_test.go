package runtime

import (
	"bufio"
	"context"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/wire"
)

// host is the other end of a connection, frame by frame.
type host struct {
	t    *testing.T
	r    *Runtime
	conn net.Conn
	in   *bufio.Reader
	call uint64
}

func start(t *testing.T) *Runtime {
	t.Helper()
	return startOn(t, newConfiguration(t))
}

func newConfiguration(t *testing.T) []byte {
	t.Helper()
	id := make([]byte, 32)
	rand.Read(id)
	config := &wire.Configuration{
		Version:    1,
		Ledger:     wire.LedgerIdentity{ID: id, Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers:    []wire.Issuer{{Issuer: "https://issuer.example", ClientIDs: []string{"passclave"}, Algorithms: []string{"ES256"}}},
		PIN:        wire.PINConfiguration{ConsecutiveLimit: 3, LifetimeLimit: 8, Argon2id: wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}},
		KeyService: wire.KeyService{Attestation: "https://keys.example", Vault: "https://keys.example", Key: "kek"},
	}
	file, err := config.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// startOn is a new process with a measured configuration.
func startOn(t *testing.T, file []byte) *Runtime {
	t.Helper()
	r, err := New(Options{
		Configuration: file,
		Evidence: func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, RuntimeData: runtimeData, Configuration: file}, nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unsealed is a runtime with the KEK, as if a host had said that there was none before.
func unsealed(t *testing.T) *Runtime {
	t.Helper()
	r := start(t)
	held := []enclave.KEK{newKEK("v1")}
	core, err := enclave.NewCore(r.configuration, r.boot, held)
	if err != nil {
		t.Fatal(err)
	}
	r.install(core, held)
	return r
}

func newKEK(version string) enclave.KEK {
	k := enclave.KEK{Version: version, Key: make([]byte, wire.SecretSize)}
	rand.Read(k.Key)
	return k
}

func dial(t *testing.T, r *Runtime) *host {
	t.Helper()
	listener, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, listener) }()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &host{t: t, r: r, conn: conn, in: bufio.NewReader(conn)}
}

func (h *host) send(kind wire.FrameKind, body []byte) uint64 {
	h.t.Helper()
	h.call++
	if _, err := h.conn.Write(wire.Frame{Call: h.call, Kind: kind, Body: body}.Append(nil)); err != nil {
		h.t.Fatal(err)
	}
	return h.call
}

func (h *host) frame() wire.Frame {
	h.t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	f, err := wire.ReadFrame(h.in)
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

func (h *host) ask(kind wire.FrameKind, body []byte, into any) error {
	h.t.Helper()
	call := h.send(kind, body)
	f := h.frame()
	for ; f.Kind == wire.FrameLineage; f = h.frame() { // that of a rotation which the test makes
		if _, err := h.conn.Write(wire.Frame{Call: f.Call, Kind: wire.FrameAnswer, Body: wire.Marshal(wire.Result{Value: wire.Marshal(wire.Lineage{})})}.Append(nil)); err != nil {
			h.t.Fatal(err)
		}
	}
	if f.Kind != wire.FrameReply || f.Call != call {
		h.t.Fatalf("frame %d of call %d", f.Kind, f.Call)
	}
	var r wire.Result
	if err := wire.Unmarshal(f.Body, &r); err != nil {
		h.t.Fatal(err)
	}
	if r.Error != nil {
		return r.Error
	}
	if err := wire.Unmarshal(r.Value, into); err != nil {
		h.t.Fatal(err)
	}
	return nil
}

// request seals a sync for an account that does not exist.
func (h *host) request(challenge []byte) ([]byte, *wire.Sealer) {
	h.t.Helper()
	_, public, _ := h.r.ring.current()
	return sealed(h.t, public, challenge)
}

func sealed(t *testing.T, public, challenge []byte) ([]byte, *wire.Sealer) {
	t.Helper()
	key, err := wire.KEM().NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := wire.NewSealer(key, wire.Header{Account: wire.AccountID{1}})
	if err != nil {
		t.Fatal(err)
	}
	body := wire.Marshal(wire.Body{Request: wire.RequestID{7}, Challenge: challenge, Commands: []wire.Command{wire.NewCommand(wire.CommandSync, wire.Sync{})}})
	envelope, err := sealer.Seal(wire.Marshal(wire.Request{Body: body}))
	if err != nil {
		t.Fatal(err)
	}
	return envelope, sealer
}

func (h *host) forward(envelope []byte) (*wire.Reply, error) {
	h.t.Helper()
	var reply wire.Reply
	err := h.ask(wire.FrameRequest, wire.Marshal(wire.Forward{Envelope: envelope}), &reply)
	return &reply, err
}

func wantCode(t *testing.T, err error, want wire.Code) {
	t.Helper()
	if !errors.Is(err, &wire.Error{Code: want}) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func answered(t *testing.T, s *wire.Sealer, reply *wire.Reply) *wire.Response {
	t.Helper()
	plain, err := s.OpenResponse(reply.Response)
	if err != nil {
		t.Fatal(err)
	}
	var r wire.Response
	if err := wire.Unmarshal(plain, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestSealedUntilKEK(t *testing.T) {
	t.Parallel()
	h := dial(t, start(t))
	var status wire.Status
	if err := h.ask(wire.FrameStatus, nil, &status); err != nil {
		t.Fatal(err)
	}
	if status.Ready || status.Reason == "" {
		t.Fatalf("status %+v", status)
	}
	var a wire.Attestation
	wantCode(t, h.ask(wire.FrameAttest, wire.Marshal(wire.Attest{}), &a), wire.CodeSealed)
	envelope, sealer := h.request(nil)
	reply, err := h.forward(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if r := answered(t, sealer, reply); r.Error == nil || r.Error.Code != wire.CodeSealed {
		t.Fatalf("answer %+v", r)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	h := dial(t, unsealed(t))
	envelope, sealer := h.request(h.r.core.Load().Challenge(h.r.now()))
	reply, err := h.forward(envelope)
	if err != nil {
		t.Fatal(err)
	}
	r := answered(t, sealer, reply)
	if r.Error == nil || r.Error.Code != wire.CodeUnknownDevice || r.Request != (wire.RequestID{7}) {
		t.Fatalf("answer %+v", r)
	}
	_, err = h.forward(envelope)
	wantCode(t, err, wire.CodeReplayed)
}

// Whoever changes the clear header, or any byte, has changed the envelope.
func TestEnvelopeTampered(t *testing.T) {
	t.Parallel()
	h := dial(t, unsealed(t))
	envelope, _ := h.request(nil)
	for name, test := range map[string]struct {
		change func(*wire.Envelope)
		want   wire.Code
	}{
		"account":      {func(e *wire.Envelope) { e.Header.Account[0]++ }, wire.CodeMalformed},
		"handles":      {func(e *wire.Envelope) { e.Header.Handles = []wire.Handle{{}} }, wire.CodeMalformed},
		"known head":   {func(e *wire.Envelope) { e.Header.Known = &wire.Head{} }, wire.CodeMalformed},
		"version":      {func(e *wire.Envelope) { e.Header.Version++ }, wire.CodeVersion},
		"key":          {func(e *wire.Envelope) { e.Header.Key[0]++ }, wire.CodeUnknownKey},
		"enc":          {func(e *wire.Envelope) { e.Enc[3]++ }, wire.CodeMalformed},
		"short enc":    {func(e *wire.Envelope) { e.Enc = e.Enc[:10] }, wire.CodeMalformed},
		"ciphertext":   {func(e *wire.Envelope) { e.Ciphertext[3]++ }, wire.CodeMalformed},
		"many handles": {func(e *wire.Envelope) { e.Header.Handles = make([]wire.Handle, wire.MaxHandles+1) }, wire.CodeTooLarge},
	} {
		e, err := wire.ParseEnvelope(envelope)
		if err != nil {
			t.Fatal(err)
		}
		test.change(e)
		if _, err = h.forward(wire.Marshal(e)); wire.CodeOf(err) != test.want {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	if _, err := h.forward(envelope); err != nil {
		t.Fatalf("tampered copies used up the real one: %v", err)
	}
}

func TestFramesOfGarbage(t *testing.T) {
	t.Parallel()
	h := dial(t, unsealed(t))
	var none wire.None
	wantCode(t, h.ask(99, nil, &none), wire.CodeMalformed)
	wantCode(t, h.ask(wire.FrameRequest, []byte{0xff}, &none), wire.CodeMalformed)
	wantCode(t, h.ask(wire.FrameAttest, wire.Marshal(wire.Attest{Nonce: make([]byte, 65)}), &none), wire.CodeTooLarge)
	h.send(wire.FrameAnswer, wire.Marshal(wire.Result{})) // an answer that nobody waits for
	h.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := wire.ReadFrame(h.in); !errors.Is(err, io.EOF) {
		t.Fatalf("the connection goes on: %v", err)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	now, replaced := time.Second, 0
	k, err := newKeyring(func() time.Duration { return now }, 32, func() { replaced++ })
	if err != nil {
		t.Fatal(err)
	}
	open := func(public []byte) error {
		t.Helper()
		raw, _ := sealed(t, public, nil)
		e, err := wire.ParseEnvelope(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.open(e)
		return err
	}
	id, public, _ := k.current()
	for range 31 {
		if err := open(public); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.turn(); err != nil {
		t.Fatal(err)
	}
	next, _, _ := k.current()
	if next == id || replaced != 1 {
		t.Fatal("the key was not replaced before its filter was full")
	}
	if err := open(public); err != nil {
		t.Fatalf("overlap: %v", err)
	}
	wantCode(t, open(public), wire.CodeUnknownKey) // full: closed, nothing evicted
	now += keyOverlap
	k.turn()
	wantCode(t, open(public), wire.CodeUnknownKey)
	if len(k.keys) != 1 {
		t.Fatalf("%d keys held", len(k.keys))
	}
	now += keyLife
	k.turn()
	if again, _, _ := k.current(); again == next {
		t.Fatal("the key lives longer than an hour")
	}
}

// A nonce makes fresh evidence; without one it is made once a key.
func TestEvidence(t *testing.T) {
	t.Parallel()
	h := dial(t, unsealed(t))
	made := 0
	inner := h.r.evidence
	h.r.evidence = func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error) {
		made++
		return inner(ctx, runtimeData)
	}
	ask := func(nonce []byte) *attestation.RuntimeData {
		t.Helper()
		var a wire.Attestation
		if err := h.ask(wire.FrameAttest, wire.Marshal(wire.Attest{Nonce: nonce}), &a); err != nil {
			t.Fatal(err)
		}
		b, err := attestation.ParseBundle(a.Evidence)
		if err != nil {
			t.Fatal(err)
		}
		d, err := attestation.ParseRuntimeData(b.RuntimeData)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	ask(nil)
	if ask(nil); made != 1 {
		t.Fatalf("evidence without a nonce was made %d times", made)
	}
	nonce := []byte(`","keys":[{"kty":"RSA"}],"x":"`)
	d := ask(nonce)
	if made != 2 || string(d.Nonce) != string(nonce) || d.Keys != nil || d.Purpose != attestation.PurposeClient {
		t.Fatalf("runtime data %+v", d)
	}
	var key hpke.PublicKey
	key, err := wire.KEM().NewPublicKey(d.HPKE)
	if err != nil || wire.NewKeyID(key.Bytes()) != h.r.ring.keys[0].id {
		t.Fatal("evidence binds another key")
	}
}

// pair is a link whose host is the test.
func pair(t *testing.T) (*link, *host) {
	t.Helper()
	mine, theirs := net.Pipe()
	l := newLink(mine)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.serve(func(wire.Frame) wire.Result { return wire.Result{} })
	}()
	t.Cleanup(func() {
		theirs.Close()
		<-done
	})
	return l, &host{t: t, conn: theirs, in: bufio.NewReader(theirs)}
}

// A host that goes away while the enclave waits for it ends the call, not the enclave.
func TestHostGoesAway(t *testing.T) {
	t.Parallel()
	l, h := pair(t)
	asked := make(chan error, 1)
	go func() {
		_, err := l.Newest(context.Background(), wire.AccountID{})
		asked <- err
	}()
	if f := h.frame(); f.Kind != wire.FrameNeed {
		t.Fatalf("frame %d", f.Kind)
	}
	h.conn.Close()
	wantCode(t, <-asked, wire.CodeUnavailable)
	_, err := l.Newest(context.Background(), wire.AccountID{})
	wantCode(t, err, wire.CodeUnavailable)
}

// A host cannot have the enclave seal a lock, a revocation or a wrong PIN.
func TestHostsErrorsAreItsOwn(t *testing.T) {
	t.Parallel()
	left := uint64(0)
	for _, kind := range []wire.FrameKind{wire.FrameNeed, wire.FrameAppend, wire.FrameCommit} {
		for _, code := range []wire.Code{
			wire.CodePINLocked, wire.CodePINWrong, wire.CodeUnknownDevice, wire.CodeNoAccount, wire.CodeConflict,
			wire.CodeStorageFull, wire.CodeRateLimited, wire.CodeRollback, wire.CodeFork, "made up",
		} {
			l, h := pair(t)
			answer := make(chan error, 1)
			go func() { answer <- l.call(context.Background(), kind, wire.None{}, &wire.None{}) }()
			f := h.frame()
			refusal := wire.Result{Error: &wire.Error{Code: code, AttemptsLeft: &left, Command: &left}}
			if _, err := h.conn.Write(wire.Frame{Call: f.Call, Kind: wire.FrameAnswer, Body: wire.Marshal(refusal)}.Append(nil)); err != nil {
				t.Fatal(err)
			}
			want := wire.CodeUnavailable
			if code == wire.CodeStorageFull || code == wire.CodeRateLimited || code == wire.CodeConflict && kind != wire.FrameNeed {
				want = code
			}
			err := <-answer
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != want || e.AttemptsLeft != nil || e.Command != nil {
				t.Errorf("frame %d, %s: got %v, want %s", kind, code, err, want)
			}
		}
	}
}

// Nothing is sent to the host for a request whose time is over.
func TestNothingIsSentTooLate(t *testing.T) {
	t.Parallel()
	l, h := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantCode(t, l.call(ctx, wire.FrameCommit, wire.None{}, &wire.None{}), wire.CodeUnavailable)
	go func() { l.call(context.Background(), wire.FrameNeed, wire.None{}, &wire.None{}) }()
	if f := h.frame(); f.Kind != wire.FrameNeed {
		t.Fatalf("frame %d was sent after the request's end", f.Kind)
	}

	var held locks
	unlock, err := held.lock(context.Background(), wire.AccountID{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = held.lock(ctx, wire.AccountID{})
	wantCode(t, err, wire.CodeUnavailable)
	unlock()
	if len(held.held) != 0 {
		t.Fatalf("%d locks left", len(held.held))
	}
}

// A commit goes to the host whose request it is, and one host's end is not another's.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	r := unsealed(t)
	a, b := dial(t, r), dial(t, r)
	challenge := r.core.Load().Challenge(r.now())
	b.conn.Close()
	envelope, sealer := a.request(challenge)
	reply, err := a.forward(envelope)
	if err != nil {
		t.Fatal(err)
	}
	if got := answered(t, sealer, reply); got.Error == nil || got.Error.Code != wire.CodeUnknownDevice {
		t.Fatalf("answer %+v", got)
	}
}

// Locked and unenrolled take as long as the attempts that wrote.
func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	const least = 50 * time.Millisecond
	for _, test := range []struct {
		took  time.Duration
		wrote bool
		want  time.Duration
	}{
		{time.Millisecond, false, least},
		{100 * time.Millisecond, true, 100 * time.Millisecond},
		{time.Millisecond, false, 100 * time.Millisecond},
		{200 * time.Millisecond, false, 100 * time.Millisecond},
		{time.Hour, true, slowestPace},
	} {
		if got := p.target(test.took, least, test.wrote); got != test.want {
			t.Errorf("after %s: %s, want %s", test.took, got, test.want)
		}
	}
	for range len(p.last) {
		p.target(time.Millisecond, least, true)
	}
	if got := p.target(0, least, false); got != least {
		t.Errorf("a slow attempt is never forgotten: %s", got)
	}
}

// The same for a call that a handler makes: serve does not wait for a handler that
// waits for a host which is gone.
func TestHostGoesAwayDuringItsCall(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	l := newLink(here)
	asked, served := make(chan error, 1), make(chan error, 1)
	go func() {
		served <- l.serve(func(wire.Frame) wire.Result {
			err := l.call(context.Background(), wire.FrameNeed, wire.Need{}, &wire.State{})
			asked <- err
			return failed(err)
		})
	}()
	if _, err := there.Write(wire.Frame{Call: 1, Kind: wire.FrameRequest}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ReadFrame(there); err != nil {
		t.Fatal(err)
	}
	there.Close()
	wantCode(t, <-asked, wire.CodeUnavailable)
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}
