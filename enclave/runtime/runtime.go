package runtime

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/keyrelease/imds"
	"github.com/passclave/passclave/wire"
)

// Options are what an enclave is made of.
type Options struct {
	Configuration []byte // the measured configuration's file
	// Evidence has the TEE report on runtime data.
	Evidence func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error)
	Log      *slog.Logger // gets no secret, and no account name
	Metadata string       // where the machine's identity gives tokens; empty: imds.Base
}

// Runtime is one enclave.
type Runtime struct {
	configuration *wire.Configuration
	digest        wire.Digest
	evidence      func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error)
	log           *slog.Logger
	metadata      string
	start         time.Time
	boot          []byte
	arena         *secret.Arena
	core          atomic.Pointer[enclave.Core]
	ring          *keyring
	locks         locks
	issuers       *issuers
	ledger        backend
	pace          pace

	lookout lookout

	mu     sync.Mutex
	links  map[*link]bool
	linked chan struct{} // closed, and made anew, when another host connects
	held   [][]byte      // secrets in the arena
	keks   []enclave.KEK // held, oldest first, as the key service gave them
	kek    string        // newest version held
	reason string        // why there is none

	attesting sync.Mutex
	bundle    []byte        // evidence without a nonce, for the key below
	bundleFor wire.KeyID    // guarded by attesting
	bundleOf  *enclave.Core // guarded by attesting; whose ledger keys are in it
}

// arenaSize holds the boot key, some hundred versions of the KEK and what is left of
// as many.
const arenaSize = 64 << 10

// New returns a runtime that answers "sealed" until [Runtime.Unseal].
func New(o Options) (*Runtime, error) {
	configuration, err := wire.ParseConfiguration(o.Configuration)
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		configuration: configuration, digest: wire.ConfigurationHash(o.Configuration),
		evidence: o.Evidence, log: o.Log, metadata: cmp.Or(o.Metadata, imds.Base), start: time.Now(),
		links: map[*link]bool{}, linked: make(chan struct{}), reason: "waiting for the key service",
		lookout: lookout{wanted: make(chan func(error), 1)},
	}
	if r.arena, err = secret.NewArena(arenaSize); err != nil {
		return nil, err
	}
	boot := make([]byte, wire.SecretSize)
	rand.Read(boot)
	if r.boot, err = r.arena.Hold(boot); err != nil {
		return nil, err
	}
	core, err := enclave.NewCore(configuration, r.boot, nil)
	if err != nil {
		return nil, err
	}
	r.core.Store(core)
	if r.ring, err = newKeyring(r.now, keyRequests, func() { r.log.Info("new HPKE key") }); err != nil {
		return nil, err
	}
	r.issuers = newIssuers(r.now)
	if r.ledger, err = r.newBackend(); err != nil {
		return nil, err
	}
	return r, nil
}

// now is the enclave's clock: monotonic time since it started.
func (r *Runtime) now() time.Duration { return time.Since(r.start) }

// CertificateTime is what certificates are to be judged by, the key service's too:
// the later of the host's clock and the newest signed time that was seen.
func (r *Runtime) CertificateTime() time.Time { return r.issuers.signed.now() }

// Serve accepts the host's connections until ctx ends.
func (r *Runtime) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		listener.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for l := range r.links {
			l.conn.Close()
		}
	})
	defer stop()
	connections.Add(1)
	go func() {
		defer connections.Done()
		r.turnKeys(ctx)
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		l := newLink(conn)
		r.join(l)
		connections.Go(func() { r.leave(ctx, l) })
		connections.Add(1)
		go func() {
			defer connections.Done()
			err := l.serve(func(f wire.Frame) wire.Result { return r.handle(ctx, l, f) })
			r.mu.Lock()
			delete(r.links, l)
			r.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				r.log.Warn("host connection ended", "code", wire.CodeOf(err))
			}
		}()
	}
}

func (r *Runtime) turnKeys(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.ring.turn(); err != nil {
				r.log.Error("replacing the HPKE key failed")
			}
		}
	}
}

// handle answers one call of the host.
func (r *Runtime) handle(ctx context.Context, l *link, f wire.Frame) wire.Result {
	switch f.Kind {
	case wire.FrameRequest:
		return r.request(ctx, l, f.Body)
	case wire.FrameAttest:
		var a wire.Attest
		if err := wire.Unmarshal(f.Body, &a); err != nil {
			return failed(err)
		}
		answer, err := r.attest(ctx, a.Nonce)
		if err != nil {
			return failed(err)
		}
		return wire.Result{Value: wire.Marshal(answer)}
	case wire.FrameStatus:
		return wire.Result{Value: wire.Marshal(r.status())}
	case wire.FrameRewrap:
		return r.rewrap(ctx, f.Body)
	}
	return failed(wire.Errorf(wire.CodeMalformed, "frame kind %d", f.Kind))
}

func failed(err error) wire.Result {
	return wire.Result{Error: &wire.Error{Code: wire.CodeOf(err)}}
}

func (r *Runtime) status() wire.Status {
	key, _, opened := r.ring.current()
	r.mu.Lock()
	defer r.mu.Unlock()
	return wire.Status{
		Ready: r.kek != "", Key: key, Backend: r.configuration.Ledger.Backend,
		Streams: uint64(r.ledger.streams()), Requests: uint64(opened),
		Reason: r.reason, KEK: r.kek, Freshness: r.ledger.freshness,
	}
}

// attest returns evidence of purpose "client" for the current HPKE key. Without a
// nonce it is made once a key; with one, each time.
func (r *Runtime) attest(ctx context.Context, nonce []byte) (*wire.Attestation, error) {
	if len(nonce) > 64 {
		return nil, wire.Errorf(wire.CodeTooLarge, "nonce of %d bytes", len(nonce))
	}
	core := r.core.Load()
	if core.Verifier() == nil {
		return nil, wire.Errorf(wire.CodeSealed, "no KEK yet")
	}
	id, public, _ := r.ring.current()
	if len(nonce) > 0 {
		evidence, err := r.makeEvidence(ctx, core, public, nonce)
		if err != nil {
			return nil, err
		}
		return &wire.Attestation{Evidence: evidence, Challenge: core.Challenge(r.now())}, nil
	}
	r.attesting.Lock()
	defer r.attesting.Unlock()
	if r.bundle == nil || r.bundleFor != id || r.bundleOf != core {
		evidence, err := r.makeEvidence(ctx, core, public, nil)
		if err != nil {
			return nil, err
		}
		r.bundle, r.bundleFor, r.bundleOf = evidence, id, core
	}
	return &wire.Attestation{Evidence: r.bundle, Challenge: core.Challenge(r.now())}, nil
}

func (r *Runtime) makeEvidence(ctx context.Context, core *enclave.Core, public, nonce []byte) ([]byte, error) {
	identity := r.configuration.Ledger
	data := attestation.RuntimeData{
		Purpose: attestation.PurposeClient, HPKE: public, Config: r.digest[:], Nonce: nonce,
		Ledger: &attestation.Ledger{ID: identity.ID, Backend: identity.Backend, Genesis: identity.Genesis, Number: identity.Number},
	}
	for _, s := range core.Signers() {
		data.Ledger.Signers = append(data.Ledger.Signers, attestation.Signer{Public: wire.Base64(s.Public), Signature: s.Signature})
	}
	encoded, err := data.Encode()
	if err != nil {
		return nil, wire.NewError(wire.CodeInternal, err)
	}
	bundle, err := r.evidence(ctx, encoded)
	if err != nil {
		return nil, wire.NewError(wire.CodeUnavailable, err)
	}
	return bundle.Encode(), nil
}
