package enclave

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/passclave/passclave/wire"
)

var platformUV = wire.PlatformUserVerification{RPID: "passclave.example", Origins: []string{"https://passclave.example"}}

// authenticator is the platform authenticator of a device.
type authenticator struct {
	key        *ecdsa.PrivateKey
	credential wire.PlatformCredential
}

func newAuthenticator() *authenticator {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p := point(key)
	type cose struct {
		KeyType   int64  `cbor:"1,keyasint"`
		Algorithm int64  `cbor:"3,keyasint"`
		Curve     int64  `cbor:"-1,keyasint"`
		X         []byte `cbor:"-2,keyasint"`
		Y         []byte `cbor:"-3,keyasint"`
	}
	return &authenticator{key, wire.PlatformCredential{
		ID: random(16), PublicKey: wire.Marshal(cose{KeyType: 2, Algorithm: -7, Curve: 1, X: p[1:33], Y: p[33:]}),
	}}
}

// assert signs with user presence and verification.
func (a *authenticator) assert(challenge wire.Digest) *wire.PlatformAssertion {
	client := must(json.Marshal(map[string]any{
		"type": "webauthn.get", "challenge": base64.RawURLEncoding.EncodeToString(challenge[:]),
		"origin": platformUV.Origins[0], "crossOrigin": false,
	}))
	rp, hash := sha256.Sum256([]byte(platformUV.RPID)), sha256.Sum256(client)
	data := slices.Concat(rp[:], []byte{0x05, 0, 0, 0, 0})
	return &wire.PlatformAssertion{
		CredentialID: a.credential.ID, AuthenticatorData: data, ClientDataJSON: client,
		Signature: sign(a.key, slices.Concat(data, hash[:])),
	}
}
