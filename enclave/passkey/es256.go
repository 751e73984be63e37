package passkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"

	"github.com/passclave/passclave/wire"
)

// ES256 is the COSE algorithm of ECDSA over P-256 with SHA-256 (RFC 9053).
const ES256 int64 = -7

const es256KeySize = 32

// supported reports whether this package signs with a COSE algorithm. A passkey of
// another algorithm keeps in Secret.Key what the algorithm's standard calls the
// private key in its shortest form: the seed of RFC 8032 or FIPS 204.
func supported(algorithm int64) bool { return algorithm == ES256 }

// newES256Key draws a private scalar by rejection (FIPS 186-5, A.2.2): the first 32
// bytes, read as a big-endian integer d, with 1 <= d < n. The second draw is needed
// once in 2^32.
func newES256Key(draw func(n int) []byte) []byte {
	for {
		key := draw(es256KeySize)
		if _, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), key); err == nil {
			return key
		}
	}
}

func (s *Secret) privateKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), s.Key)
	if err != nil {
		return nil, wire.Errorf(wire.CodeInternal, "passkey: not a P-256 scalar")
	}
	return key, nil
}

// sign returns ECDSA over SHA-256(authenticatorData ‖ clientDataHash) in ASN.1 DER.
// Both parts have a known place: authenticator data is 37 bytes here, the hash 32.
func (s *Secret) sign(authenticatorData []byte, clientDataHash wire.Digest) ([]byte, error) {
	key, err := s.privateKey()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write(authenticatorData)
	h.Write(clientDataHash[:])
	return ecdsa.SignASN1(rand.Reader, key, h.Sum(nil))
}

// es256PublicKey is a COSE_Key (RFC 9053, section 7.1.1). Its deterministic
// encoding is in CTAP2 canonical order too.
type es256PublicKey struct {
	KeyType   int64  `cbor:"1,keyasint"` // EC2
	Algorithm int64  `cbor:"3,keyasint"`
	Curve     int64  `cbor:"-1,keyasint"` // P-256
	X         []byte `cbor:"-2,keyasint"` // 32 bytes
	Y         []byte `cbor:"-3,keyasint"`
}

// publicKey returns the public half as an encoded COSE_Key, 77 bytes.
func (s *Secret) publicKey() ([]byte, error) {
	key, err := s.privateKey()
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes() // 0x04 ‖ X ‖ Y
	if err != nil {
		return nil, wire.NewError(wire.CodeInternal, err)
	}
	return wire.Marshal(es256PublicKey{KeyType: 2, Algorithm: ES256, Curve: 1, X: point[1:33], Y: point[33:]}), nil
}
