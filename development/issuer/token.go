package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
)

// grant is what a code stands for.
type grant struct {
	request request
	session session
	until   time.Time
}

// token exchanges a code, once, for an ID token (RFC 6749, section 4.1.3; RFC 7636,
// section 4.6).
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(problem string) { writeJSON(w, http.StatusBadRequest, map[string]string{"error": problem}) }
	if err := r.ParseForm(); err != nil {
		refuse("invalid_request")
		return
	}
	f := r.PostForm
	if f.Get("grant_type") != "authorization_code" {
		refuse("unsupported_grant_type")
		return
	}
	code := f.Get("code")
	i.mu.Lock()
	g, ok := i.codes[code]
	delete(i.codes, code) // whatever comes of it
	i.mu.Unlock()
	now := i.config.Now()
	verifier := sha256.Sum256([]byte(f.Get("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(verifier[:])
	switch {
	case !ok || now.After(g.until),
		f.Get("client_id") != g.request.clientID,
		f.Get("redirect_uri") != g.request.redirect.String(),
		subtle.ConstantTimeCompare([]byte(challenge), []byte(g.request.challenge)) != 1:
		refuse("invalid_grant")
		return
	}
	token, err := i.IDToken(Login{
		User: g.session.user, ClientID: g.request.clientID, Nonce: g.request.nonce,
		IssuedAt: now.Add(g.request.skew), AuthTime: g.session.authTime.Add(g.request.skew),
	})
	if err != nil {
		i.config.Log.Error("signing an ID token", "error", err)
		http.Error(w, "cannot sign", http.StatusInternalServerError)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": rand.Text(), // opens nothing: there is no other endpoint
		"token_type":   "Bearer",
		"expires_in":   int(tokenLifetime / time.Second),
		"id_token":     token,
	})
}

// A Login is what an ID token says.
type Login struct {
	User     string
	ClientID string
	Nonce    string
	IssuedAt time.Time
	AuthTime time.Time
}

// IDToken signs an ID token (OpenID Connect Core, section 2) that says what l says,
// in the compact JWS form. Tests use it to skip the browser's part.
func (i *Issuer) IDToken(l Login) (string, error) {
	claims := map[string]any{
		"iss":       i.config.URL,
		"sub":       l.User,
		"aud":       l.ClientID,
		"azp":       l.ClientID,
		"iat":       l.IssuedAt.Unix(),
		"exp":       l.IssuedAt.Add(tokenLifetime).Unix(),
		"auth_time": l.AuthTime.Unix(),
	}
	if l.Nonce != "" {
		claims["nonce"] = l.Nonce
	}
	return jwt.Signed(i.signer).Claims(claims).Serialize()
}
