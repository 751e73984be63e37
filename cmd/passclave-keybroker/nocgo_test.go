//go:build !cgo

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A binary without cgo says what it lacks.
func TestBuiltWithoutPKCS11(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	pin := filepath.Join(f.dir, "pin")
	if err := os.WriteFile(pin, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), f.serve("-pkcs11-module", "x.so", "-pkcs11-token", "x", "-pkcs11-pin-file", pin), &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "built without PKCS#11") {
		t.Errorf("%d: %s", code, stderr.Bytes())
	}
}
