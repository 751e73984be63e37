//go:build !cgo

package pkcs11

import "github.com/passclave/passclave/keyrelease/keystore"

// Store is in binaries with cgo alone.
type Store struct{ keystore.Store }

// Open returns [ErrNotBuilt].
func Open(Config) (*Store, error) { return nil, ErrNotBuilt }

// Close does nothing.
func (*Store) Close() error { return nil }

// InitToken returns [ErrNotBuilt].
func InitToken(string, string, PIN, PIN) error { return ErrNotBuilt }
