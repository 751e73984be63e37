package operator

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/passclave/passclave/wire"
)

// Headers of a signed request, all base64url.
const (
	KeyHeader       = "Passclave-Operator"  // public key
	ChallengeHeader = "Passclave-Challenge" // as GET /admin/challenge gave it
	SignatureHeader = "Passclave-Signature" // Ed25519 over H("operator request", …)
)

// message is what an operator signs: H("operator request", broker's URL, method, path with
// query, SHA-256 of the body, challenge).
func message(broker, method, path string, body, challenge []byte) []byte {
	sum := sha256.Sum256(body)
	h := wire.Hash("operator request", broker, method, path, sum[:], challenge)
	return h[:]
}

// Sign signs a request to the broker with this URL.
func Sign(r *http.Request, broker string, body, challenge []byte, key ed25519.PrivateKey) {
	signature := ed25519.Sign(key, message(broker, r.Method, r.URL.RequestURI(), body, challenge))
	for name, value := range map[string][]byte{KeyHeader: key.Public().(ed25519.PublicKey), ChallengeHeader: challenge, SignatureHeader: signature} {
		r.Header.Set(name, base64.RawURLEncoding.EncodeToString(value))
	}
}

var (
	// ErrUnknown is returned for a request that no known operator signed.
	ErrUnknown = errors.New("no operator whom the broker knows has signed it")
	// ErrSignature is returned for a request in an operator's name that he did not sign: for
	// this broker, path, body and challenge.
	ErrSignature = errors.New("not signed by the operator for this broker, path, body and challenge")
)

// Verify returns who signed a request that came to the broker with this URL, and the
// challenge that he signed over. It does not check the challenge.
func Verify(r *http.Request, broker string, body []byte, operators []Operator) (*Operator, []byte, error) {
	read := func(name string) []byte {
		b, err := base64.RawURLEncoding.Strict().DecodeString(r.Header.Get(name))
		if err != nil || len(r.Header.Values(name)) != 1 {
			return nil
		}
		return b
	}
	key, challenge := read(KeyHeader), read(ChallengeHeader)
	for i, o := range operators {
		if len(key) != ed25519.PublicKeySize || string(o.Key) != string(key) {
			continue
		}
		if !ed25519.Verify(key, message(broker, r.Method, r.URL.RequestURI(), body, challenge), read(SignatureHeader)) {
			return nil, nil, ErrSignature
		}
		return &operators[i], challenge, nil
	}
	return nil, nil, ErrUnknown
}
