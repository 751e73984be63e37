package attestation

import (
	"errors"
	"fmt"
	"strconv"
)

// Check is the stable name of one thing that [Genuine] checks: in errors, output and docs.
type Check string

// The checks, in the order of docs/attestation.md, which says what each guards against.
const (
	CheckBundle   Check = "bundle"   // deterministic CBOR of a known version, within its limits
	CheckPlatform Check = "platform" // one that this version verifies
	CheckReport   Check = "report"   // length, version, reserved bits of the hardware's report or quote

	// SEV-SNP.
	CheckSigner Check = "report-signer" // the kind of key that the report says has signed it

	// Chains of certificates.
	CheckRoot     Check = "root"     // a hardware maker's, or a simulation root that was named
	CheckValidity Check = "validity" // every certificate is in its time
	CheckChain    Check = "chain"    // the certificates are what the maker issues, each signed by the next

	CheckSignature  Check = "signature"  // over the report, by the certified key
	CheckRevocation Check = "revocation" // no certificate stands in a stapled revocation list, which are signed and in their time

	// SEV-SNP.
	CheckTCB     Check = "reported-tcb"  // equal in report and certificate
	CheckChip    Check = "chip-id"       // equal in report and certificate
	CheckHostAMD Check = "host-amd-cert" // its tcbm is the report's REPORTED_TCB

	// TDX and SGX.
	CheckQE         Check = "quoting-enclave" // its report is signed by the PCK and binds the quote's key
	CheckTCBInfo    Check = "tcb-info"        // stapled TCB info is Intel's, in its time, and of this platform
	CheckQEIdentity Check = "qe-identity"     // stapled QE identity is Intel's, in its time, and fits the quoting enclave

	// SEV-SNP on Azure Container Instances.
	CheckUVM            Check = "uvm-endorsement" // of a known issuer, valid when it was signed, and of this launch measurement
	CheckSecurityPolicy Check = "security-policy" // its SHA-256 is HOST_DATA

	// Tokens of an attestation service.
	CheckToken          Check = "token"           // a JWT of the form that Azure Attestation gives
	CheckTokenIssuer    Check = "token-issuer"    // the service that the verifier has configured
	CheckTokenSignature Check = "token-signature" // by one of that service's keys
	CheckTokenTime      Check = "token-time"      // not before, not expired

	// What all platforms bind.
	CheckReportData    Check = "report-data"   // SHA-256 of the runtime data ‖ 32 zero bytes
	CheckRuntimeData   Check = "runtime-data"  // canonical, and of the shape of its purpose
	CheckConfiguration Check = "configuration" // the bundle's is the one whose hash the runtime data has
	CheckLedger        Check = "ledger"        // the runtime data's is the configuration's
)

// Checks returns the checks of a platform's evidence, in the order in which they are
// made; for an unknown one, those that come before the platform matters.
func Checks(p Platform) []Check {
	list := []Check{CheckBundle, CheckPlatform}
	switch p {
	case PlatformSEVSNP:
		list = append(list, CheckReport, CheckSigner, CheckRoot, CheckValidity, CheckChain, CheckSignature, CheckRevocation,
			CheckTCB, CheckChip, CheckHostAMD, CheckUVM, CheckSecurityPolicy)
	case PlatformTDX, PlatformSGX:
		list = append(list, CheckReport, CheckRoot, CheckValidity, CheckChain, CheckQE, CheckSignature,
			CheckTCBInfo, CheckQEIdentity, CheckRevocation)
	case PlatformAzureAttestation:
		list = append(list, CheckToken, CheckTokenIssuer, CheckTokenSignature, CheckTokenTime)
	default:
		return list
	}
	return append(list, CheckReportData, CheckRuntimeData, CheckConfiguration, CheckLedger)
}

// ErrRevoked is the cause of an [Error] of [CheckRevocation] where a list that holds, of
// the maker and in its time, names a certificate. Other lists change nothing about it.
var ErrRevoked = errors.New("the maker has revoked a certificate")

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
