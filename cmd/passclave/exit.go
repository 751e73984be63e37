package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/wire"
)

// Exit codes. They never change their meaning; help prints [exitHelp].
const (
	exitDone      = 0
	exitError     = 1
	exitPolicy    = 2
	exitEvidence  = 3
	exitPINWrong  = 4
	exitPINLocked = 5
	exitDevice    = 6
	exitAlarm     = 7
	exitUsage     = 8
	exitCodeWrong = 9
	exitWeak      = 10
	exitSignal    = 128 // and the signal's number, as shells have it
)

const exitHelp = `Exit codes:
  0  done; verify: evidence accepted
  1  failed for a reason not below: the service cannot be reached, a file is missing; nothing else was learned
  2  the evidence is genuine, but the trust policy refuses it; keys explain: the release policy does
  3  the evidence is not genuine
  4  wrong PIN: the attempt counts
  5  locked: the PIN limit is reached; a trusted device sets a new PIN
  6  this device is not, or no longer, a member of the account
  7  alarm: the service shows another history, or older data, than it must; fsck: the database is not whole;
     keys audit: the log breaks
  8  wrong use of the command line
  9  the local code does not open the software UV key (nothing was sent)
  10 policy lint: warnings; policy diff: the second policy accepts something that the first refuses
  130, 143  stopped by Ctrl-C, by SIGTERM
`

// usageError is a wrong use of the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// interruption ends a command because of a signal.
type interruption struct{ signal syscall.Signal }

func (e *interruption) Error() string { return "stopped: " + e.signal.String() }

// stoppedInRequest is an [interruption] while the service was being asked.
type stoppedInRequest struct{ *interruption }

func (e stoppedInRequest) Error() string {
	return e.interruption.Error() + ". What had been sent may be done all the same: `passclave sync` tells"
}

func (e stoppedInRequest) Unwrap() error { return e.interruption }

// interrupted puts the signal that ended ctx in the place of the error that it caused.
func interrupted(ctx context.Context, err error) error {
	var signal *interruption
	if err == nil || !errors.As(context.Cause(ctx), &signal) || !errors.Is(err, context.Canceled) && !errors.Is(err, signal) {
		return err
	}
	var refusal *wire.Error
	if errors.As(err, &refusal) {
		return stoppedInRequest{signal}
	}
	return signal
}

// errReported ends a command whose outcome was printed already: its exit code is in app.exit.
var errReported = errors.New("reported")

// alarms are refusals of a host that shows anything but the newest, whole state.
var alarms = map[wire.Code]bool{
	wire.CodeFork: true, wire.CodeRollback: true, wire.CodeHeadMismatch: true,
	wire.CodeRecordMismatch: true, wire.CodeEntry: true, wire.CodeReceipt: true,
	wire.CodeVaultSecret: true, wire.CodeMembers: true,
}

// exitCode returns the exit code of an error: [exitDone] for nil.
func exitCode(err error) int {
	var usage *usageError
	var signal *interruption
	code := wire.CodeOf(err)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &signal):
		return exitSignal + int(signal.signal)
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, client.ErrWrongCode):
		return exitCodeWrong
	case errors.Is(err, client.ErrNotMember), code == wire.CodeUnknownDevice:
		return exitDevice
	case code == wire.CodePolicy:
		return exitPolicy
	case code == wire.CodeEvidence:
		return exitEvidence
	case code == wire.CodePINWrong:
		return exitPINWrong
	case code == wire.CodePINLocked:
		return exitPINLocked
	case alarms[code]:
		return exitAlarm
	}
	return exitError
}

// jsonError is what --json prints of an error, as {"error": …}. Its shape is stable.
type jsonError struct {
	Code         string  `json:"code"` // a code of docs/protocol.md, or one of the command line's own
	Exit         int     `json:"exit"`
	Message      string  `json:"message"` // for people
	AttemptsLeft *uint64 `json:"attempts_left,omitempty"`
	HostHint     string  `json:"host_hint,omitempty"` // what the host said in the clear; nobody believes it
}

// The command line's own codes.
var ownCodes = []struct {
	err  error
	code string
}{
	{client.ErrWrongCode, "code-wrong"},
	{client.ErrNotMember, "not-a-member"},
	{client.ErrMember, "is-a-member"},
	{client.ErrNoProfile, "no-profile"},
	{client.ErrProfileExists, "profile-exists"},
	{client.ErrProfileInUse, "profile-in-use"},
	{errDeclined, "declined"},
	{errNoAnswer, "no-answer"},
	{errLogin, "login-failed"},
	{errUndecided, "could-not-tell"},
	{stack.ErrInUse, "state-in-use"},
	{file.ErrInUse, "state-in-use"},
	{keystore.ErrNotFound, "no-keys"},
	{keystore.ErrExists, "keys-exist"},
	{errInToken, "keys-in-token"},
	{errKeyNeeded, "key-needed"},
	{file.ErrBackup, "not-a-backup"},
	{file.ErrPassphrase, "passphrase-wrong"},
	{file.ErrWeakPassphrase, "passphrase-refused"},
	{fs.ErrExist, "file-exists"},
}

func toJSON(err error) jsonError {
	j := jsonError{Code: "error", Exit: exitCode(err), Message: words(err)}
	var refusal *wire.Error
	var usage *usageError
	var pin *client.PINError
	var refused *stack.RefusedError
	var host *client.HostError
	var signal *interruption
	var broker *operator.Error
	switch {
	case errors.As(err, &usage):
		j.Code = "usage"
	case errors.As(err, &signal):
		j.Code = "interrupted"
	case errors.As(err, &pin):
		j.Code = "pin-refused"
	case errors.As(err, &refused):
		j.Code = "state-refused"
	case errors.As(err, &broker):
		j.Code = "broker-refused"
	case errors.As(err, &refusal):
		j.Code, j.AttemptsLeft = string(refusal.Code), refusal.AttemptsLeft
	}
	for _, own := range ownCodes {
		if errors.Is(err, own.err) {
			j.Code = own.code
		}
	}
	if errors.As(err, &host) {
		j.HostHint = string(host.Hint)
	}
	return j
}
