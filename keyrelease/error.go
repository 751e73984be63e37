package keyrelease

import (
	"fmt"
	"net/http"
	"strings"
)

// Reason is the stable name of why a release failed.
type Reason string

const (
	ReasonConfiguration Reason = "configuration" // the key service's URLs, key name or roots cannot be used
	ReasonEvidence      Reason = "evidence"      // no evidence was to be had on this side
	ReasonUnreachable   Reason = "unreachable"   // no TLS connection, or it broke
	ReasonTimeLimit     Reason = "time-limit"    // the time limit passed, or the caller gave up
	ReasonUnauthorized  Reason = "unauthorized"  // 401
	ReasonForbidden     Reason = "forbidden"     // 403
	ReasonNotFound      Reason = "not-found"     // 404
	ReasonThrottled     Reason = "throttled"     // 429
	ReasonService       Reason = "service"       // any other status but 200
	ReasonAnswer        Reason = "answer"        // an answer that is not what the protocol says, or too large
	ReasonSignature     Reason = "signature"     // the JWS is not signed by RS256 or PS256 under its certificate
	ReasonCertificate   Reason = "certificate"   // that certificate is not the configured vault's
	ReasonVersion       Reason = "version"       // another key or version than the one asked for
	ReasonNonce         Reason = "nonce"         // an answer to another request
	ReasonUnwrap        Reason = "unwrap"        // the wrapped key does not open
	ReasonKeyType       Reason = "key-type"      // it opens to something that cannot be a KEK
	ReasonNoVersion     Reason = "no-version"    // the key has no enabled version
)

// Step is the request that failed.
type Step string

const (
	StepAttest  Step = "attest"
	StepList    Step = "list versions"
	StepRelease Step = "release"
)

// Error is why no key was released. It never holds key material or tokens.
// errors.Is(err, &Error{Reason: r}) asks for the reason alone.
type Error struct {
	Reason          Reason
	Step            Step   // "" before the first request
	Version         string // with StepRelease
	Status          int    // HTTP status, if there was an answer
	Code            string // the service's own error code; untrusted, shortened
	Message         string // the service's words; untrusted, shortened
	RequestID       string // what the service's operator asks for; untrusted, shortened
	ClientRequestID string // what we called the request
	Next            string // what to check next

	cause error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("key release: ")
	b.WriteString(string(e.Reason))
	if e.Step != "" {
		fmt.Fprintf(&b, " at %s", e.Step)
	}
	if e.Version != "" {
		fmt.Fprintf(&b, " of version %.64q", e.Version)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d", e.Status)
		if e.Code != "" || e.Message != "" {
			fmt.Fprintf(&b, " %q %q", e.Code, e.Message)
		}
		b.WriteString(")")
	}
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, "; request ID %q", e.RequestID)
	}
	if e.ClientRequestID != "" {
		fmt.Fprintf(&b, "; client request ID %s", e.ClientRequestID)
	}
	if e.Next != "" {
		fmt.Fprintf(&b, "; next: %s", e.Next)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.cause }

// Is compares the reason alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, cause: fmt.Errorf(format, args...)}
}

// next says what a person should look at, by step and status.
func next(step Step, status int) string {
	switch {
	case status == http.StatusForbidden && step == StepAttest:
		return "key_service.attestation: whom that service answers, by its network rules and its own policy"
	case status == http.StatusUnauthorized && step == StepRelease:
		return "the attestation token was not accepted (clock, or another authority than the vault trusts); on Azure also the bearer token's audience: https://vault.azure.net for Key Vault, https://managedhsm.azure.net for a Managed HSM"
	case status == http.StatusUnauthorized:
		return "the bearer token's audience: https://vault.azure.net for Key Vault, https://managedhsm.azure.net for a Managed HSM"
	case status == http.StatusForbidden && step == StepRelease:
		return "the release policy: compare host data, measurement and authority (key_service.attestation) with the evidence; on Azure also the identity's role, scoped to the key: Managed HSM Crypto Service Release User, or Key Vault Crypto Service Release User"
	case status == http.StatusForbidden:
		return "on Azure, the identity needs a second role, to list the key's versions: Managed HSM Crypto Auditor, or Key Vault Reader"
	case status == http.StatusNotFound && step == StepAttest:
		return "key_service.attestation: the endpoint does not know attestation of this platform"
	case status == http.StatusNotFound:
		return "key_service.key and key_service.vault; a new Managed HSM must be activated first (download its security domain)"
	case status == http.StatusTooManyRequests:
		return "the service limits requests: wait, or start fewer enclaves at once"
	case status == http.StatusBadRequest && step == StepAttest:
		return "the evidence: its certificates may be older than the chip's TCB, or the service does not accept its root (simulated evidence needs a broker with the simulation's root)"
	}
	return ""
}
