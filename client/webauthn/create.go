package webauthn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/passclave/passclave/wire"
)

// A Creation is one navigator.credentials.create, from the relying party's options
// to its answer (WebAuthn L3, section 5.1.3).
type Creation struct {
	RPID             string
	ClientData       ClientData
	UserVerification Requirement
	options          creationOptions
	exclude          [][]byte
	algorithms       []int64
}

// NewCreation reads a relying party's PublicKeyCredentialCreationOptionsJSON on
// behalf of origin. The refusal is an [Error].
func NewCreation(origin string, options []byte) (*Creation, error) {
	host, err := checkOrigin(origin)
	if err != nil {
		return nil, err
	}
	var o creationOptions
	if err := decode(options, &o); err != nil {
		return nil, err
	}
	c := &Creation{options: o, UserVerification: requirement(o.Selection.UserVerification)}
	if c.RPID, err = checkRPID(o.RP.ID, host); err != nil {
		return nil, err
	}
	if c.exclude, err = listed("excludeCredentials", o.Exclude); err != nil {
		return nil, err
	}
	for _, p := range o.Parameters {
		if p.Type == publicKey {
			c.algorithms = append(c.algorithms, p.Algorithm)
		}
	}
	if len(o.Parameters) == 0 {
		c.algorithms = []int64{-7, -257}
	}
	switch x := o.Extensions; {
	case len(o.User.ID) < 1 || len(o.User.ID) > 64:
		return nil, refuse(TypeError, "user.id has not 1 to 64 bytes")
	case len(o.Challenge) == 0:
		return nil, refuse(TypeError, "no challenge")
	case len(c.algorithms) == 0:
		return nil, refuse(NotSupportedError, "pubKeyCredParams has no public-key")
	case o.Selection.Attachment == "cross-platform":
		return nil, refuse(NotAllowedError, "a roaming authenticator is asked for")
	case x.PRF != nil && x.PRF.EvalByCredential != nil:
		return nil, refuse(NotSupportedError, "prf.evalByCredential at create")
	case x.LargeBlob != nil && (x.LargeBlob.Read || x.LargeBlob.Write != nil):
		return nil, refuse(NotSupportedError, "largeBlob read or write at create")
	case x.EnforceProtect && x.Protection != "" && x.Protection != "userVerificationOptional":
		return nil, refuse(NotAllowedError, "credentialProtectionPolicy is enforced")
	}
	c.ClientData = newClientData("webauthn.create", o.Challenge, origin)
	return c, nil
}

// Command returns the enclave's command. created is Unix seconds by the device's
// clock. noUVNeeded makes a passkey that later signs without user verification too;
// it is the person's choice, never the relying party's.
func (c *Creation) Command(created uint64, noUVNeeded bool) wire.Create {
	command := wire.Create{
		ClientDataHash: c.ClientData.Hash,
		RPID:           c.RPID,
		RPName:         truncate(c.options.RP.Name),
		UserHandle:     c.options.User.ID,
		UserName:       truncate(c.options.User.Name),
		DisplayName:    truncate(c.options.User.DisplayName),
		Algorithms:     c.algorithms,
		Exclude:        c.exclude,
		NoUVNeeded:     noUVNeeded,
		Created:        created,
	}
	if prf := c.options.Extensions.PRF; prf != nil && prf.Eval != nil {
		command.PRF = prf.Eval.hashed()
	}
	return command
}

type registrationResponse struct {
	ID         wire.Base64      `json:"id"`
	RawID      wire.Base64      `json:"rawId"`
	Type       string           `json:"type"`
	Attachment string           `json:"authenticatorAttachment"`
	Extensions extensionResults `json:"clientExtensionResults"`
	Response   struct {
		ClientDataJSON     wire.Base64 `json:"clientDataJSON"`
		AuthenticatorData  wire.Base64 `json:"authenticatorData"`
		Transports         []string    `json:"transports"`
		PublicKey          wire.Base64 `json:"publicKey,omitempty"` // SubjectPublicKeyInfo, DER
		PublicKeyAlgorithm int64       `json:"publicKeyAlgorithm"`
		AttestationObject  wire.Base64 `json:"attestationObject"`
	} `json:"response"`
}

type extensionResults struct {
	CredProps *credProps       `json:"credProps,omitempty"`
	PRF       *prfResult       `json:"prf,omitempty"`
	LargeBlob *largeBlobResult `json:"largeBlob,omitempty"`
}

type credProps struct {
	ResidentKey bool `json:"rk"`
}

type prfResult struct {
	Enabled *bool       `json:"enabled,omitempty"`
	Results *prfOutputs `json:"results,omitempty"`
}

type prfOutputs struct {
	First  wire.Base64 `json:"first"`
	Second wire.Base64 `json:"second,omitempty"`
}

type largeBlobResult struct {
	Supported *bool       `json:"supported,omitempty"`
	Blob      wire.Base64 `json:"blob,omitempty"`
	Written   *bool       `json:"written,omitempty"`
}

func prfOutputsOf(r *wire.PRFResult) *prfOutputs {
	if r == nil {
		return nil
	}
	return &prfOutputs{First: r.First, Second: r.Second}
}

// Response returns the RegistrationResponseJSON (WebAuthn L3, section 5.1) of the
// enclave's result. Extension results are given only for what was asked for. A
// result for another RP ID, or without the user verification that is required, is
// refused with [ConstraintError]; one that does not decode with [UnknownError].
func (c *Creation) Response(r *wire.CreateResult) ([]byte, error) {
	var object struct {
		Format            string   `cbor:"fmt"`
		Statement         struct{} `cbor:"attStmt"`
		AuthenticatorData []byte   `cbor:"authData"`
	}
	if err := wire.Unmarshal(r.AttestationObject, &object); err != nil {
		return nil, refuse(UnknownError, "attestation object does not decode")
	}
	if err := checkResult(object.AuthenticatorData, c.RPID, c.UserVerification); err != nil {
		return nil, err
	}
	key, err := attestedKey(object.AuthenticatorData)
	if err != nil {
		return nil, err
	}
	out := registrationResponse{ID: r.CredentialID, RawID: r.CredentialID, Type: publicKey, Attachment: "platform"}
	out.Response.ClientDataJSON = c.ClientData.JSON
	out.Response.AuthenticatorData = object.AuthenticatorData
	out.Response.Transports = []string{"internal"}
	out.Response.PublicKey = key
	out.Response.PublicKeyAlgorithm = es256
	out.Response.AttestationObject = r.AttestationObject
	yes := true
	x := c.options.Extensions
	if x.CredProps {
		out.Extensions.CredProps = &credProps{ResidentKey: true}
	}
	if x.PRF != nil {
		out.Extensions.PRF = &prfResult{Enabled: &yes, Results: prfOutputsOf(r.PRF)}
	}
	if x.LargeBlob != nil {
		out.Extensions.LargeBlob = &largeBlobResult{Supported: &yes}
	}
	return json.Marshal(out)
}

// Flags of authenticator data (WebAuthn L3, section 6.1).
const (
	flagUV byte = 1 << 2
	flagAT byte = 1 << 6
)

// checkResult refuses early what the relying party would refuse.
func checkResult(data []byte, rpID string, uv Requirement) error {
	hash := sha256.Sum256([]byte(rpID))
	switch {
	case len(data) < 37:
		return refuse(UnknownError, "authenticator data of %d bytes", len(data))
	case !slices.Equal(data[:32], hash[:]):
		return refuse(ConstraintError, "authenticator data is for another RP ID")
	case uv == Required && data[32]&flagUV == 0:
		return refuse(ConstraintError, "user verification is required and was not proven")
	}
	return nil
}

const es256 = -7

// coseKeySize is the length of an ES256 COSE_Key in deterministic CBOR.
const coseKeySize = 77

// attestedKey returns the new credential's ES256 key as SubjectPublicKeyInfo.
func attestedKey(data []byte) ([]byte, error) {
	if data[32]&flagAT == 0 || len(data) < 55 {
		return nil, refuse(UnknownError, "no attested credential data")
	}
	rest := data[55:]
	if n := int(binary.BigEndian.Uint16(data[53:55])); len(rest) < n+coseKeySize {
		return nil, refuse(UnknownError, "attested credential data is cut")
	} else {
		rest = rest[n : n+coseKeySize]
	}
	var k struct {
		KeyType   int64  `cbor:"1,keyasint"`
		Algorithm int64  `cbor:"3,keyasint"`
		Curve     int64  `cbor:"-1,keyasint"`
		X         []byte `cbor:"-2,keyasint"`
		Y         []byte `cbor:"-3,keyasint"`
	}
	if err := wire.Unmarshal(rest, &k); err != nil || k.Algorithm != es256 {
		return nil, refuse(UnknownError, "not an ES256 key")
	}
	point, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, k.X, k.Y))
	if err != nil {
		return nil, refuse(UnknownError, "not a point of P-256")
	}
	return x509.MarshalPKIXPublicKey(point)
}
