package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

const (
	// challengeLife is how long an attestation without nonce is handed out: its
	// challenge is good for two minutes.
	challengeLife = 15 * time.Second
	// maxNonce is what wire.Attest takes, in bytes.
	maxNonce = 64
)

// attestation gives evidence and challenge. With a nonce the evidence is made anew,
// which on hardware takes long; without one it comes from memory.
func (s *Server) attestation(_ http.ResponseWriter, r *http.Request, from caller) ([]byte, error) {
	q := r.URL.Query()
	if !q.Has("nonce") {
		return s.evidence.get(r.Context())
	}
	nonce, err := base64.RawURLEncoding.Strict().DecodeString(q.Get("nonce"))
	if err != nil || len(nonce) == 0 || len(nonce) > maxNonce {
		return nil, wire.Errorf(wire.CodeArgument, "nonce")
	}
	if !from.exempt && !s.noncesOf.allow(from.address) || !s.nonces.allow(struct{}{}) {
		return nil, errRate
	}
	a, err := s.o.Enclave.Attest(r.Context(), wire.Attest{Nonce: nonce})
	if err != nil {
		return nil, err
	}
	return wire.Marshal(a), nil
}

// evidence remembers the newest attestation without nonce.
type evidence struct {
	server *Server

	mu         sync.Mutex
	encoded    []byte // wire.Attestation
	bundle     []byte // the evidence in it, as far as it was noted
	connection uint64 // under which it was made
	made       time.Time
	asking     chan struct{} // closed when the call under way ends; nil: there is none
	facts      EvidenceFacts // of the newest evidence, where it could be read
}

// get returns the attestation in memory, or asks for one: of all that wait, one asks.
func (e *evidence) get(ctx context.Context) ([]byte, error) {
	for {
		e.mu.Lock()
		if e.encoded != nil && e.connection == e.server.o.Enclave.Connection() && e.server.o.Now().Sub(e.made) < challengeLife {
			defer e.mu.Unlock()
			return e.encoded, nil
		}
		asking := e.asking
		if asking == nil {
			e.asking = make(chan struct{})
			e.mu.Unlock()
			return e.ask(ctx)
		}
		e.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, wire.NewError(wire.CodeUnavailable, ctx.Err())
		}
	}
}

func (e *evidence) ask(ctx context.Context) ([]byte, error) {
	connection, now := e.server.o.Enclave.Connection(), e.server.o.Now()
	a, err := e.server.o.Enclave.Attest(ctx, wire.Attest{})
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.asking)
	e.asking = nil
	if err != nil {
		return nil, err
	}
	encoded := wire.Marshal(a)
	if bytes.Equal(e.bundle, a.Evidence) || e.note(ctx, a.Evidence) {
		e.encoded, e.connection, e.made = encoded, connection, now
	}
	return encoded, nil
}

// note keeps new evidence in the store, where fsck finds the ledger's public keys,
// and reports whether it may be handed out again. Evidence made before the enclave
// had its KEK names no such key and will not do for long; that of another ledger
// does not displace that of the store's own.
func (e *evidence) note(ctx context.Context, bundle []byte) (lasting bool) {
	s := e.server
	if s.o.ReadEvidence != nil {
		facts, err := s.o.ReadEvidence(bundle)
		if err != nil {
			s.o.Log.Warn("evidence does not parse", "error", err)
			return false
		}
		e.facts = facts
		if facts.Signers == 0 {
			return false
		}
		if own, err := s.o.Store.Ledger(ctx); err != nil || own != nil && !bytes.Equal(own, facts.Ledger) {
			return true
		}
	}
	if err := s.o.Store.SetNote(ctx, store.NoteEvidence, bundle); err != nil {
		s.o.Log.Warn("evidence was not kept", "error", err)
		return true // noted the next time
	}
	e.bundle = bundle
	return true
}

// forget drops what was made under a connection.
func (e *evidence) forget(connection uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.connection <= connection {
		e.encoded = nil
	}
}

// read returns what is known of the newest evidence; the zero value: nothing.
func (e *evidence) read() EvidenceFacts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.facts
}
