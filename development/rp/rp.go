// Package rp is a relying party for demos and tests, on go-webauthn: it registers
// passkeys and verifies sign-ins as any web site would, and knows nothing of
// Passclave. Its accounts protect nothing: whoever asks may add a passkey to any of
// them, which a real site allows only to someone signed in.
//
// The API is JSON over POST. What /begin answers goes to
// navigator.credentials.create or get as it is, and what those return goes to
// /finish as it is; the challenge, used once and within five minutes, ties the two.
//
//	/register/begin   {"user": "alice"}            {"publicKey": PublicKeyCredentialCreationOptionsJSON}
//	/register/finish  RegistrationResponseJSON     Result
//	/sign-in/begin    {"user": "alice"} or {}      {"publicKey": PublicKeyCredentialRequestOptionsJSON}
//	/sign-in/finish   AuthenticationResponseJSON   Result
//
// User verification is required at both. The package owns its store's file; it is
// safe for concurrent use.
package rp

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// Config is what a relying party needs; every member must be set.
type Config struct {
	RPID   string // "localhost", or the domain of Origin
	Origin string // as the browser shows it: scheme://host[:port]
	Folder string // keeps accounts.json
	Log    *slog.Logger
}

// An RP serves the relying party.
type RP struct {
	webauthn *webauthn.WebAuthn
	log      *slog.Logger
	handler  http.Handler

	mu       sync.Mutex
	store    *store                           // guarded by mu
	sessions map[pending]webauthn.SessionData // guarded by mu
}

// pending names a ceremony that was begun.
type pending struct {
	kind      protocol.CeremonyType
	challenge string // base64url
}

// maxSessions bounds ceremonies begun and not finished.
const maxSessions = 10_000

// New returns a relying party with the accounts that the folder keeps.
func New(c Config) (*RP, error) {
	if c.RPID == "" || c.Origin == "" || c.Folder == "" || c.Log == nil {
		return nil, errors.New("rp: RP ID, origin, folder and log must be set")
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID:          c.RPID,
		RPDisplayName: "Passclave demo",
		RPOrigins:     []string{c.Origin},
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:        protocol.ResidentKeyRequirementRequired,
			RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification:   protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{
			Registration: webauthn.TimeoutConfig{Enforce: true, Timeout: ceremony, TimeoutUVD: ceremony},
			Login:        webauthn.TimeoutConfig{Enforce: true, Timeout: ceremony, TimeoutUVD: ceremony},
		},
	})
	if err != nil {
		return nil, err
	}
	s, err := openStore(c.Folder)
	if err != nil {
		return nil, err
	}
	rp := &RP{webauthn: w, log: c.Log, store: s, sessions: map[pending]webauthn.SessionData{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", index)
	mux.HandleFunc("POST /register/begin", rp.post(rp.registerBegin))
	mux.HandleFunc("POST /register/finish", rp.post(rp.registerFinish))
	mux.HandleFunc("POST /sign-in/begin", rp.post(rp.signInBegin))
	mux.HandleFunc("POST /sign-in/finish", rp.post(rp.signInFinish))
	rp.handler = http.NewCrossOriginProtection().Handler(mux)
	return rp, nil
}

// ServeHTTP serves the relying party under Config.Origin.
func (rp *RP) ServeHTTP(w http.ResponseWriter, r *http.Request) { rp.handler.ServeHTTP(w, r) }

// Result is what a finished ceremony says, after go-webauthn verified it.
type Result struct {
	User           string `json:"user"`
	CredentialID   string `json:"credentialId"` // base64url
	UserVerified   bool   `json:"userVerified"`
	BackupEligible bool   `json:"backupEligible"`
	BackedUp       bool   `json:"backedUp"`
}

func result(a *account, c *webauthn.Credential) *Result {
	return &Result{
		User:           a.Name,
		CredentialID:   base64.RawURLEncoding.EncodeToString(c.ID),
		UserVerified:   c.Flags.UserVerified,
		BackupEligible: c.Flags.BackupEligible,
		BackedUp:       c.Flags.BackupState,
	}
}

// Refusal is the JSON answer to a request that was not accepted, with status 400,
// or 500 for a fault of this side.
type Refusal struct {
	Refused string `json:"refused"` // a stable word: go-webauthn's error type, or one of this package
	Detail  string `json:"detail,omitempty"`
}

func (r *Refusal) Error() string { return r.Refused + ": " + r.Detail }

// refusal turns go-webauthn's error into one for the person at the demo.
func refusal(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return &Refusal{Refused: e.Type, Detail: strings.TrimSpace(e.Details + " " + e.DevInfo)}
	}
	return &Refusal{Refused: "response", Detail: err.Error()}
}

// post decodes the body, answers with what f returns, and writes refusals.
func (rp *RP) post(f func(body json.RawMessage) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body json.RawMessage
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 256<<10)).Decode(&body)
		var answer any
		if err != nil {
			err = &Refusal{Refused: "body", Detail: "not JSON of at most 256 KiB"}
		} else {
			answer, err = f(body)
		}
		status := http.StatusOK
		if err != nil {
			refused := &Refusal{Refused: "internal"}
			status = http.StatusInternalServerError
			if errors.As(err, &refused) {
				status = http.StatusBadRequest
			}
			rp.log.Warn("refused", "path", r.URL.Path, "error", err)
			answer = refused
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	}
}

var userName = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,64}$`)

// begun is the body of both /begin requests.
type begun struct {
	User string `json:"user"`
}

func parseBegun(body json.RawMessage, anonymous bool) (*begun, error) {
	var b begun
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, &Refusal{Refused: "body", Detail: `not {"user": NAME}`}
	}
	if (b.User != "" || !anonymous) && !userName.MatchString(b.User) {
		return nil, &Refusal{Refused: "user", Detail: "a user name has 1 to 64 letters, digits and . _ @ + -"}
	}
	return &b, nil
}

// remember keeps a session for its challenge. Must be called with mu held.
func (rp *RP) remember(kind protocol.CeremonyType, s *webauthn.SessionData) {
	if len(rp.sessions) >= maxSessions {
		for old := range rp.sessions {
			delete(rp.sessions, old)
			break
		}
	}
	rp.sessions[pending{kind, s.Challenge}] = *s
}

// take returns the session of a challenge, once. Must be called with mu held.
func (rp *RP) take(kind protocol.CeremonyType, challenge string) (webauthn.SessionData, error) {
	p := pending{kind, challenge}
	s, ok := rp.sessions[p]
	delete(rp.sessions, p)
	if !ok {
		return s, &Refusal{Refused: "challenge", Detail: "not one that this relying party gave for this, or used already"}
	}
	return s, nil
}

func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	fmt.Fprint(w, indexHTML)
}

const indexHTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Passclave demo relying party</title>
<h1>Demo relying party</h1>
<p>DEVELOPMENT ONLY. A web site as any other that takes passkeys, on
<a href="https://github.com/go-webauthn/webauthn">go-webauthn</a>. It knows nothing of Passclave.
<p>POST JSON to /register/begin, /register/finish, /sign-in/begin and /sign-in/finish.
</html>
`
