package endorsers

import (
	"crypto/ed25519"
	"os"

	"github.com/passclave/passclave/statefile"
)

// Operator is who may found and change views.
type Operator struct {
	Key     ed25519.PrivateKey
	Release []byte // encoded endorser release that new members run
}

// ReadOperator reads the operator's key (PEM, PKCS#8, Ed25519) and the release.
func ReadOperator(key, release string) (*Operator, error) {
	k, err := statefile.ReadKey(key)
	if err != nil {
		return nil, err
	}
	r, err := os.ReadFile(release)
	if err != nil {
		return nil, err
	}
	return &Operator{k, r}, nil
}
