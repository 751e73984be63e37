package client

import (
	"errors"
	"fmt"

	"github.com/passclave/passclave/wire"
)

var (
	// ErrNoProfile: the storage is empty. This device was never set up.
	ErrNoProfile = errors.New("no profile")
	// ErrProfileExists: the storage already holds a profile.
	ErrProfileExists = errors.New("a profile exists already")
	// ErrProfileInUse: another process holds the storage.
	ErrProfileInUse = errors.New("the profile is in use by another process")
	// ErrNotMember: the device has not enrolled or joined yet, or has left.
	ErrNotMember = errors.New("this device is not a member of an account")
	// ErrMember: the device is a member already.
	ErrMember = errors.New("this device is a member already")
	// ErrWrongCode: the local code does not open the software UV key.
	ErrWrongCode = errors.New("the local code does not open the software UV key")
	// ErrNoCode: the software UV key is needed and Options.Code is nil.
	ErrNoCode = errors.New("nobody to ask for the local code")
	// ErrNoLogin: a login is needed and Options.Login is nil.
	ErrNoLogin = errors.New("nobody to ask for a login")
)

// HostError is what the host answered in the clear, or why it did not. Anybody on
// the way can make one: it is a hint for a person and believed by nobody.
type HostError struct {
	Status int       // HTTP status; 0: no answer
	Hint   wire.Code // as the host gave it; may be empty
	cause  error
}

func (e *HostError) Error() string {
	switch {
	case e.Status == 0:
		return fmt.Sprintf("no answer from the service: %v", e.cause)
	case e.Hint != "":
		return fmt.Sprintf("the host says (unsealed): %s", e.Hint)
	}
	return fmt.Sprintf("the host answered with HTTP status %d", e.Status)
}

func (e *HostError) Unwrap() error { return e.cause }

// unsealed wraps a host's word into a refusal that no caller can take for the enclave's.
func unsealed(e *HostError) error {
	if e.Status == 0 {
		return wire.NewError(wire.CodeUnavailable, e)
	}
	return wire.NewError(wire.CodeUnsealedAnswer, e)
}

// AfterError says that the command was done, and that something which the client does
// behind it failed: fetching what changed, or taking the new vault epoch. A sync
// goes on from there.
type AfterError struct{ Err error }

func (e *AfterError) Error() string { return "done, but afterwards: " + e.Err.Error() }

func (e *AfterError) Unwrap() error { return e.Err }

func after(err error) error {
	if err == nil {
		return nil
	}
	return &AfterError{err}
}

// PINError says why a PIN was refused before it was used. The PIN is not in it.
type PINError struct{ Reason string }

func (e *PINError) Error() string { return "PIN refused: " + e.Reason }

// CodeError says why a new local code was refused. The code is not in it.
type CodeError struct{ Reason string }

func (e *CodeError) Error() string { return "local code refused: " + e.Reason }

func fork(format string, args ...any) error { return wire.Errorf(wire.CodeFork, format, args...) }

func joinErrors(err, also error) error {
	if also == nil {
		return err
	}
	return errors.Join(err, also)
}
