package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
)

// Binding ties signatures to one HPKE context: no signature made for one request
// is good for another, or for another enclave key, or for another account.
type Binding struct {
	Key      KeyID
	Exporter []byte // 32 bytes
	Account  AccountID
}

// Role says what a signature over a transcript vouches for.
type Role string

const (
	RoleDevice Role = "device" // the request comes from this device
	RoleUV     Role = "uv"     // the person agreed to it
)

// Request is the plaintext of an envelope.
type Request struct {
	Body            []byte            `cbor:"1,keyasint"` // deterministic CBOR of Body: the bytes that are signed
	DeviceSignature []byte            `cbor:"2,keyasint"` // by the device key over the transcript of RoleDevice
	UV              *UserVerification `cbor:"3,keyasint,omitempty"`
}

// UserVerification proves that the person agreed: one of its members is set.
type UserVerification struct {
	Signature []byte             `cbor:"1,keyasint,omitempty"` // by the UV key over the transcript of RoleUV
	Platform  *PlatformAssertion `cbor:"2,keyasint,omitempty"` // its challenge is the transcript of RoleUV
}

// PlatformAssertion is a WebAuthn assertion of the platform authenticator.
type PlatformAssertion struct {
	CredentialID      []byte `cbor:"1,keyasint"`
	AuthenticatorData []byte `cbor:"2,keyasint"`
	ClientDataJSON    []byte `cbor:"3,keyasint"`
	Signature         []byte `cbor:"4,keyasint"`
}

// Body is what a device asks for. All commands succeed, or none has an effect.
type Body struct {
	Request     RequestID `cbor:"1,keyasint"`
	Device      DeviceID  `cbor:"2,keyasint"`
	Challenge   []byte    `cbor:"3,keyasint"`           // the enclave's time, at most 2 minutes old
	Number      uint64    `cbor:"4,keyasint,omitempty"` // of a changing request: the device's last plus one
	Epoch       uint64    `cbor:"5,keyasint,omitempty"` // of the vault secret
	VaultSecret []byte    `cbor:"6,keyasint,omitempty"`
	Login       *Login    `cbor:"7,keyasint,omitempty"`
	Commands    []Command `cbor:"8,keyasint"`
}

// Login is an OpenID Connect ID token whose nonce is [LoginNonce].
type Login struct {
	Token     string `cbor:"1,keyasint"`
	Challenge []byte `cbor:"2,keyasint"` // at most 10 minutes old
}

// LoginNonce is the OpenID Connect nonce of a login: base64url of
// H("login", device key, challenge).
func LoginNonce(deviceKey, challenge []byte) string {
	h := Hash("login", deviceKey, challenge)
	text, _ := Base64(h[:]).MarshalText()
	return string(text)
}

// MaxCommands is how many commands one request may carry.
const MaxCommands = 16

// ParseBody decodes and checks limits; the meaning is checked by the enclave.
func ParseBody(data []byte) (*Body, error) {
	var b Body
	if err := Unmarshal(data, &b); err != nil {
		return nil, err
	}
	if len(b.Commands) == 0 || len(b.Commands) > MaxCommands {
		return nil, Errorf(CodeMalformed, "%d commands", len(b.Commands))
	}
	return &b, nil
}

// TranscriptMessage is the deterministic CBOR of ["request", version, role, key
// ID, exporter value, account ID, device ID, request ID, challenge, body]. Keys
// that hash what they sign (WebCrypto) sign this; keys that sign a digest (TPMs)
// sign T(role), its SHA-256.
func TranscriptMessage(role Role, b Binding, body []byte) ([]byte, error) {
	p, err := ParseBody(body)
	if err != nil {
		return nil, err
	}
	return appendTranscript(nil, role, b, p, body), nil
}

func appendTranscript(to []byte, role Role, b Binding, p *Body, body []byte) []byte {
	return appendLabelled(to, "request", nil, []any{string(role), b.Key, b.Exporter, b.Account, p.Device, p.Request, p.Challenge, body})
}

// Transcript is T(role): the SHA-256 of [TranscriptMessage] for a body that was
// already parsed from its bytes.
func Transcript(role Role, b Binding, parsed *Body, body []byte) Digest {
	return sha256.Sum256(appendTranscript(make([]byte, 0, 1024), role, b, parsed, body))
}

// VerifySignature checks an ES256 signature in ASN.1 DER by an uncompressed P-256
// point over a digest.
func VerifySignature(point []byte, digest Digest, signature []byte) bool {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	return err == nil && ecdsa.VerifyASN1(key, digest[:], signature)
}

// Response is the plaintext of an answer.
type Response struct {
	Request   RequestID `cbor:"1,keyasint"`
	Challenge []byte    `cbor:"2,keyasint"`           // the newest
	Newest    Head      `cbor:"3,keyasint"`           // the newest entry of the account; zero where there is none
	Entries   [][]byte  `cbor:"4,keyasint,omitempty"` // entries after Header.Known, oldest first, at most MaxEntries
	Freshness string    `cbor:"5,keyasint"`           // how the newest entry is known to be the newest: FreshnessLocal
	Error     *Error    `cbor:"6,keyasint,omitempty"` // the request has no results; docs/protocol.md says which codes leave open whether it was done
	Results   [][]byte  `cbor:"7,keyasint,omitempty"` // deterministic CBOR, one for each command
	Repeated  *Outcome  `cbor:"8,keyasint,omitempty"` // instead of Results: this number was already done, with this outcome
}

const (
	// FreshnessLocal: the enclave remembers, since it started; before that, the devices do.
	FreshnessLocal = "local"
	// FreshnessEndorsed: a majority of attested endorsers said so over a nonce of this
	// very request's.
	FreshnessEndorsed = "endorsed"
	// FreshnessAzure: reads are fresh as far as TLS to an attested node of the Azure
	// Confidential Ledger goes: a node that was cut off could show an older end.
	FreshnessAzure = "azure"

	// MaxEntries is how many ledger entries one answer carries; the history command brings the others.
	MaxEntries = 256
)

// Outcome is what the head keeps of a device's last changing request.
type Outcome struct {
	Number  uint64     `cbor:"1,keyasint"`
	Handle  *Handle    `cbor:"2,keyasint,omitempty"`
	Version *VersionID `cbor:"3,keyasint,omitempty"`
}
