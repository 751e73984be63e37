package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxDID bounds the text of a did:x509.
const maxDID = 1 << 10

// didX509 is an issuer as UVM endorsements name it (did:x509 method specification,
// version 0, of microsoft/did-x509):
//
//	did:x509:0:sha256:<base64url of a CA certificate's hash>::eku:<OID>
//
// Other hashes and policies (subject, san, fulcio-issuer) are not supported.
type didX509 struct {
	fingerprint [sha256.Size]byte
	usages      []asn1.ObjectIdentifier // all of them are demanded; at least one
}

func parseDIDX509(s string) (*didX509, error) {
	if len(s) > maxDID {
		return nil, fmt.Errorf("an issuer of more than %d bytes", maxDID)
	}
	parts := strings.Split(s, "::")
	encoded, ok := strings.CutPrefix(parts[0], "did:x509:0:sha256:")
	if !ok {
		return nil, errors.New("the issuer is no did:x509 of version 0 with sha256")
	}
	d := &didX509{}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) != len(d.fingerprint) || len(encoded) != base64.RawURLEncoding.EncodedLen(len(raw)) {
		return nil, errors.New("the issuer's fingerprint is not a SHA-256 in base64url")
	}
	copy(d.fingerprint[:], raw)
	for _, policy := range parts[1:] {
		value, ok := strings.CutPrefix(policy, "eku:")
		if !ok {
			return nil, errors.New("the issuer has a policy other than eku")
		}
		id, err := parseOID(value)
		if err != nil {
			return nil, err
		}
		d.usages = append(d.usages, id)
	}
	if len(d.usages) == 0 {
		return nil, errors.New("the issuer has no policy: it would be whoever has a certificate of that CA")
	}
	return d, nil
}

// parseOID reads an OID in its one decimal form.
func parseOID(s string) (id asn1.ObjectIdentifier, err error) {
	for _, arc := range strings.Split(s, ".") {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil {
			return nil, errors.New("the issuer's eku is no OID")
		}
		id = append(id, int(n))
	}
	if len(id) < 2 || id.String() != s {
		return nil, errors.New("the issuer's eku is no OID")
	}
	return id, nil
}

// resolve checks that the chain, leaf first, is one of the issuer's: a CA certificate
// in it has the fingerprint, and the leaf has every extended key usage. The caller has
// checked that each certificate is signed by the next: only then does the leaf descend
// from the CA.
func (d *didX509) resolve(chain []*x509.Certificate) error {
	found := false
	for _, c := range chain[1:] {
		h := sha256.Sum256(c.Raw)
		found = found || bytes.Equal(h[:], d.fingerprint[:])
	}
	if !found {
		return errors.New("no CA certificate has the issuer's fingerprint")
	}
	for _, want := range d.usages {
		if !hasUsage(chain[0], want) {
			return fmt.Errorf("the leaf lacks the issuer's eku %s", want)
		}
	}
	if chain[0].KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the leaf's key is not for signatures")
	}
	return nil
}

// hasUsage reports whether a certificate names the extended key usage: by itself, not
// by "any".
func hasUsage(c *x509.Certificate, want asn1.ObjectIdentifier) bool {
	for _, have := range c.UnknownExtKeyUsage {
		if have.Equal(want) {
			return true
		}
	}
	return false // Go knows the usages of TLS, mail and code: none of them is an issuer's here
}
