package enclave

import (
	"crypto/subtle"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // encoding/json with exact member names, and no duplicates

	"github.com/passclave/passclave/wire"
)

// person is a verified login.
type person struct {
	Issued uint64 // iat, Unix seconds, by the issuer's clock
	Fresh  bool   // authenticated at most 300 seconds before iat
}

// freshLogin is the most that may lie between auth_time and iat, in seconds.
const freshLogin = 300

const maxToken = 16 << 10

// idToken holds the claims of an ID token that matter (OpenID Connect Core, section 2).
type idToken struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Party    *string  `json:"azp"`
	Nonce    string   `json:"nonce"`
	Issued   *int64   `json:"iat"`
	AuthTime *int64   `json:"auth_time"`
}

// audience is one string or a list of them (RFC 7519, section 4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// login verifies the request's ID token against the measured configuration: the
// issuer's signature under a key that came over TLS which ended here, an accepted
// algorithm, exact issuer, audience and authorized party, the account, and a nonce
// that binds the device key and a challenge at most 10 minutes old.
//
// exp is not checked: the enclave has no clock of its own to compare it with, and
// the challenge bounds the token's age better.
func (t *tx) login(deviceKey []byte) (*person, error) {
	if t.who != nil {
		return t.who, nil
	}
	l := t.body.Login
	switch {
	case l == nil:
		return nil, wire.Errorf(wire.CodeLoginRequired, "no login")
	case len(l.Token) > maxToken:
		return nil, wire.Errorf(wire.CodeTooLarge, "ID token of %d bytes", len(l.Token))
	}
	if err := t.core.checkChallenge(l.Challenge, t.in.Time, loginAge); err != nil {
		return nil, err
	}
	issuer, jws, err := t.parseToken(l.Token)
	if err != nil {
		return nil, err
	}
	payload, err := t.verifyToken(issuer, jws)
	if err != nil {
		return nil, err
	}
	var claims idToken
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, wire.Errorf(wire.CodeLogin, "claims do not decode")
	}
	nonce := wire.LoginNonce(deviceKey, l.Challenge)
	switch {
	case claims.Issuer != issuer.Issuer:
		return nil, wire.Errorf(wire.CodeLogin, "issuer")
	case len(claims.Audience) == 0 || !accepts(issuer, claims.Audience[0]):
		return nil, wire.Errorf(wire.CodeLogin, "audience")
	case len(claims.Audience) > 1:
		return nil, wire.Errorf(wire.CodeLogin, "more than one audience")
	case claims.Party != nil && !accepts(issuer, *claims.Party):
		return nil, wire.Errorf(wire.CodeLogin, "authorized party")
	case subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(nonce)) != 1:
		return nil, wire.Errorf(wire.CodeLogin, "nonce")
	case claims.Subject == "" || issuer.AccountID(claims.Subject) != t.in.Envelope.Header.Account:
		return nil, wire.Errorf(wire.CodeLogin, "login of another account")
	case claims.Issued == nil || *claims.Issued <= 0:
		return nil, wire.Errorf(wire.CodeLogin, "iat")
	}
	t.state.login = &VerifiedLogin{Issuer: issuer.Issuer, Issued: uint64(*claims.Issued)}
	t.who = &person{
		Issued: uint64(*claims.Issued),
		Fresh:  claims.AuthTime != nil && *claims.AuthTime <= *claims.Issued && *claims.Issued-*claims.AuthTime <= freshLogin,
	}
	return t.who, nil
}

func accepts(i *wire.Issuer, client string) bool { return slices.Contains(i.ClientIDs, client) }

// parseToken finds the issuer that an ID token names, and parses it with that
// issuer's algorithms alone.
func (t *tx) parseToken(token string) (*wire.Issuer, *jose.JSONWebSignature, error) {
	for i := range t.core.config.Issuers {
		issuer := &t.core.config.Issuers[i]
		var algorithms []jose.SignatureAlgorithm
		for _, a := range issuer.Algorithms {
			algorithms = append(algorithms, jose.SignatureAlgorithm(a))
		}
		jws, err := jose.ParseSignedCompact(token, algorithms)
		if err != nil {
			continue
		}
		var unverified struct {
			Issuer string `json:"iss"`
		}
		if json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &unverified) == nil && unverified.Issuer == issuer.Issuer {
			return issuer, jws, nil
		}
	}
	return nil, nil, wire.Errorf(wire.CodeLogin, "ID token of no configured issuer and algorithm")
}

// verifyToken checks the signature under the issuer's key that the token names.
// A key that is not among those at hand is asked for once more.
func (t *tx) verifyToken(issuer *wire.Issuer, jws *jose.JSONWebSignature) ([]byte, error) {
	keys := t.state.have.keys[issuer.Issuer]
	if keys == nil {
		return nil, &lack{issuer: issuer}
	}
	if len(jws.Signatures) != 1 {
		return nil, wire.Errorf(wire.CodeLogin, "not one signature")
	}
	header := jws.Signatures[0].Protected
	for _, k := range keys.Key(header.KeyID) {
		if !k.Valid() || !k.IsPublic() || k.Use == "enc" || (k.Algorithm != "" && k.Algorithm != header.Algorithm) {
			continue
		}
		payload, err := jws.Verify(k.Key)
		if err != nil {
			return nil, wire.Errorf(wire.CodeLogin, "signature of the ID token")
		}
		return payload, nil
	}
	if !t.state.have.refreshed {
		t.state.have.refreshed = true
		return nil, &lack{issuer: issuer, refresh: true}
	}
	return nil, wire.Errorf(wire.CodeLogin, "ID token signed by a key that the issuer does not publish")
}
