package intel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// ErrState says that bytes are not the keys of hardware of this package.
var ErrState = errors.New("simulated Intel hardware: the state is damaged")

// Encode writes the certificate and the PKCS #8 key of each role, in PEM. Whoever has
// them can make any evidence under this root.
func (h *Hardware) Encode() ([]byte, error) {
	var out bytes.Buffer
	for _, c := range h.certified {
		key, err := x509.MarshalPKCS8PrivateKey(c.key)
		if err != nil {
			return nil, err
		}
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.certificate.Raw})
		pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: key})
	}
	return out.Bytes(), nil
}

// Decode reads what [Hardware.Encode] wrote. Errors are [ErrState] and say nothing of
// the content.
func Decode(state []byte) (*Hardware, error) {
	var h Hardware
	for role := range roles {
		c, rest, ok := decodePair(state)
		if !ok {
			return nil, ErrState
		}
		h.certified[role], state = c, rest
	}
	platform, err := platformOf(h.Certificate(PCK))
	if err != nil || len(state) != 0 {
		return nil, ErrState
	}
	h.platform = platform
	return &h, h.start()
}

// decodePair returns the first certificate of state with its private key, and what
// follows them.
func decodePair(state []byte) (c certified, rest []byte, ok bool) {
	first, rest := pem.Decode(state)
	if first == nil {
		return c, nil, false
	}
	second, rest := pem.Decode(rest)
	if second == nil {
		return c, nil, false
	}
	certificate, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return c, nil, false
	}
	key, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return c, nil, false
	}
	private, ok := key.(*ecdsa.PrivateKey)
	return certified{certificate, private}, rest, ok && private.PublicKey.Equal(certificate.PublicKey)
}
