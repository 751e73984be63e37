package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// tokenAuthority issues tokens and reads them again. Its key is fresh in each
// process and known to nobody else.
type tokenAuthority struct {
	issuer string
	now    func() time.Time
	signer jose.Signer
	public *ecdsa.PublicKey
	jwk    jose.JSONWebKey
}

func newTokenAuthority(issuer string, now func() time.Time) (*tokenAuthority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: issuer},
		NotBefore:    now().Add(-time.Minute),
		NotAfter:     now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	id := randomHex()
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: id}},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("jku", issuer+"/certs"))
	if err != nil {
		return nil, err
	}
	return &tokenAuthority{
		issuer: issuer, now: now, signer: signer, public: &key.PublicKey,
		jwk: jose.JSONWebKey{Key: &key.PublicKey, KeyID: id, Algorithm: string(jose.ES256), Use: "sig", Certificates: []*x509.Certificate{certificate}},
	}, nil
}

func randomHex() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// issue signs claims, with issuer, times and ID of its own.
func (a *tokenAuthority) issue(c platformClaims) (string, error) {
	now := a.now()
	c.Issuer, c.ID, c.Version = a.issuer, randomHex(), "1.0"
	c.IssuedAt, c.NotBefore, c.Expires = now.Unix(), now.Unix(), now.Add(tokenLifetime).Unix()
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	jws, err := a.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

var (
	errTokenSignature = errors.New("not signed by ES256 under this broker's token key")
	errTokenIssuer    = errors.New("another issuer")
	errTokenTime      = errors.New("expired, or not yet valid")
	errTokenClaims    = errors.New("claims are not what this broker issues")
	errTokenKeys      = errors.New("the runtime data does not hold exactly one RSA key for release")
)

// token is what a verified token says.
type token struct {
	id     string
	issuer string
	claims releasepolicy.Claims
	rsa    *rsa.PublicKey // the only key that anything is wrapped to
}

// read verifies a token: ES256 under this process's key whatever its header
// names (kid, jku, jwk, x5c), this issuer, within its time, purpose "release" and
// exactly one RSA key in its runtime data.
//
// It does not check whether the token was used before: a replayed one gets the
// same key wrapped to the same RSA key.
func (a *tokenAuthority) read(compact string) (*token, error) {
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, errTokenSignature
	}
	payload, err := jws.Verify(a.public)
	if err != nil {
		return nil, errTokenSignature
	}
	var c tokenClaims
	if azure.Decode(payload, &c) != nil {
		return nil, errTokenClaims
	}
	claims, err := releasepolicy.ParseClaims(payload)
	if err != nil {
		return nil, errTokenClaims
	}
	now := a.now().Unix()
	switch {
	case c.Issuer != a.issuer:
		return nil, errTokenIssuer
	case now < c.NotBefore || now >= c.Expires:
		return nil, errTokenTime
	}
	public, err := releaseKey(c.Runtime)
	if err != nil {
		return nil, err
	}
	return &token{id: c.ID, issuer: c.Issuer, claims: claims, rsa: public}, nil
}

// releaseKey returns the one RSA key of runtime data of purpose "release", of 2048
// bits to the 4096 that go-jose reads at most.
func releaseKey(runtime []byte) (*rsa.PublicKey, error) {
	var r struct {
		Purpose string            `json:"purpose"`
		Keys    []jose.JSONWebKey `json:"keys"`
	}
	if azure.Decode(runtime, &r) != nil || r.Purpose != attestation.PurposeRelease || len(r.Keys) != 1 {
		return nil, errTokenKeys
	}
	k, ok := r.Keys[0].Key.(*rsa.PublicKey)
	if !ok || k.N.BitLen() < 2048 || k.N.Bit(0) == 0 || k.E != 65537 {
		return nil, errTokenKeys
	}
	return k, nil
}

func (b *Broker) openID(*request) (any, error) {
	return map[string]any{
		"issuer":                                b.url,
		"jwks_uri":                              b.url + "/certs",
		"response_types_supported":              []string{"token"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
	}, nil
}

func (b *Broker) certs(*request) (any, error) {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{b.tokens.jwk}}, nil
}

// badToken is the answer to a token that does not verify.
func badToken(err error) error {
	return refuse(http.StatusUnauthorized, "Unauthorized", "the attestation token in target is not valid: "+err.Error()).because(err)
}
