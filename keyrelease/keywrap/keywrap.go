// Package keywrap wraps a key for the holder of an RSA key, as HSMs do it
// (PKCS#11 v3.0, CKM_RSA_AES_KEY_WRAP): a fresh AES-256 key under RSA-OAEP,
// followed by the wanted key under AES key wrap with padding (RFC 5649).
//
// It owns these two encodings and keeps no state. It trusts neither ciphertext
// nor algorithm name. The encryption authenticates nobody: anyone who has the
// public key can wrap, so a caller must know from elsewhere who did.
package keywrap

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP hash of CKM_RSA_AES_KEY_WRAP
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
)

// ErrUnwrap is the one error for every ciphertext that does not open: nothing
// says whether RSA, the constant, the length or the padding was wrong.
var ErrUnwrap = errors.New("keywrap: the wrapped key does not open")

// ErrAlgorithm is returned for a name that is not one of the [Algorithm] constants.
var ErrAlgorithm = errors.New("keywrap: unknown wrapping algorithm")

// Algorithm is a value of "enc" in Azure's release request: the names differ in OAEP's hash alone.
type Algorithm string

const (
	RSAAESKeyWrap    Algorithm = "CKM_RSA_AES_KEY_WRAP" // SHA-1
	RSAAESKeyWrap256 Algorithm = "RSA_AES_KEY_WRAP_256" // SHA-256
	RSAAESKeyWrap384 Algorithm = "RSA_AES_KEY_WRAP_384" // SHA-384
)

// Hash returns the hash of OAEP and of its MGF1, or [ErrAlgorithm].
func (a Algorithm) Hash() (crypto.Hash, error) {
	switch a {
	case RSAAESKeyWrap:
		return crypto.SHA1, nil
	case RSAAESKeyWrap256:
		return crypto.SHA256, nil
	case RSAAESKeyWrap384:
		return crypto.SHA384, nil
	}
	return 0, ErrAlgorithm
}

// Wrap wraps key (1 to 16 kB) for pub. The error is [ErrAlgorithm], or that of
// an RSA key which crypto/rsa refuses (under 1024 bits, or an even modulus).
func Wrap(a Algorithm, pub *rsa.PublicKey, key []byte) ([]byte, error) {
	h, err := a.Hash()
	if err != nil {
		return nil, err
	}
	session := make([]byte, 32)
	rand.Read(session) // never fails
	defer clear(session)
	head, err := rsa.EncryptOAEP(h.New(), rand.Reader, pub, session, nil)
	if err != nil {
		return nil, err
	}
	return append(head, WrapPadded(session, key)...), nil
}

// Unwrap undoes [Wrap]. A failure is [ErrUnwrap] (or [ErrAlgorithm], which does
// not depend on the ciphertext): RSA-OAEP and the key wrap are told apart
// neither by the error nor, beyond what crypto/rsa gives, by time, because a
// failed RSA half is followed by an unwrap under a random key.
//
// It does not check what kind of key came out or who wrapped it.
func Unwrap(a Algorithm, priv *rsa.PrivateKey, ciphertext []byte) ([]byte, error) {
	h, err := a.Hash()
	if err != nil {
		return nil, err
	}
	size := priv.Size()
	if len(ciphertext) < size+16 {
		return nil, ErrUnwrap
	}
	substitute := make([]byte, 32)
	rand.Read(substitute)
	session, err := rsa.DecryptOAEP(h.New(), nil, priv, ciphertext[:size], nil)
	failed := err != nil || len(session) != 32
	if failed {
		session = substitute
	}
	defer clear(session)
	key, err := UnwrapPadded(session, ciphertext[size:])
	if failed || err != nil {
		clear(key)
		return nil, ErrUnwrap
	}
	return key, nil
}
