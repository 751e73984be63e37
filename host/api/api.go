// Package api is the host's HTTP interface: what clients reach.
//
// It owns limits (bodies, headers, time, rate, number), the cache of the evidence,
// and counters. It opens nothing: requests and answers pass sealed. It trusts
// nobody on the outside, and believes the enclave at its other end what it says of
// itself; clients believe neither without evidence or seal. Its refusals are not
// sealed: for a client they are hints.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/wire"
)

// Enclave is the connection to the enclave; [link.Link] is one.
type Enclave interface {
	Forward(ctx context.Context, f *wire.Forward) (wire.Reply, error)
	Attest(ctx context.Context, a wire.Attest) (wire.Attestation, error)
	Status(ctx context.Context) (wire.Status, error)
	Rewrap(ctx context.Context, q wire.Rewrap) (wire.Rewrapped, error)
	Connection() uint64
}

// Rate is a sustained rate a second and what may come at once. The zero Rate does not limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Options are what a [Server] is made of. Store, Enclave and Log are required.
type Options struct {
	Store   store.Store
	Enclave Enclave
	Log     *slog.Logger

	// AccountRate is for the requests that one address makes for one account, and for
	// the pages of one account's feed, whose token is checked first.
	AccountRate Rate
	// AddressRate is for the calls from one address, or one IPv6 network of 64 bits.
	// Loopback is exempt from this and what else one address may have at a time,
	// unless it is a proxy.
	AddressRate Rate
	// EvidenceRate is for evidence made for a nonce, of all together: hardware is
	// slow. One address has an eighth of it.
	EvidenceRate Rate
	// TrustedProxies may say in X-Forwarded-For where a call came from.
	TrustedProxies []netip.Prefix
	// Concurrent bounds calls under way; 0 means 1024. One address has a sixteenth of it.
	Concurrent int
	// ReadEvidence reads an evidence bundle, so that a store of another ledger is noticed
	// at once, and simulated evidence is shown as such. nil: the one is noticed when an entry
	// is appended, the other never.
	ReadEvidence func(evidence []byte) (EvidenceFacts, error)
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// EvidenceFacts is what a host reads in evidence, which it does not verify.
type EvidenceFacts struct {
	Ledger    []byte // ledger ID
	Signers   int    // ledger keys that it names: none before the enclave has its KEK
	Simulated bool   // no hardware maker stands behind it
}

// DefaultRates are right for people; a benchmark needs more.
func DefaultRates() (account, address, evidence Rate) {
	return Rate{100, 200}, Rate{50, 200}, Rate{20, 40}
}

// Server answers HTTP requests. It is safe for concurrent use.
type Server struct {
	o        Options
	requests *limiters[asked]
	feeds    *limiters[wire.AccountID]
	// addresses and noncesOf are asked before anything that all share.
	addresses *limiters[netip.Addr]
	noncesOf  *limiters[netip.Addr]
	nonces    *limiters[struct{}]

	connections *shares
	calls       *shares // under way
	bodies      *shares // bytes of requests under way

	evidence evidence
	metrics  metrics
	told     told      // of readiness
	untold   sync.Once // that a proxy is not trusted

	resealing sync.Mutex // held by who does it

	mux *http.ServeMux
}

// New returns a server.
func New(o Options) *Server {
	if o.Concurrent == 0 {
		o.Concurrent = 1024
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		o:         o,
		told:      told{begun: o.Now()},
		requests:  newLimiters[asked](o.AccountRate, o.Now),
		feeds:     newLimiters[wire.AccountID](o.AccountRate, o.Now),
		addresses: newLimiters[netip.Addr](o.AddressRate, o.Now),
		noncesOf:  newLimiters[netip.Addr](o.EvidenceRate.part(evidenceParts), o.Now),
		nonces:    newLimiters[struct{}](o.EvidenceRate, o.Now),

		connections: newShares(maxConnections, connectionParts),
		calls:       newShares(int64(o.Concurrent), callParts),
		bodies:      newShares(maxBodies, bodyParts),

		mux: http.NewServeMux(),
	}
	s.evidence.server = s
	for pattern, h := range map[string]handler{
		"GET /v1/attestation": s.counted(s.attestation),
		"POST /v1/request":    s.request, // counts once its body is read
		"GET /v1/feed":        s.counted(s.feed),
	} {
		s.mux.Handle(pattern, s.limited(pattern, h))
	}
	s.mux.HandleFunc("GET /healthz", s.health)
	s.mux.HandleFunc("GET /v1/status", s.bounded(s.status))
	s.mux.HandleFunc("GET /readyz", s.bounded(s.readiness))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.refuse(w, "other", wire.Errorf(wire.CodeNotFound, "no such endpoint"))
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// A handler returns the CBOR body of an answer, or a refusal.
type handler func(w http.ResponseWriter, r *http.Request, from caller) ([]byte, error)

// limited runs a handler within the rate of its address.
func (s *Server) limited(endpoint string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.o.Now()
		var body []byte
		from, err := s.admit(r)
		if err == nil {
			body, err = h(w, r, from)
		}
		if err != nil {
			s.refuse(w, endpoint, err)
		} else {
			writeCBOR(w, http.StatusOK, body)
			s.metrics.answered(endpoint, http.StatusOK)
		}
		s.metrics.took(endpoint, s.o.Now().Sub(start))
	})
}

var (
	errTooMany = wire.Errorf(wire.CodeUnavailable, "too many calls under way")
	errRate    = wire.Errorf(wire.CodeRateLimited, "too many calls")
)

// admit says where a call comes from, and refuses it past the rate of its address.
func (s *Server) admit(r *http.Request) (caller, error) {
	from := s.from(r)
	if !from.exempt && !s.addresses.allow(from.address) {
		return from, errRate
	}
	return from, nil
}

// counted runs a handler within the limits on the calls under way.
func (s *Server) counted(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, from caller) ([]byte, error) {
		if !s.calls.take(from, 1) {
			return nil, errTooMany
		}
		defer s.calls.give(from, 1)
		return h(w, r, from)
	}
}

// bounded runs a handler that answers by itself within the same limits.
func (s *Server) bounded(h http.HandlerFunc) http.HandlerFunc {
	inner := s.counted(func(w http.ResponseWriter, r *http.Request, _ caller) ([]byte, error) {
		h(w, r)
		return nil, nil
	})
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := s.admit(r)
		if err == nil {
			_, err = inner(w, r, from)
		}
		if err != nil {
			s.refuse(w, "status", err)
		}
	}
}

// statuses maps refusals to HTTP. What is not named is the request's fault: 400.
var statuses = map[wire.Code]int{
	wire.CodeTooLarge:      http.StatusRequestEntityTooLarge,
	wire.CodeNotFound:      http.StatusNotFound,
	wire.CodeUnknownDevice: http.StatusForbidden,
	wire.CodeUnknownKey:    http.StatusConflict,
	wire.CodeReplayed:      http.StatusConflict,
	wire.CodeConflict:      http.StatusConflict,
	wire.CodeRateLimited:   http.StatusTooManyRequests,
	wire.CodeInternal:      http.StatusInternalServerError,
	wire.CodeStorageFull:   http.StatusInsufficientStorage,
	wire.CodeSealed:        http.StatusServiceUnavailable,
	wire.CodeUnavailable:   http.StatusServiceUnavailable,
}

// refuse answers with the code of an error; causes stay here.
func (s *Server) refuse(w http.ResponseWriter, endpoint string, err error) {
	code := wire.CodeOf(err)
	status, ok := statuses[code]
	if !ok {
		status = http.StatusBadRequest
	}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge:
		w.Header().Set("Connection", "close")
	case http.StatusInternalServerError:
		s.o.Log.Error("internal fault", "endpoint", endpoint, "error", err)
	}
	if code == wire.CodeStorageFull {
		s.o.Log.Error("the store is full", "error", err)
	}
	s.metrics.answered(endpoint, status)
	s.metrics.refused(code)
	writeCBOR(w, status, wire.Marshal(&wire.Error{Code: code}))
}

func writeCBOR(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{"application/cbor"}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	w.WriteHeader(status)
	w.Write(body) // a client that went away is no error of ours
}

// isTooLong reports whether a body was cut off by its limit.
func isTooLong(err error) bool {
	var e *http.MaxBytesError
	return errors.As(err, &e)
}
