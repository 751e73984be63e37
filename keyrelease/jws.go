package keyrelease

import (
	"crypto/subtle"
	"crypto/x509"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keywrap"
)

// expected is what the answer to one release request must say.
type expected struct {
	host  string // of the vault, without port
	roots *x509.CertPool
	now   time.Time

	kid   string // full URL of the wanted version, canonical
	enc   keywrap.Algorithm
	nonce string
}

// openJWS verifies the answer to a release and returns its payload: a compact
// JWS, signed by RS256 or PS256 under the first certificate of its x5c header,
// which chains to the roots, may authenticate a TLS server and names the vault's
// host; made for this version, this wrapping and, where it is repeated, this
// nonce. Headers other than alg and x5c (jku, jwk, kid) decide nothing.
//
// It does not check the wrapped key, nor revocation of certificates. An answer
// without a nonce is taken, as not every vault repeats it: an old answer can only
// hold what was released to the same RSA key.
func openJWS(value string, want expected) (*azure.ReleasedKey, *Error) {
	jws, err := jose.ParseSignedCompact(value, []jose.SignatureAlgorithm{jose.RS256, jose.PS256})
	if err != nil || len(jws.Signatures) != 1 {
		return nil, refuse(ReasonSignature, "not a compact JWS by RS256 or PS256 with usable headers")
	}
	chains, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{
		DNSName:     want.host,
		Roots:       want.roots,
		CurrentTime: want.now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, &Error{Reason: ReasonCertificate, cause: err, Next: "that key_service.vault and key_service.roots name the vault that answers"}
	}
	payload, err := jws.Verify(chains[0][0].PublicKey)
	if err != nil {
		return nil, refuse(ReasonSignature, "the signature does not verify")
	}
	return readPayload(payload, want)
}

// readPayload reads the payload of a JWS that verified and compares what it says
// of the request.
func readPayload(payload []byte, want expected) (*azure.ReleasedKey, *Error) {
	var k azure.ReleasedKey
	if err := azure.Decode(payload, &k); err != nil {
		return nil, &Error{Reason: ReasonAnswer, cause: err}
	}
	switch {
	case canonical(k.Request.KID) != want.kid || canonical(k.Response.Key.Key.KID) != want.kid:
		return nil, refuse(ReasonVersion, "the answer holds another key or version than was asked for")
	case k.Request.Enc != string(want.enc):
		return nil, refuse(ReasonAnswer, "the answer was wrapped by another algorithm than was asked for")
	case k.Request.Nonce != "" && subtle.ConstantTimeCompare([]byte(k.Request.Nonce), []byte(want.nonce)) != 1:
		return nil, refuse(ReasonNonce, "the answer repeats another nonce")
	}
	return &k, nil
}
