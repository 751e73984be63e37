package collateral

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/passclave/passclave/attestation"
)

// Why a source gave nothing. Errors of [Completer.Complete] also match the
// [attestation.Error] of each candidate that was refused.
var (
	ErrStatus   = errors.New("it answers with an error")
	ErrAnswer   = errors.New("its answer is not what it should be")
	ErrTooLarge = errors.New("its answer is too large")
	ErrRedirect = errors.New("it redirects to another host")
	ErrNoSource = errors.New("no source for it is configured") // nothing was asked
	ErrUnknown  = errors.New("nothing can be asked for it")    // a masked chip, an unknown processor, a VLEK without its certificate
)

// Incomplete is why a bundle stays incomplete: something was missing, or did not hold, and
// nobody gave another. errors.Is and errors.As look into all that was tried.
type Incomplete struct {
	Missing string  // Certificates, or the name of the collateral
	Stapled []error // why what came along is not it
	Tried   []error // what each source did, in turn: an [*Error], or why its candidate was refused
}

// Certificates is missing where a report's chain is.
const Certificates = "certificates"

func (e *Incomplete) Error() string {
	parts := []string{"no " + e.Missing + " for this evidence"}
	for _, err := range e.Stapled {
		parts = append(parts, "stapled: "+err.Error())
	}
	for _, err := range e.Tried {
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "\n")
}

func (e *Incomplete) Unwrap() []error { return slices.Concat(e.Stapled, e.Tried) }

// Decided returns the refusal that no other certificate, list or statement can mend; nil:
// there is none, and nothing is known about the evidence. A list that holds names one of
// the certificates; or the very certificate of the report's chip and firmware was had,
// and its key has not signed the report.
func (e *Incomplete) Decided() *attestation.Error {
	for _, err := range e.Unwrap() {
		var refused *attestation.Error
		if errors.As(err, &refused) && final(refused) {
			return refused
		}
	}
	return nil
}

// Unreachable reports whether a source gave no answer, or none for now: another attempt
// may complete the bundle.
func (e *Incomplete) Unreachable() bool { return slices.ContainsFunc(e.Tried, unreachable) }

func unreachable(err error) bool {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(list.Unwrap(), unreachable)
	}
	var of *Error
	return errors.As(err, &of) && (of.Status == 0 || of.Status == http.StatusTooManyRequests || of.Status >= http.StatusInternalServerError)
}

func final(err error) bool {
	is := func(c attestation.Check) bool { return errors.Is(err, &attestation.Error{Check: c}) }
	return errors.Is(err, attestation.ErrRevoked) || is(attestation.CheckSignature) && !is(attestation.CheckTCB) && !is(attestation.CheckChip)
}

// Error is what one source did instead of giving what it was asked for. It names no
// address and quotes no body: they may come from a stranger.
type Error struct {
	Source    string // its name, as the constructor of the source gives it
	Status    int    // HTTP status; 0: no answer
	RequestID string // by which the source's operator finds the request; often empty
	Attempts  int

	cause error
}

func (e *Error) Error() string {
	s := e.Source
	if e.Status != 0 {
		s += fmt.Sprintf(": status %d", e.Status)
	}
	if e.RequestID != "" {
		s += ", request " + strconv.Quote(e.RequestID)
	}
	if e.Attempts > 1 {
		s += fmt.Sprintf(", %d attempts", e.Attempts)
	}
	return s + ": " + e.cause.Error()
}

func (e *Error) Unwrap() error { return e.cause }

// requestIDs are the headers that the sources name a request by.
var requestIDs = []string{"x-ms-request-id", "Request-ID", "x-azure-ref", "x-amzn-requestid", "x-amz-cf-id"}

// maxRequestID bounds what a stranger puts into our log.
const maxRequestID = 128

func requestID(get func(string) string) string {
	for _, name := range requestIDs {
		if id := get(name); id != "" {
			return strings.ToValidUTF8(id[:min(len(id), maxRequestID)], "?")
		}
	}
	return ""
}
