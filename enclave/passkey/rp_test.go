package passkey_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/passclave/passclave/enclave/passkey"
	"github.com/passclave/passclave/wire"
)

// user is a relying party's account with at most one passkey.
type user struct{ credentials []webauthn.Credential }

func (u *user) WebAuthnID() []byte                         { return []byte("user-1") }
func (u *user) WebAuthnName() string                       { return "alice" }
func (u *user) WebAuthnDisplayName() string                { return "Alice" }
func (u *user) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func clientData(kind string, challenge []byte, origin string) []byte {
	return fmt.Appendf(nil, `{"type":%q,"challenge":%q,"origin":%q,"crossOrigin":false}`, kind, b64(challenge), origin)
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// relyingParty runs both ceremonies of go-webauthn against a passkey, each of which
// can be tampered with on the way.
type relyingParty struct {
	webauthn *webauthn.WebAuthn
	user     *user
}

func newRelyingParty(t *testing.T) *relyingParty {
	t.Helper()
	w, err := webauthn.New(&webauthn.Config{
		RPID: "shop.example", RPDisplayName: "Shop", RPOrigins: []string{"https://login.shop.example"},
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &relyingParty{w, &user{}}
}

func (rp *relyingParty) register(t *testing.T, c *wire.Create, userVerified bool) (*passkey.Secret, *wire.Metadata, error) {
	t.Helper()
	creation, session, err := rp.webauthn.BeginRegistration(rp.user)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range creation.Response.Parameters {
		c.Algorithms = append(c.Algorithms, int64(p.Algorithm))
	}
	s, m, err := passkey.New(c)
	if err != nil {
		t.Fatal(err)
	}
	object, err := s.AttestationObject(m.CredentialID, userVerified)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(marshal(t, map[string]any{
		"id": b64(m.CredentialID), "rawId": b64(m.CredentialID), "type": "public-key",
		"response": map[string]any{
			"clientDataJSON":    b64(clientData("webauthn.create", creation.Response.Challenge, "https://login.shop.example")),
			"attestationObject": b64(object),
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	credential, err := rp.webauthn.CreateCredential(rp.user, *session, parsed)
	if err == nil {
		rp.user.credentials = []webauthn.Credential{*credential}
	}
	return s, m, err
}

func (rp *relyingParty) signIn(t *testing.T, s *passkey.Secret, m *wire.Metadata, userVerified bool, tamper func(*passkey.Assertion)) (*webauthn.Credential, error) {
	t.Helper()
	assertion, session, err := rp.webauthn.BeginDiscoverableLogin()
	if err != nil {
		t.Fatal(err)
	}
	data := clientData("webauthn.get", assertion.Response.Challenge, "https://login.shop.example")
	a, err := s.Assert("shop.example", sha256.Sum256(data), userVerified)
	if err != nil {
		t.Fatal(err)
	}
	tamper(a)
	parsed, err := protocol.ParseCredentialRequestResponseBytes(marshal(t, map[string]any{
		"id": b64(m.CredentialID), "rawId": b64(m.CredentialID), "type": "public-key",
		"response": map[string]any{
			"clientDataJSON":    b64(data),
			"authenticatorData": b64(a.AuthenticatorData),
			"signature":         b64(a.Signature),
			"userHandle":        b64(m.UserHandle),
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	_, credential, err := rp.webauthn.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) { return rp.user, nil }, *session, parsed)
	return credential, err
}

// What this package makes, a relying party that others wrote accepts.
func TestRelyingParty(t *testing.T) {
	t.Parallel()
	rp := newRelyingParty(t)
	create := &wire.Create{RPID: "shop.example", UserHandle: []byte("user-1"), UserName: "alice", NoUVNeeded: true}
	s, m, err := rp.register(t, create, true)
	if err != nil {
		t.Fatal(err)
	}
	c := rp.user.credentials[0]
	if !c.Flags.BackupEligible || !c.Flags.BackupState || !c.Flags.UserVerified || c.Authenticator.SignCount != 0 || string(c.Authenticator.AAGUID) != string(passkey.AAGUID[:]) {
		t.Errorf("registered as %+v", c)
	}
	got, err := rp.signIn(t, s, m, true, func(*passkey.Assertion) {})
	if err != nil || !got.Flags.UserVerified || got.Authenticator.CloneWarning {
		t.Errorf("sign-in: %v, %+v", err, got)
	}

	// It is seen to bite: what is wrong, the same relying party refuses.
	if _, err := rp.signIn(t, s, m, false, func(*passkey.Assertion) {}); err == nil {
		t.Error("accepted without user verification")
	}
	if _, err := rp.signIn(t, s, m, true, func(a *passkey.Assertion) { a.AuthenticatorData[36]++ }); err == nil {
		t.Error("accepted a changed counter")
	}
	if _, err := rp.signIn(t, s, m, true, func(a *passkey.Assertion) { a.Signature[8] ^= 1 }); err == nil {
		t.Error("accepted a changed signature")
	}
	other, _, err := passkey.New(create)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.signIn(t, other, m, true, func(*passkey.Assertion) {}); err == nil {
		t.Error("accepted another passkey's signature")
	}
	if _, _, err := newRelyingParty(t).register(t, &wire.Create{RPID: "shop.example", UserHandle: []byte("user-1"), UserName: "alice"}, false); err == nil {
		t.Error("accepted a registration without user verification")
	}
}
