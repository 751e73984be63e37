// Package passkey is the authenticator: it makes passkeys and signs with them, as
// WebAuthn Level 3, section 6 asks. It is pure computation over [Secret]; it reads
// no clock and keeps no state, and its only effect is to draw from crypto/rand.
//
// The package owns what a passkey's secret part is and the bytes that a relying
// party verifies: COSE key, authenticator data, attestation object, signature, and
// the outputs of the prf extension. Every passkey is discoverable, backup eligible
// and backed up (BE=1, BS=1), has signCount 0, attestation "none" and [AAGUID].
//
// It trusts its caller for two things. A caller passes userVerified only if user
// verification was proven in the same request: here it becomes the UV flag and
// chooses the PRF secret. And the caller has checked that the [Secret] is the one
// that the account head lists. Everything that decides what a passkey may do stands
// in the Secret, which a device cannot write: the metadata is sealed under a key
// that devices hold, so nothing here believes it.
//
// The client hashes: clientDataHash is SHA-256 of clientDataJSON, and PRF inputs
// arrive as SHA-256("WebAuthn PRF" ‖ 0x00 ‖ input). That the RP ID fits the origin
// is the client's check too; the enclave sees no origin.
package passkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"

	"github.com/passclave/passclave/wire"
)

// AAGUID names Passclave as the make of the authenticator:
// bab60fe8-c145-4ada-9456-e77d3016b260, drawn at random for the project. It tells
// a relying party what to call the passkey and, without attestation, proves nothing.
var AAGUID = [16]byte{0xba, 0xb6, 0x0f, 0xe8, 0xc1, 0x45, 0x4a, 0xda, 0x94, 0x56, 0xe7, 0x7d, 0x30, 0x16, 0xb2, 0x60}

// CredentialIDSize is the length of a new credential ID in bytes. It is random and
// carries nothing: not even the handle of its record, which the host sees.
const CredentialIDSize = 32

// prfSecretSize is the length of CredRandom in bytes (CTAP 2.2, section 12.5).
const prfSecretSize = 32

// Secret is the secret part of a passkey: what is sealed under the vault key. Its
// form is deterministic CBOR.
type Secret struct {
	Algorithm    int64       `cbor:"1,keyasint"`           // COSE: [ES256]
	Key          []byte      `cbor:"2,keyasint"`           // ES256: the private scalar, 32 bytes big-endian
	PRFWithUV    []byte      `cbor:"3,keyasint"`           // CredRandomWithUV, 32 bytes
	PRFWithoutUV []byte      `cbor:"4,keyasint"`           // CredRandomWithoutUV, 32 bytes
	RPIDHash     wire.Digest `cbor:"5,keyasint"`           // SHA-256 of the RP ID: the passkey signs for no other
	NoUVNeeded   bool        `cbor:"6,keyasint,omitempty"` // may be used without user verification
	LargeBlob    []byte      `cbor:"8,keyasint,omitempty"` // at most wire.MaxBlob bytes; 7 is left for credProtect
}

// New makes the passkey that c asks for, with the first of c.Algorithms that this
// package signs with. The refusal is [wire.CodeArgument] around an [ArgumentError].
//
// It does not check c.Exclude, which only the account's list of records can
// answer, nor user verification.
func New(c *wire.Create) (*Secret, *wire.Metadata, error) {
	if err := checkArguments(c); err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(c.Algorithms, supported)
	if i < 0 {
		return nil, nil, refuse("algorithms", "none that this authenticator has")
	}
	s := &Secret{
		Algorithm:    c.Algorithms[i],
		Key:          newES256Key(random),
		PRFWithUV:    random(prfSecretSize),
		PRFWithoutUV: random(prfSecretSize),
		RPIDHash:     sha256.Sum256([]byte(c.RPID)),
		NoUVNeeded:   c.NoUVNeeded,
	}
	public, err := s.publicKey()
	if err != nil {
		return nil, nil, err
	}
	return s, &wire.Metadata{
		CredentialID: random(CredentialIDSize),
		PublicKey:    public,
		Algorithm:    s.Algorithm,
		RPID:         c.RPID,
		RPName:       c.RPName,
		UserHandle:   c.UserHandle,
		UserName:     c.UserName,
		DisplayName:  c.DisplayName,
		Created:      c.Created,
		NoUVNeeded:   c.NoUVNeeded,
	}, nil
}

// ParseSecret decodes a secret part and checks the size of each member. It does
// not check that the key is a valid one: signing does.
func ParseSecret(data []byte) (*Secret, error) {
	var s Secret
	if err := wire.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	switch {
	case !supported(s.Algorithm):
		return nil, wire.Errorf(wire.CodeMalformed, "passkey: algorithm %d", s.Algorithm)
	case len(s.Key) != es256KeySize:
		return nil, wire.Errorf(wire.CodeMalformed, "passkey: key of %d bytes", len(s.Key))
	case len(s.PRFWithUV) != prfSecretSize || len(s.PRFWithoutUV) != prfSecretSize:
		return nil, wire.Errorf(wire.CodeMalformed, "passkey: PRF secret of a wrong size")
	case len(s.LargeBlob) > wire.MaxBlob:
		return nil, wire.Errorf(wire.CodeMalformed, "passkey: large blob of %d bytes", len(s.LargeBlob))
	}
	return &s, nil
}

// Encode returns what [ParseSecret] reads. The caller seals it.
func (s *Secret) Encode() []byte { return wire.Marshal(s) }

// An Assertion is what a relying party verifies (WebAuthn L3, section 7.2).
type Assertion struct {
	AuthenticatorData []byte
	Signature         []byte // ASN.1 DER for ES256 (WebAuthn L3, section 6.5.5)
}

// Assert signs authenticatorData ‖ clientDataHash. It refuses an RP ID other than
// the one that the passkey was made for with [wire.CodeArgument] around an
// [ArgumentError], and a missing user verification with [wire.CodeUVRequired]
// unless the passkey was made as "no UV needed".
func (s *Secret) Assert(rpID string, clientDataHash wire.Digest, userVerified bool) (*Assertion, error) {
	if sha256.Sum256([]byte(rpID)) != s.RPIDHash {
		return nil, refuse("rp_id", "not the one that the passkey was made for")
	}
	if err := s.mayUse(userVerified); err != nil {
		return nil, err
	}
	data := s.authenticatorData(userVerified, nil, nil)
	signature, err := s.sign(data, clientDataHash)
	if err != nil {
		return nil, err
	}
	return &Assertion{AuthenticatorData: data, Signature: signature}, nil
}

// EvaluatePRF evaluates the prf extension: HMAC-SHA-256 of each input under the
// PRF secret that belongs to userVerified (CTAP 2.2, section 12.5; WebAuthn L3,
// section 10.1.4). Without user verification it refuses as [Secret.Assert] does.
func (s *Secret) EvaluatePRF(in wire.PRF, userVerified bool) (*wire.PRFResult, error) {
	if err := s.mayUse(userVerified); err != nil {
		return nil, err
	}
	key := s.PRFWithoutUV
	if userVerified {
		key = s.PRFWithUV
	}
	out := &wire.PRFResult{First: hmacSHA256(key, in.First)}
	if in.Second != nil {
		out.Second = hmacSHA256(key, *in.Second)
	}
	return out, nil
}

// ReadLargeBlob returns the large blob, nil where there is none. Without user
// verification it refuses as [Secret.Assert] does.
func (s *Secret) ReadLargeBlob(userVerified bool) ([]byte, error) {
	if err := s.mayUse(userVerified); err != nil {
		return nil, err
	}
	return s.LargeBlob, nil
}

// SetLargeBlob replaces the large blob; an empty one deletes it. More than
// [wire.MaxBlob] bytes are refused with [wire.CodeLimit], and a missing user
// verification as [Secret.Assert] does.
func (s *Secret) SetLargeBlob(blob []byte, userVerified bool) error {
	if err := s.mayUse(userVerified); err != nil {
		return err
	}
	if len(blob) > wire.MaxBlob {
		return wire.Errorf(wire.CodeLimit, "large blob of %d bytes", len(blob))
	}
	s.LargeBlob = slices.Clone(blob)
	return nil
}

func (s *Secret) mayUse(userVerified bool) error {
	if !userVerified && !s.NoUVNeeded {
		return wire.Errorf(wire.CodeUVRequired, "the passkey needs user verification")
	}
	return nil
}

func hmacSHA256(key []byte, in wire.Digest) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(in[:])
	return h.Sum(nil)
}

// random returns n bytes from crypto/rand, which never fails.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
