// Package keystore says what the key broker wants of a store of keys: an HSM
// (keystore/pkcs11), or for development a file (keystore/file).
//
// A store owns key versions: their material, their enabled flag and their release
// policy. It decides nothing about who may have a key: the broker asks it to wrap
// only after the version's policy released. It is trusted with the keys, and with
// the policies that stand beside them. Package releasetest is the conformance
// suite: a store that passes it may serve a broker.
package keystore

import (
	"context"
	"crypto/rsa"
	"errors"

	"github.com/passclave/passclave/keyrelease/keywrap"
)

var (
	ErrNotFound  = errors.New("keystore: no such key or version")
	ErrExists    = errors.New("keystore: the key exists")
	ErrName      = errors.New("keystore: not a name of 1 to 127 letters, digits and dashes")
	ErrDisabled  = errors.New("keystore: the version is disabled")
	ErrPolicy    = errors.New("keystore: not a release policy")
	ErrImmutable = errors.New("keystore: the key's release policy is immutable")
	ErrRSA       = errors.New("keystore: not an RSA key that a key may be wrapped to")
	// ErrUnavailable is returned while the store cannot be reached: the same call may work later.
	ErrUnavailable = errors.New("keystore: the store cannot be reached just now")
)

// Version is what may be known of a key version.
type Version struct {
	ID        string // random, unique under the key, usable in a path
	Created   uint64 // seconds since 1970; grows strictly from version to version of a key
	Enabled   bool
	Kty       string // "oct-HSM": a 256-bit symmetric key
	Policy    []byte // release policy as it was given
	Immutable bool   // Policy never changes: the same for all versions of a key
}

// Store holds keys of 256 bits in versions. Its methods may be called by several
// goroutines. What a method has reported as done survives a crash. Every method may
// return ErrUnavailable.
type Store interface {
	// Create makes a key with one version: ErrExists, ErrName, ErrPolicy. That its release
	// policy is immutable is said here, once and for all versions to come.
	Create(ctx context.Context, name string, policy []byte, immutable bool) (Version, error)
	// Rotate adds a version to a key, enabled, with a policy of its own: ErrNotFound, ErrPolicy;
	// ErrImmutable where the key's policy is immutable and this is another, byte for byte.
	Rotate(ctx context.Context, name string, policy []byte) (Version, error)
	// Versions lists all versions of a key, oldest first: ErrNotFound.
	Versions(ctx context.Context, name string) ([]Version, error)
	// SetEnabled switches a version on or off: ErrNotFound.
	SetEnabled(ctx context.Context, name, id string, enabled bool) error
	// SetPolicy gives a version, enabled or not, another release policy: ErrNotFound, ErrPolicy,
	// ErrImmutable. Whoever may do that can have the key released to himself.
	SetPolicy(ctx context.Context, name, id string, policy []byte) error
	// Wrap returns the version's key wrapped to pub: ErrNotFound, ErrDisabled, ErrRSA
	// (see ValidRSA), keywrap.ErrAlgorithm. Every store wraps by keywrap.RSAAESKeyWrap, not
	// every one by the others. It does not look at the policy.
	Wrap(ctx context.Context, name, id string, a keywrap.Algorithm, pub *rsa.PublicKey) ([]byte, error)
}
