//go:build !cgo

package pkcs11

import (
	"errors"
	"testing"
)

// What a binary without cgo says. All else needs one with cgo.
func TestNotBuilt(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{}); !errors.Is(err, ErrNotBuilt) {
		t.Error(err)
	}
	if err := InitToken("", "", PIN{}, PIN{}); !errors.Is(err, ErrNotBuilt) {
		t.Error(err)
	}
	t.Skip("NOT TESTED: the store itself, as this binary was built without cgo (CGO_ENABLED=1 go test)")
}
