package broker

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// releaseSigner signs the answers of the vault, as whoever holds its certificate.
type releaseSigner struct{ jose.Signer }

func newReleaseSigner(c tls.Certificate, host string) (*releaseSigner, error) {
	if len(c.Certificate) == 0 {
		return nil, errors.New("broker: no certificate")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("broker: certificate: %w", err)
	}
	if err := leaf.VerifyHostname(host); err != nil {
		return nil, fmt.Errorf("broker: certificate: %w", err)
	}
	key, ok := c.PrivateKey.(*rsa.PrivateKey)
	if !ok || key.N.BitLen() < 2048 {
		return nil, errors.New("broker: the certificate must have an RSA key of 2048 bits or more: released keys are signed by RS256")
	}
	chain := make([]string, len(c.Certificate))
	for i, der := range c.Certificate {
		chain[i] = base64.StdEncoding.EncodeToString(der)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("x5c", chain))
	return &releaseSigner{s}, err
}

func (b *Broker) kid(name, version string) string {
	return b.url + "/keys/" + name + "/" + version
}

func attributes(v keystore.Version) azure.Attributes {
	return azure.Attributes{Enabled: v.Enabled, Created: v.Created, Updated: v.Created, Exportable: true}
}

func notFound() error {
	return refuse(http.StatusNotFound, "KeyNotFound", "no such key or version")
}

// versions lists the versions of a key, all on one page.
func (b *Broker) versions(r *request) (any, error) {
	if _, err := r.apiVersion(); err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	versions, err := b.store.Versions(r.Context(), name)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, notFound()
	}
	if err != nil {
		return nil, err
	}
	list := azure.KeyList{Value: []azure.KeyItem{}}
	for _, v := range versions {
		list.Value = append(list.Value, azure.KeyItem{KID: b.kid(name, v.ID), Attributes: attributes(v)})
	}
	return list, nil
}

// release is the one place where a key leaves: token, version, policy, wrap, in this
// order, and the record of it before the answer ([Broker.handle]).
func (b *Broker) release(r *request) (any, error) {
	apiVersion, err := r.apiVersion()
	if err != nil {
		return nil, err
	}
	if r.ContentLength == 0 && r.Header.Get("Authorization") == "" {
		return nil, refuse(http.StatusUnauthorized, "Unauthorized", "no body and no access token: Azure's SDK begins so")
	}
	var ask azure.ReleaseRequest
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	if len(ask.Nonce) > maxNonce {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "the nonce is too long")
	}
	enc := keywrap.Algorithm(ask.Enc)
	if enc == "" {
		enc = keywrap.RSAAESKeyWrap // Azure's default
	}
	if _, err := enc.Hash(); err != nil {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "enc is not a known wrapping algorithm")
	}
	name := r.PathValue("name")
	r.record = &audit.Record{Kind: audit.KindRelease, Key: name, Version: r.PathValue("version")}
	token, err := b.tokens.read(ask.Target)
	if err != nil {
		return nil, badToken(err)
	}
	if r.record.Evidence, err = evidenceOf(token); err != nil {
		return nil, err
	}
	version, err := b.version(r, name, r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	r.log = r.log.With("key", name, "version", version.ID, "token", token.id)
	r.record.Policy = policyHash(version.Policy)
	if err := b.decide(r, version, token); err != nil {
		return nil, err
	}
	ciphertext, err := b.store.Wrap(r.Context(), name, version.ID, enc, token.rsa)
	switch {
	case errors.Is(err, keystore.ErrDisabled):
		return nil, disabled()
	case errors.Is(err, keywrap.ErrAlgorithm):
		return nil, refuse(http.StatusBadRequest, azure.CodeEnc, "the HSM cannot wrap by "+ask.Enc+"; ask for "+string(keywrap.RSAAESKeyWrap)).because(err)
	case err != nil:
		return nil, err
	}
	value, err := b.seal(name, version, azure.ReleasedRequest{APIVersion: apiVersion, Enc: string(enc), Nonce: ask.Nonce}, ciphertext)
	if err != nil {
		return nil, err
	}
	r.log.Info("released")
	return azure.ReleaseResponse{Value: value}, nil
}

func disabled() error {
	return refuse(http.StatusForbidden, "KeyDisabled", "the key version is disabled")
}

func (b *Broker) version(r *request, name, id string) (keystore.Version, error) {
	versions, err := b.store.Versions(r.Context(), name)
	if err != nil && !errors.Is(err, keystore.ErrNotFound) {
		return keystore.Version{}, err
	}
	for _, v := range versions {
		if v.ID == id {
			if !v.Enabled {
				return v, disabled()
			}
			return v, nil
		}
	}
	return keystore.Version{}, notFound()
}

// decide asks the version's policy, by [Judge].
func (b *Broker) decide(r *request, v keystore.Version, t *token) error {
	policy, err := releasepolicy.Parse(v.Policy)
	if err != nil {
		return err
	}
	verdict := Judge(policy, t.issuer, t.claims)
	r.record.Clauses = verdict.Clauses()
	if verdict.Released {
		return nil
	}
	r.log.Warn("release policy refuses", "decision", verdict.Decision, "open", verdict.Open)
	return refuse(http.StatusForbidden, "Forbidden", "the release policy refuses: "+strings.Join(r.record.Clauses, "; "))
}

// seal makes the signed answer.
func (b *Broker) seal(name string, v keystore.Version, ask azure.ReleasedRequest, ciphertext []byte) (string, error) {
	ask.KID = b.kid(name, v.ID)
	hsm, err := json.Marshal(azure.KeyHSM{
		SchemaVersion: "1.0",
		Header:        azure.KeyHSMHeader{KID: "TokenKey", Alg: "dir", Enc: ask.Enc},
		Ciphertext:    ciphertext,
	})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(azure.ReleasedKey{
		Request: ask,
		Response: azure.ReleasedResponse{Key: azure.ReleasedBundle{
			Attributes:    attributes(v),
			Key:           azure.ReleasedJWK{KID: ask.KID, Kty: v.Kty, KeyOps: []string{"wrapKey", "unwrapKey"}, KeyHSM: hsm},
			ReleasePolicy: &azure.ReleasePolicy{ContentType: azure.PolicyContentType, Data: v.Policy},
		}},
	})
	if err != nil {
		return "", err
	}
	jws, err := b.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}
