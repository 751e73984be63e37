package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/statefile"
)

const keyFile = "issuer-key.json"

// LoadKey returns the P-256 signing key kept in the folder as a private JWK, and
// makes one at the first start. A file that is there but is no such key is an
// error: a new key in its place would end every login for no reason that anyone sees.
func LoadKey(folder string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(folder, keyFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(path)
	}
	if err != nil {
		return nil, err
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("%s: not a JSON Web Key", path)
	}
	key, ok := k.Key.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: not a private P-256 key", path)
	}
	return key, nil
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	data, err := jose.JSONWebKey{Key: key, Algorithm: string(jose.ES256), Use: "sig"}.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return key, statefile.Write(path, data)
}

// keyID is the JWK thumbprint (RFC 7638).
func keyID(k jose.JSONWebKey) (string, error) {
	sum, err := k.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}
