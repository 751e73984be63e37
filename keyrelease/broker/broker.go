// Package broker is the key service for those without Azure: one HTTP handler
// that is both attestation service and vault, in Azure's wire format, so that an
// Azure client works against it unchanged.
//
//	POST /attest/SevSnpVm                     evidence → token
//	POST /attest/TdxVm
//	POST /attest/OpenEnclave                  (SGX)
//	GET  /.well-known/openid-configuration    where the token's keys are
//	GET  /certs                               the token's keys
//	GET  /keys/{name}/versions                versions of a key
//	POST /keys/{name}/{version}/release       token → wrapped key
//
// A key leaves the store only wrapped to the one RSA key inside of a token that
// this process issued minutes ago, for genuine evidence of purpose "release",
// and only if the release policy stored beside that key version releases it. Every
// release and every refusal stands in the audit log ([audit.Log]) before it is answered;
// what cannot be recorded is not released.
//
// Operators have endpoints of their own under /admin (package operator), where the broker
// was given some. What changes who may have a key takes two of them.
//
// It trusts its store ([keystore.Store]) with keys and policies, and the roots
// given to it. Callers are trusted for nothing: no request is authenticated by
// anything but its evidence, so key names, version IDs and times are public to
// whoever reaches the port. State is the store's, but for the token key, which
// lives as long as the process: tokens die with it and clients attest again.
//
// The caller serves it over TLS, always, and with time limits.
package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/operator"
)

// Limits of one request, and of all of them together.
const (
	maxBody       = 256 << 10 // bytes
	maxNonce      = 256       // bytes
	knownEvidence = 256       // results of 16 KiB
	defaultRate   = 50        // requests a second
	defaultBurst  = 100
	tokenLifetime = 5 * time.Minute
)

// Config is what a broker needs. All fields but Collateral, Operators, Rate, Burst and Now are required.
type Config struct {
	// URL is the https URL without a path by which clients reach it: issuer of
	// the tokens, authority in release policies, and beginning of every key ID.
	URL string
	// Roots are those that evidence must chain to.
	Roots attestation.Roots
	// Collateral says how to ask the hardware's makers about evidence that is genuine
	// (Roots and Now are this Config's); nil: nobody is asked, and tokens say nothing of
	// revocation and of the status of Intel's TCB.
	Collateral *collateral.Options
	Store      keystore.Store
	// Certificate signs released keys. It must be for URL's host and have an RSA
	// key of 2048 bits or more, since vaults sign by RS256 or PS256.
	Certificate tls.Certificate
	Audit       *audit.Log          // open; the caller closes it after the broker served its last request
	Operators   []operator.Operator // of package operator's Parse; none: no endpoints for them
	Log         *slog.Logger

	Rate  rate.Limit // requests a second, of all callers together; zero means 50
	Burst int        // zero means 100
	Now   func() time.Time
}

// Broker is the handler. Its methods may be called by several goroutines.
type Broker struct {
	url        string
	roots      attestation.Roots
	collateral *collateral.Completer // nil: none
	known      *attestation.Cache    // enclaves of one machine show one chain
	store      keystore.Store
	audit      *audit.Log
	log        *slog.Logger
	now        func() time.Time
	limiter    *rate.Limiter
	mux        *http.ServeMux
	signer     *releaseSigner
	tokens     *tokenAuthority

	operators  []operator.Operator
	admins     *rate.Limiter // of operators' requests
	challenges *challenges
	proposals  *proposals
	acting     sync.Mutex // held by an operator's act

	strangers *rate.Limiter // of records about those who showed nothing
	leftOut   atomic.Uint64 // refusals of strangers since the newest such record
}

// New checks a configuration, makes the token key and records the start.
func New(c Config) (*Broker, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("broker: the URL must be https://host[:port] and nothing after it")
	}
	if c.Store == nil || c.Log == nil || c.Audit == nil {
		return nil, errors.New("broker: a store, an audit log and a log are required")
	}
	signer, err := newReleaseSigner(c.Certificate, u.Hostname())
	if err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rate == 0 {
		c.Rate = defaultRate
	}
	if c.Burst == 0 {
		c.Burst = defaultBurst
	}
	tokens, err := newTokenAuthority(c.URL, c.Now)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		url: c.URL, roots: c.Roots, store: c.Store, audit: c.Audit, log: c.Log, now: c.Now,
		known: attestation.NewCache(knownEvidence), limiter: rate.NewLimiter(c.Rate, c.Burst), signer: signer, tokens: tokens,
		mux: http.NewServeMux(), strangers: rate.NewLimiter(strangersRate, strangersBurst),
		operators: c.Operators, admins: rate.NewLimiter(adminRate, adminBurst), challenges: newChallenges(), proposals: &proposals{now: c.Now},
	}
	if c.Collateral != nil {
		o := *c.Collateral
		o.Roots, o.Now = c.Roots, c.Now
		b.collateral = collateral.New(o)
	}
	b.handle("POST "+azure.AttestSNPPath, b.attestSNP)
	b.handle("POST "+azure.AttestTDXPath, b.attestTDX)
	b.handle("POST "+azure.AttestOpenEnclavePath, b.attestOpenEnclave)
	b.handle("GET /.well-known/openid-configuration", b.openID)
	b.handle("GET /certs", b.certs)
	b.handle("GET /keys/{name}/versions", b.versions)
	b.handle("POST /keys/{name}/{version}/release", b.release)
	b.handleOperators()
	b.handle("/", func(*request) (any, error) {
		return nil, refuse(http.StatusNotFound, "NotFound", "no such endpoint")
	})
	if err := b.recordStart(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

// ServeHTTP answers one request.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.mux.ServeHTTP(w, r) }
