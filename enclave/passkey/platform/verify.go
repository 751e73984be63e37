package platform

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/passclave/passclave/wire"
)

func refused(r Reason, cause error) error {
	return wire.NewError(wire.CodeUVRequired, &Refusal{r, cause})
}

// verifyClientData does steps 5 to 14. The origin is compared as bytes: the library
// would treat "https://a.example:443" as "https://a.example".
func verifyClientData(config wire.PlatformUserVerification, challenge wire.Digest, data []byte) error {
	var c protocol.CollectedClientData
	if err := json.Unmarshal(data, &c); err != nil {
		return refused(ReasonClientData, err)
	}
	text := base64.RawURLEncoding.EncodeToString(challenge[:])
	switch {
	case c.Type != protocol.AssertCeremony:
		return refused(ReasonType, nil)
	case c.Challenge != text:
		return refused(ReasonChallenge, nil)
	case !slices.Contains(config.Origins, c.Origin):
		return refused(ReasonOrigin, nil)
	case c.CrossOrigin || c.TopOrigin != "":
		return refused(ReasonCrossOrigin, nil)
	}
	return nil
}

// verifyAuthenticatorData does steps 15 to 19.
func verifyAuthenticatorData(config wire.PlatformUserVerification, data []byte) error {
	var a protocol.AuthenticatorData
	if err := a.Unmarshal(data); err != nil {
		return refused(ReasonAuthenticator, err)
	}
	rpIDHash := sha256.Sum256([]byte(config.RPID))
	switch {
	case !bytes.Equal(a.RPIDHash, rpIDHash[:]):
		return refused(ReasonRPID, nil)
	case !a.Flags.HasUserPresent():
		return refused(ReasonNotPresent, nil)
	case !a.Flags.HasUserVerified():
		return refused(ReasonNotVerified, nil)
	case a.Flags.HasBackupEligible() || a.Flags.HasBackupState():
		return refused(ReasonSynced, nil)
	}
	return nil
}

// verifySignature does steps 20 and 21: over authenticatorData ‖ SHA-256(clientDataJSON).
func verifySignature(key any, a *wire.PlatformAssertion) error {
	hash := sha256.Sum256(a.ClientDataJSON)
	ok, err := webauthncose.VerifySignature(key, slices.Concat(a.AuthenticatorData, hash[:]), a.Signature)
	if err != nil || !ok {
		return refused(ReasonSignature, err)
	}
	return nil
}
