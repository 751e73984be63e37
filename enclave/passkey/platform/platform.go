// Package platform decides whether a WebAuthn assertion of a device's platform
// authenticator (Windows Hello, Touch ID, …) proves user verification for one
// request. It is pure: no state, no clock.
//
// It trusts the measured configuration for RP ID and origins, the signed join for
// the registered credential, and the caller for the challenge, which must be
// T("uv") of the very request. It trusts nothing in the assertion. go-webauthn's
// protocol package decodes and verifies; what it would let pass (a synced
// credential, any algorithm, a default port in the origin) is refused here, and
// every condition has its own [Reason].
package platform

import (
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/passclave/passclave/wire"
)

// Reason names the condition of an assertion or credential that does not hold.
type Reason string

const (
	ReasonOff           Reason = "off"           // the measured configuration allows no platform assertion
	ReasonCredential    Reason = "credential"    // credential ID or COSE key is not a registrable one
	ReasonMissing       Reason = "missing"       // no assertion
	ReasonOther         Reason = "other"         // made with a credential that the device did not register
	ReasonTooLarge      Reason = "too-large"     // a member is over its limit
	ReasonClientData    Reason = "client-data"   // clientDataJSON does not decode
	ReasonType          Reason = "type"          // not webauthn.get
	ReasonChallenge     Reason = "challenge"     // another request's challenge
	ReasonOrigin        Reason = "origin"        // an origin that is not configured
	ReasonCrossOrigin   Reason = "cross-origin"  // made inside a frame of another origin
	ReasonAuthenticator Reason = "authenticator" // authenticator data does not decode
	ReasonRPID          Reason = "rp-id"         // another RP ID
	ReasonNotPresent    Reason = "not-present"   // UP not set
	ReasonNotVerified   Reason = "not-verified"  // UV not set
	ReasonSynced        Reason = "synced"        // BE set: the credential may be on other devices
	ReasonSignature     Reason = "signature"     // the signature does not verify
)

// Refusal is the cause inside the [wire.Error] of every refusal of this package.
type Refusal struct {
	Reason Reason
	cause  error
}

func (r *Refusal) Error() string {
	if r.cause == nil {
		return "platform: " + string(r.Reason)
	}
	return "platform: " + string(r.Reason) + ": " + r.cause.Error()
}

func (r *Refusal) Unwrap() error { return r.cause }

// Limits in bytes.
const (
	maxCredentialID = 1023 // WebAuthn L3, section 4
	maxPublicKey    = 600  // a COSE_Key of RSA-4096 has 528
	maxData         = 4096 // clientDataJSON, authenticator data
	maxSignature    = 512  // RSA-4096
)

// CheckCredential checks a credential that a device registers: a credential ID of
// 1 to 1023 bytes and a COSE key of ES256 (P-256) or RS256 (2048 to 4096 bits). The
// refusal is [wire.CodeArgument] around a [Refusal] with [ReasonCredential].
//
// It does not check who made the key: there is no attestation. Whoever enrols or
// joins vouches for it with the login, PIN and device key of the same request, and
// could as well register a software UV key.
func CheckCredential(c *wire.PlatformCredential) error {
	_, err := parseCredential(c)
	return err
}

func parseCredential(c *wire.PlatformCredential) (key any, err error) {
	refused := func(cause error) error {
		return wire.NewError(wire.CodeArgument, &Refusal{ReasonCredential, cause})
	}
	if c == nil || len(c.ID) == 0 || len(c.ID) > maxCredentialID || len(c.PublicKey) > maxPublicKey {
		return nil, refused(nil)
	}
	if key, err = webauthncose.ParsePublicKey(c.PublicKey); err != nil {
		return nil, refused(err)
	}
	switch k := key.(type) {
	case webauthncose.EC2PublicKeyData:
		if k.Algorithm == int64(webauthncose.AlgES256) {
			return key, nil
		}
	case webauthncose.RSAPublicKeyData:
		if bits := 8 * len(k.Modulus); k.Algorithm == int64(webauthncose.AlgRS256) && bits >= 2048 && bits <= 4096 && k.Modulus[0]&0x80 != 0 {
			return key, nil
		}
	}
	return nil, refused(nil)
}

// Verify checks that a is an assertion by the registered credential over challenge
// (WebAuthn L3, section 7.2, steps 5 to 21): type webauthn.get, challenge, an
// origin of config byte for byte, crossOrigin false, config's RP ID, UP and UV set,
// BE clear, and the signature. The refusal is [wire.CodeUVRequired] around a
// [Refusal], except for a credential that should not have been registered, which
// is refused as by [CheckCredential].
//
// It does not check the signature counter (the challenge is already good for one
// request only), extension outputs, and that the key is in hardware.
func Verify(config wire.PlatformUserVerification, registered *wire.PlatformCredential, challenge wire.Digest, a *wire.PlatformAssertion) error {
	if config.RPID == "" || len(config.Origins) == 0 {
		return refused(ReasonOff, nil)
	}
	if a == nil {
		return refused(ReasonMissing, nil)
	}
	if len(a.ClientDataJSON) > maxData || len(a.AuthenticatorData) > maxData || len(a.Signature) > maxSignature {
		return refused(ReasonTooLarge, nil)
	}
	key, err := parseCredential(registered)
	if err != nil {
		return err
	}
	if string(a.CredentialID) != string(registered.ID) {
		return refused(ReasonOther, nil)
	}
	if err := verifyClientData(config, challenge, a.ClientDataJSON); err != nil {
		return err
	}
	if err := verifyAuthenticatorData(config, a.AuthenticatorData); err != nil {
		return err
	}
	return verifySignature(key, a)
}
