package keyrelease

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// WebRoots returns the roots of the web's certificates that are compiled in (Mozilla's),
// whatever the machine and its environment say.
func WebRoots() (*x509.CertPool, error) { return pool("") }

// pool returns the certificates of a PEM text or, where it is empty, the roots
// compiled in (Mozilla's). A block that is not a certificate and text after the
// last one are errors, so that a mistyped file does not end as a shorter list.
func pool(text string) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if text == "" {
		for r := range bundle.Roots() {
			c, err := x509.ParseCertificate(r.Certificate)
			if err != nil {
				return nil, err
			}
			if r.Constraint == nil {
				p.AddCert(c)
			} else {
				p.AddCertWithConstraint(c, r.Constraint)
			}
		}
		return p, nil
	}
	rest := []byte(text)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("roots must hold PEM certificates and nothing else")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		p.AddCert(c)
	}
	return p, nil
}
