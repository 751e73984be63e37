// Package issuer is an OpenID Connect provider for development and tests, and for
// nothing else: it asks for a user name and believes it. Whoever reaches it signs in
// as anyone. It exists so that Passclave's login path can run whole on one machine:
// discovery, JWKS, authorization code with PKCE (S256) and loopback redirects (RFC
// 8252, section 7.3), nonce, auth_time, prompt and max_age.
//
// The package owns its signing key's file, and in memory the sessions and codes; a
// restart forgets both. It is safe for concurrent use. A production measured
// configuration never names it.
//
// Two things at the authorization endpoint are its own, for scripts:
//
//	login_hint=alice&passclave_dev_login=1   answer the redirect at once, without a page
//	passclave_dev_skew=86400                 date the ID token that many seconds into the future
package issuer

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Config is what an issuer needs; every member must be set.
type Config struct {
	URL       string            // the issuer identifier: https, no trailing slash
	Key       *ecdsa.PrivateKey // P-256, see [LoadKey]
	ClientIDs []string          // public clients that may ask; any loopback redirect is theirs
	Now       func() time.Time  // the clock; a test moves it
	Log       *slog.Logger
}

// An Issuer serves the provider's endpoints.
type Issuer struct {
	config Config
	signer jose.Signer
	public jose.JSONWebKey
	mux    *http.ServeMux

	mu       sync.Mutex
	sessions map[string]session // by cookie; guarded by mu
	codes    map[string]grant   // by code; guarded by mu
}

// session is a browser in which a person has signed in.
type session struct {
	user     string
	authTime time.Time
}

// Lifetimes and bounds.
const (
	codeLifetime  = time.Minute
	tokenLifetime = 5 * time.Minute
	maxRemembered = 10_000 // sessions, and codes
)

// New returns an issuer, or why the configuration is not whole.
func New(c Config) (*Issuer, error) {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("issuer: URL is not https://host[:port]")
	case c.Key == nil || c.Now == nil || c.Log == nil || len(c.ClientIDs) == 0:
		return nil, errors.New("issuer: key, client IDs, clock and log must be set")
	}
	i := &Issuer{config: c, sessions: map[string]session{}, codes: map[string]grant{}}
	i.public = jose.JSONWebKey{Key: &c.Key.PublicKey, Algorithm: string(jose.ES256), Use: "sig"}
	if i.public.KeyID, err = keyID(i.public); err != nil {
		return nil, err
	}
	private := jose.JSONWebKey{Key: c.Key, KeyID: i.public.KeyID}
	i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	i.mux = http.NewServeMux()
	i.mux.HandleFunc("GET /{$}", i.index)
	i.mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	i.mux.HandleFunc("GET /jwks", i.jwks)
	i.mux.HandleFunc("GET /authorize", i.authorize)
	i.mux.HandleFunc("POST /authorize", i.authorize)
	i.mux.HandleFunc("POST /token", i.token)
	return i, nil
}

// ServeHTTP serves the provider under the host of Config.URL.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	i.mux.ServeHTTP(w, r)
}

// Keys returns the public keys that /jwks serves.
func (i *Issuer) Keys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.public}}
}

// discovery is OpenID Connect Discovery 1.0, section 3.
func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         i.config.URL,
		"authorization_endpoint":                         i.config.URL + "/authorize",
		"token_endpoint":                                 i.config.URL + "/token",
		"jwks_uri":                                       i.config.URL + "/jwks",
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{string(jose.ES256)},
		"scopes_supported":                               []string{"openid"},
		"token_endpoint_auth_methods_supported":          []string{"none"},
		"code_challenge_methods_supported":               []string{"S256"},
		"prompt_values_supported":                        []string{"none", "login"},
		"claims_supported":                               []string{"iss", "sub", "aud", "azp", "iat", "exp", "nonce", "auth_time"},
		"authorization_response_iss_parameter_supported": true,
	})
}

func (i *Issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, i.Keys())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func (i *Issuer) knownClient(id string) bool { return slices.Contains(i.config.ClientIDs, id) }

// remember adds to a bounded map: when it is full, one entry, whichever, goes.
func remember[V any](m map[string]V, key string, v V) {
	if len(m) >= maxRemembered {
		for old := range m {
			delete(m, old)
			break
		}
	}
	m[key] = v
}
