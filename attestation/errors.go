package attestation

import (
	"fmt"
	"strconv"
)

// Check is the stable name of one thing that [Genuine] checks: in errors, output and docs.
type Check string

// The checks, in the order of docs/attestation.md, which says what each guards against.
const (
	CheckBundle        Check = "bundle"        // deterministic CBOR of a known version, within its limits
	CheckPlatform      Check = "platform"      // one that this version verifies
	CheckReport        Check = "report"        // length, version, reserved bits of the hardware's report
	CheckSigner        Check = "report-signer" // the kind of key that the report says has signed it
	CheckRoot          Check = "root"          // a hardware maker's, or a simulation root that was named
	CheckValidity      Check = "validity"      // every certificate is in its time
	CheckChain         Check = "chain"         // the certificates are what the maker issues, each signed by the next
	CheckSignature     Check = "signature"     // over the report, by the certified key
	CheckTCB           Check = "reported-tcb"  // equal in report and certificate
	CheckChip          Check = "chip-id"       // equal in report and certificate
	CheckReportData    Check = "report-data"   // SHA-256 of the runtime data ‖ 32 zero bytes
	CheckRuntimeData   Check = "runtime-data"  // canonical, and of the shape of its purpose
	CheckConfiguration Check = "configuration" // the bundle's is the one whose hash the runtime data has
	CheckLedger        Check = "ledger"        // the runtime data's is the configuration's
)

// Checks returns all checks.
func Checks() []Check {
	return []Check{CheckBundle, CheckPlatform, CheckReport, CheckSigner, CheckRoot, CheckValidity, CheckChain, CheckSignature,
		CheckTCB, CheckChip, CheckReportData, CheckRuntimeData, CheckConfiguration, CheckLedger}
}

// Error says which check evidence failed. Expected and Actual are for people; they
// are empty where the cause says it all.
type Error struct {
	Check    Check
	Expected string
	Actual   string

	cause error
}

func (e *Error) Error() string {
	s := "evidence is not genuine: " + string(e.Check)
	if e.Expected != "" || e.Actual != "" {
		s += fmt.Sprintf(": expected %s, actual %s", e.Expected, e.Actual)
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Check: c}) ask for the check alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Check == e.Check
}

func refuse(c Check, cause error) *Error { return &Error{Check: c, cause: cause} }

func differ(c Check, expected, actual any) *Error {
	return &Error{Check: c, Expected: text(expected), Actual: text(actual)}
}

// text shows a value, as a Go string literal where that says more than the text
// itself: who made the evidence may have put a terminal's escapes or lines into it.
func text(v any) string {
	s := fmt.Sprint(v)
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
