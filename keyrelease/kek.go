package keyrelease

import (
	"crypto/rsa"
	"crypto/x509"
	"log/slog"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/wire"
)

// KEK is one version of the service's key-encryption key.
type KEK struct {
	Version string // last part of the version's URL
	Created uint64 // seconds since 1970
	Key     []byte `json:"-"` // 32 bytes; the caller erases it
}

// String keeps the key out of logs, also under %v and %+v.
func (k KEK) String() string { return "KEK " + k.Version }

// GoString does so for %#v.
func (k KEK) GoString() string { return k.String() }

// LogValue does so for log/slog.
func (k KEK) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Kinds of keys, as the JWK's kty has them.
const (
	keyTypeOct    = "oct"
	keyTypeOctHSM = "oct-HSM"
	keyTypeRSA    = "RSA"
	keyTypeRSAHSM = "RSA-HSM"
)

// unwrap opens the key of a verified answer.
//
// A KEK of kty oct-HSM or oct is the 32 bytes themselves. One of kty RSA-HSM or
// RSA, for vaults that cannot release symmetric keys, is
// Derive(PKCS#8, "kek from rsa", name): HKDF-SHA256 over the private key as
// crypto/x509 encodes it again, so that the HSM's choice of encoding does not
// matter. Other kinds are refused.
func unwrap(k *azure.ReleasedKey, name string, enc keywrap.Algorithm, priv *rsa.PrivateKey) ([]byte, *Error) {
	var hsm azure.KeyHSM
	if err := azure.Decode(k.Response.Key.Key.KeyHSM, &hsm); err != nil {
		return nil, &Error{Reason: ReasonAnswer, cause: err}
	}
	key, err := keywrap.Unwrap(enc, priv, hsm.Ciphertext)
	if err != nil {
		return nil, &Error{Reason: ReasonUnwrap, cause: err}
	}
	switch k.Response.Key.Key.Kty {
	case keyTypeOct, keyTypeOctHSM:
		if len(key) != 32 {
			clear(key)
			return nil, refuse(ReasonKeyType, "a symmetric KEK must have 256 bits")
		}
		return key, nil
	case keyTypeRSA, keyTypeRSAHSM:
		defer clear(key)
		parsed, err := x509.ParsePKCS8PrivateKey(key)
		if err != nil {
			return nil, refuse(ReasonKeyType, "not a PKCS#8 key") // the parser's words stay here
		}
		private, ok := parsed.(*rsa.PrivateKey)
		if !ok || private.N.BitLen() < 2048 {
			return nil, refuse(ReasonKeyType, "not an RSA key of 2048 bits or more")
		}
		again, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, refuse(ReasonKeyType, "not a PKCS#8 key")
		}
		defer clear(again)
		return wire.Derive(again, "kek from rsa", name), nil
	}
	clear(key)
	return nil, refuse(ReasonKeyType, "a KEK must be oct-HSM or RSA-HSM, not %.20q", k.Response.Key.Key.Kty)
}
