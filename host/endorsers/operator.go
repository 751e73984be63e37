package endorsers

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// Operator is who may found and change views.
type Operator struct {
	Key     ed25519.PrivateKey
	Release []byte // encoded endorser release that new members run
}

// ReadOperator reads the operator's key (PEM, PKCS#8, Ed25519) and the release.
func ReadOperator(key, release string) (*Operator, error) {
	k, err := ReadKey(key)
	if err != nil {
		return nil, err
	}
	r, err := os.ReadFile(release)
	if err != nil {
		return nil, err
	}
	return &Operator{k, r}, nil
}

// ReadKey reads an Ed25519 private key (PEM, PKCS#8).
func ReadKey(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(data)
	if b == nil || b.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: no PEM block %q", path, "PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an Ed25519 key", path)
	}
	return key, nil
}
