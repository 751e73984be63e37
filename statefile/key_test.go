package statefile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/passclave/passclave/statefile"
)

func TestKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	if _, err := statefile.ReadKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	made, err := statefile.Key(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := statefile.Key(path); err != nil || !again.Equal(made) {
		t.Errorf("another key, %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What is there and is no such key is never replaced.
func TestKeyRefuses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]pem.Block{
		"certificate": {Type: "CERTIFICATE", Bytes: p256},
		"garbage":     {Type: "PRIVATE KEY", Bytes: p256[1:]},
		"P-256":       {Type: "PRIVATE KEY", Bytes: p256},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(&b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := statefile.Key(path); err == nil {
			t.Errorf("%s was read as a key, or replaced", name)
		}
	}
}
