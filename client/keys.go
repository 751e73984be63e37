package client

import (
	"context"
	"crypto/hpke"

	"github.com/passclave/passclave/wire"
)

// DeviceKey is the P-256 key that signs every request of a device.
type DeviceKey interface {
	// Public returns the uncompressed point, 65 bytes.
	Public() []byte
	// Sign returns the ES256 signature over message, in ASN.1 DER: over its
	// SHA-256 for keys that sign digests. message is not secret.
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// EncryptionKey is the HPKE key that a device's vault secrets are sealed to. Its
// KEM is [wire.DeviceKEM]; crypto/hpke's NewHybridPrivateKey makes one of an ML-KEM
// key in software and an [ecdh.KeyExchanger] in hardware.
type EncryptionKey = hpke.PrivateKey

// UserVerifier proves that the person agreed, once for each call of Verify.
type UserVerifier interface {
	// Credential is what enrol and join register: one of both is set.
	Credential() (uvKey []byte, platform *wire.PlatformCredential)
	// Verify signs message, a [wire.TranscriptMessage] of [wire.RoleUV], or a
	// [wire.UVPossessionMessage] where it is to take the place of another verifier: a UV
	// key as [DeviceKey] does, a platform authenticator with SHA-256(message) as its challenge.
	Verify(ctx context.Context, message []byte) (*wire.UserVerification, error)
}

// CodeRequest says what a local code is wanted for.
type CodeRequest struct {
	New bool // a code for a new software UV key, one that [CheckCode] takes: ask twice
}

// CodeFunc asks the person for the local code of the software UV key.
type CodeFunc func(ctx context.Context, r CodeRequest) (string, error)

// LoginRequest is what an OpenID Connect login needs.
type LoginRequest struct {
	Issuer   wire.Issuer // as the measured configuration has it, with its TLS roots
	ClientID string
	Nonce    string           // goes into the authorization request and comes back in the ID token
	Fresh    bool             // the person must authenticate now: prompt=login, max_age=0
	For      wire.CommandName // what the login is wanted for, to tell the person
}

// LoginFunc logs the person in and returns the ID token.
type LoginFunc func(ctx context.Context, r LoginRequest) (idToken string, err error)
