// Package pkcs11 is the key store in an HSM, reached by its PKCS#11 library. It needs
// cgo; without it [Open] says so.
//
// The token is the source of truth. A key version is two objects in it: the key itself
// (AES-256, made in the HSM, sensitive, good for nothing but to be wrapped) and one data
// object with all else (release policy, enabled flag, time, a revision number). Making the
// data object makes the version: a key without one, left by a crash between the two, is no
// version, and stays. A change of the data object writes the next revision beside the former
// and then destroys that; who finds both takes the newer. So every change is there whole or not
// at all, and what a method reported as done survives a crash as far as the token keeps
// what it was given (SoftHSM does not sync its files: a power cut may take its last changes).
//
// A key leaves the HSM only wrapped to an RSA key, and wrapped in there: by
// CKM_RSA_AES_KEY_WRAP, or by OAEP and AES key wrap with a session key that is made and
// dies in the HSM. [Open] tries out what the token can do, with throw-away keys. An algorithm whose
// OAEP hash the token lacks is refused (keywrap.ErrAlgorithm): no part of a wrapping is
// done in this process instead.
//
// Trusted are the HSM, its library, which runs in this process, and whoever has the token's
// PIN: he can wrap the keys to himself, change their policies and destroy them. The PIN is kept in
// memory, as a lost token needs a new login. A PIN that the token refuses is not tried again,
// and none is tried at a token that counts wrong ones.
//
// A token that goes away is [keystore.ErrUnavailable] until it is back; then the next call logs
// in again. Processes that share a token on one machine share a lock file for their changes;
// on several machines, change a key from one at a time.
package pkcs11

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

var (
	// ErrNotBuilt is returned by a binary without cgo.
	ErrNotBuilt = errors.New("this binary was built without PKCS#11: build it with CGO_ENABLED=1 and a C compiler")
	// ErrModule is returned for a file that cannot be loaded as a PKCS#11 library.
	ErrModule = errors.New("not a PKCS#11 library that can be used")
	// ErrToken is returned where there is not exactly one token with the label. In an open
	// store it comes with keystore.ErrUnavailable: the token may come back.
	ErrToken = errors.New("no such token, or several")
	// ErrPIN is returned for a PIN that the token refused. It is not tried again.
	ErrPIN = errors.New("the token refuses the PIN")
	// ErrPINCount is returned, without a login, for a token that counts wrong PINs, or is locked.
	ErrPINCount = errors.New("a wrong PIN was entered at the token since the last login, or it is locked: nothing is tried, so as not to lock it. Log in once with the right PIN by another tool, which ends the count")
	// ErrPINFile is returned for what cannot be a PIN's file.
	ErrPINFile = errors.New("PIN file")
	// ErrMechanism is returned for a token that cannot make or wrap keys as this package needs it.
	ErrMechanism = errors.New("the token lacks a mechanism")
	// ErrCorrupt is returned for objects in the token that this package did not leave so.
	ErrCorrupt = errors.New("the token's objects are damaged")
)

// Config is what a store needs. All fields are required.
type Config struct {
	Module string // file of the HSM's PKCS#11 library
	Token  string // the token's label
	PIN    PIN    // its user's
	Dir    string // folder of the lock file that processes share
	Log    *slog.Logger
}

// PIN is a secret that does not print.
type PIN struct{ text string }

const hidden = "(hidden)"

func (PIN) String() string       { return hidden }
func (PIN) GoString() string     { return hidden }
func (PIN) LogValue() slog.Value { return slog.StringValue(hidden) }

const maxPIN = 255 // bytes

// ReadPIN reads a PIN from a file that only its owner may use, or from a pipe
// (/dev/fd/N): one line. [ErrPINFile].
func ReadPIN(path string) (PIN, error) {
	f, err := os.Open(path)
	if err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return PIN{}, fmt.Errorf("%w: %s must have mode 0600", ErrPINFile, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPIN+3))
	defer clear(data)
	if err != nil {
		return PIN{}, fmt.Errorf("%w: %w", ErrPINFile, err)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" || len(text) > maxPIN || strings.ContainsAny(text, "\x00\r\n") {
		return PIN{}, fmt.Errorf("%w: %s must hold one line of 1 to %d bytes", ErrPINFile, path, maxPIN)
	}
	return PIN{text}, nil
}
