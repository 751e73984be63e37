package wire

import (
	"errors"
	"fmt"
)

// Code is a stable name of a refusal. Codes cross the wire, stand in golden
// vectors and metrics, and never change their meaning.
type Code string

// What every code means and what the client should do is in docs/protocol.md.
const (
	CodeMalformed      Code = "malformed"       // not the deterministic encoding of a known value
	CodeTooLarge       Code = "too-large"       // over a size limit
	CodeVersion        Code = "version"         // a protocol version that this side does not speak
	CodeUnknownCommand Code = "unknown-command" // well formed, but no command of this version
	CodeUnknownKey     Code = "unknown-key"     // the enclave does not hold (any more) the HPKE key named: attest again
	CodeReplayed       Code = "replayed"        // this envelope was already opened
	CodeChallenge      Code = "challenge"       // challenge or ticket foreign or too old: take the newest, try again
	CodeSealed         Code = "sealed"          // the enclave has no KEK yet

	CodeSignature     Code = "signature"      // device signature missing or wrong
	CodeUVRequired    Code = "uv-required"    // user verification missing or wrong
	CodeLoginRequired Code = "login-required" // no login in a request that needs one
	CodeLogin         Code = "login"          // ID token not accepted
	CodeLoginStale    Code = "login-stale"    // the person did not authenticate freshly: prompt=login
	CodeUnknownDevice Code = "unknown-device" // not a member of the account: revoked, or never one
	CodeYoung         Code = "young"          // joined by PIN less than 24 hours of login time ago
	CodeUntrusted     Code = "untrusted"      // the device has no UV key
	CodeNoAccount     Code = "no-account"     // no live account under this ID
	CodeAccountExists Code = "account-exists" // a live account stands under this ID
	CodeVaultSecret   Code = "vault-secret"   // vault secret missing, or not the one of this epoch
	CodeEpoch         Code = "epoch"          // a newer vault epoch is in force: sync
	CodeMembers       Code = "members"        // the membership is not authenticated by the vault secret

	CodePINWrong  Code = "pin-wrong"  // attempts left stand beside it
	CodePINLocked Code = "pin-locked" // a count stands at its limit: a trusted device sets a new PIN

	CodeNumber   Code = "number"    // not the next number of this device, nor the last again
	CodeConflict Code = "conflict"  // the record is no longer the version that the edit replaces, the PIN or the membership changed under a join, or the race was lost too often
	CodeNotFound Code = "not-found" // no such record, device or entry
	CodeExcluded Code = "excluded"  // an excluded credential exists (WebAuthn InvalidStateError)
	CodeLimit    Code = "limit"     // too many passkeys, devices or epochs, or a record too large
	CodeArgument Code = "argument"  // a command's argument is out of its range

	CodeRollback       Code = "rollback"        // the host's newest entry is older than, or not, the one that stands
	CodeHeadMismatch   Code = "head-mismatch"   // the account head is not the one that the newest entry names
	CodeRecordMismatch Code = "record-mismatch" // a record is not the one that the account head lists
	CodeEntry          Code = "entry"           // a ledger entry is forged, foreign or does not link
	CodeWrap           Code = "wrap"            // the wrapped account key does not open
	CodeUnavailable    Code = "unavailable"     // store, ledger, issuer or enclave cannot be reached
	CodeStorageFull    Code = "storage-full"    // the store cannot take more
	CodeRateLimited    Code = "rate-limited"    // slow down
	CodeInternal       Code = "internal"        // a fault of this side
	CodeFork           Code = "fork"            // (client) the service's history does not contain what this device remembers
	CodeReceipt        Code = "receipt"         // a ledger receipt does not prove what it should
	CodeView           Code = "view"            // the ledger's endorsers are not those asked for, or not those that its genesis leads to
	CodeDiscontinued   Code = "discontinued"    // the ledger lost its memory of this account: a majority of the devices has to confirm it
	CodeEarlierEpoch   Code = "earlier-epoch"   // what the host has is from before a revocation or a PIN set: it is never restored
	CodeUnsealedAnswer Code = "unsealed-answer" // (client) an answer that did not come from the enclave
	CodePolicy         Code = "policy"          // (client) evidence refused by the trust policy
	CodeEvidence       Code = "evidence"        // (client) evidence not genuine
)

// Error is a refusal. It is what crosses the wire: the cause stays on its side.
type Error struct {
	Code         Code    `cbor:"1,keyasint"`
	Command      *uint64 `cbor:"2,keyasint,omitempty"` // index of the command that was refused
	AttemptsLeft *uint64 `cbor:"3,keyasint,omitempty"` // with CodePINWrong and CodePINLocked

	cause error
}

// NewError returns a refusal with a cause that is never sent.
func NewError(code Code, cause error) *Error { return &Error{Code: code, cause: cause} }

// Errorf is [NewError] with a formatted cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, cause: fmt.Errorf(format, args...)}
}

func (e *Error) Error() string {
	s := string(e.Code)
	if e.AttemptsLeft != nil {
		s += fmt.Sprintf(" (%d attempts left)", *e.AttemptsLeft)
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Code: c}) ask for the code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// CodeOf returns the code of the first [Error] in err's chain: [CodeInternal]
// if there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
