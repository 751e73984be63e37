package rp

import (
	"encoding/json"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
)

// ceremony is how long one may take.
const ceremony = 5 * time.Minute

// registerBegin asks for a new passkey: the account's own ones are excluded.
func (rp *RP) registerBegin(body json.RawMessage) (any, error) {
	b, err := parseBegun(body, false)
	if err != nil {
		return nil, err
	}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	a, err := rp.store.make(b.User)
	if err != nil {
		return nil, err
	}
	exclude := webauthn.WithExclusions(webauthn.Credentials(a.Credentials).CredentialDescriptors())
	options, session, err := rp.webauthn.BeginRegistration(a, exclude)
	if err != nil {
		return nil, err
	}
	rp.remember(protocol.CreateCeremony, session)
	return options, nil
}

func (rp *RP) registerFinish(body json.RawMessage) (any, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(body)
	if err != nil {
		return nil, refusal(err)
	}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	session, err := rp.take(protocol.CreateCeremony, parsed.Response.CollectedClientData.Challenge)
	if err != nil {
		return nil, err
	}
	a := rp.store.byID(session.UserID)
	c, err := rp.webauthn.CreateCredential(a, session, parsed)
	if err != nil {
		return nil, refusal(err)
	}
	if rp.store.byCredential(c.ID) != nil { // WebAuthn L3, section 7.1, step 26
		return nil, &Refusal{Refused: "credential", Detail: "registered already"}
	}
	a.Credentials = append(a.Credentials, *c)
	if err := rp.store.save(); err != nil {
		a.Credentials = a.Credentials[:len(a.Credentials)-1]
		return nil, err
	}
	return result(a, c), nil
}

// signInBegin asks for any passkey of the site, or for one of the user's.
func (rp *RP) signInBegin(body json.RawMessage) (any, error) {
	b, err := parseBegun(body, true)
	if err != nil {
		return nil, err
	}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	var options *protocol.CredentialAssertion
	var session *webauthn.SessionData
	if b.User == "" {
		options, session, err = rp.webauthn.BeginDiscoverableLogin()
	} else {
		a := rp.store.byName(b.User)
		if a == nil || len(a.Credentials) == 0 {
			return nil, &Refusal{Refused: "user", Detail: "has no passkey here"}
		}
		options, session, err = rp.webauthn.BeginLogin(a)
	}
	if err != nil {
		return nil, err
	}
	rp.remember(protocol.AssertCeremony, session)
	return options, nil
}

func (rp *RP) signInFinish(body json.RawMessage) (any, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(body)
	if err != nil {
		return nil, refusal(err)
	}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	session, err := rp.take(protocol.AssertCeremony, parsed.Response.CollectedClientData.Challenge)
	if err != nil {
		return nil, err
	}
	a := rp.store.byCredential(parsed.RawID)
	if a == nil {
		return nil, &Refusal{Refused: "credential", Detail: "not registered here"}
	}
	var c *webauthn.Credential
	if session.UserID == nil {
		_, c, err = rp.webauthn.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return a, nil }, session, parsed)
	} else {
		c, err = rp.webauthn.ValidateLogin(a, session, parsed)
	}
	if err != nil {
		return nil, refusal(err)
	}
	a.replace(*c)
	if err := rp.store.save(); err != nil {
		return nil, err
	}
	return result(a, c), nil
}
