package broker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"golang.org/x/time/rate"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/operator"
)

// request is one call of an endpoint.
type request struct {
	*http.Request
	id     string
	log    *slog.Logger
	record *audit.Record // of the audit log; nil: nothing that is recorded

	// Of an operator's request.
	operator  *operator.Operator
	challenge []byte
	begun     bool // the beginning of the act stands in the audit log
}

// refusal is an answer other than 200, in Azure's shape. The cause stays here.
type refusal struct {
	status  int
	code    string
	message string
	cause   error
}

func (r *refusal) Error() string {
	if r.cause != nil {
		return fmt.Sprintf("%d %s: %s: %v", r.status, r.code, r.message, r.cause)
	}
	return fmt.Sprintf("%d %s: %s", r.status, r.code, r.message)
}

func (r *refusal) Unwrap() error { return r.cause }

func refuse(status int, code, message string) *refusal {
	return &refusal{status: status, code: code, message: message}
}

// because adds what only the log shows.
func (r *refusal) because(cause error) *refusal {
	r.cause = cause
	return r
}

// handle serves a pattern by an endpoint whose answer is sent as JSON.
func (b *Broker) handle(pattern string, endpoint func(*request) (any, error)) {
	b.handleLimited(b.limiter, pattern, endpoint)
}

func (b *Broker) handleLimited(limiter *rate.Limiter, pattern string, endpoint func(*request) (any, error)) {
	b.mux.HandleFunc(pattern, func(w http.ResponseWriter, hr *http.Request) {
		var id [16]byte
		rand.Read(id[:])
		r := &request{Request: hr, id: hex.EncodeToString(id[:])}
		r.log = b.log.With("request", r.id, "from", hr.RemoteAddr)
		h := w.Header()
		h.Set(azure.RequestIDHeader, r.id)
		if c := hr.Header.Get(azure.ClientRequestIDHeader); c != "" && len(c) <= 64 {
			h.Set(azure.ClientRequestIDHeader, c)
			r.log = r.log.With("client_request", c)
		}
		h.Set("Content-Type", azure.PolicyContentType)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")

		var answer any
		var err error
		if limiter.Allow() {
			hr.Body = http.MaxBytesReader(w, hr.Body, maxBody)
			if answer, err = endpoint(r); err != nil {
				err = refusalOf(err)
			}
			if unrecorded := b.record(r, err); unrecorded != nil && err == nil {
				answer, err = nil, unrecorded
			}
		} else {
			h.Set("Retry-After", "1")
			err = refuse(http.StatusTooManyRequests, "Throttled", "too many requests")
		}
		status := http.StatusOK
		if err != nil {
			no := refusalOf(err)
			status = no.status
			if status == http.StatusUnauthorized {
				// Azure's SDK reads here whose access token is wanted. Any will do: nobody looks at it.
				h.Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", b.url+"/none", b.url))
			}
			answer = azure.ErrorResponse{Error: azure.ErrorBody{Code: no.code, Message: no.message}}
			r.log.Warn("refused", "path", hr.URL.Path, "reason", no)
		}
		body, err := json.Marshal(answer)
		if err != nil {
			r.log.Error("answer", "error", err)
			status, body = http.StatusInternalServerError, []byte(`{"error":{"code":"InternalServerError","message":""}}`)
		}
		w.WriteHeader(status)
		w.Write(body)
	})
}

// refusalOf is the answer to an error.
func refusalOf(err error) *refusal {
	var no *refusal
	switch {
	case errors.As(err, &no):
		return no
	case errors.Is(err, keystore.ErrUnavailable):
		return refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "the key store cannot be reached just now; the broker's log has the reason").because(err)
	}
	return refuse(http.StatusInternalServerError, "InternalServerError", "a fault of the broker; its log has the reason").because(err)
}

// read reads the body.
func (r *request) read() ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the body is too large")
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "BadParameter", "the body was not received").because(err)
	}
	return data, nil
}

// decode reads the body's JSON.
func (r *request) decode(v any) error {
	data, err := r.read()
	if err != nil {
		return err
	}
	if err := azure.Decode(data, v); err != nil {
		return refuse(http.StatusBadRequest, "BadParameter", "the body is not the JSON of this request")
	}
	return nil
}

// apiVersion returns the query's api-version, which every Azure request has. Any
// version is served alike.
func (r *request) apiVersion() (string, error) {
	v := r.URL.Query().Get("api-version")
	if v == "" || len(v) > 32 {
		return "", refuse(http.StatusBadRequest, "BadParameter", "api-version is missing")
	}
	return v, nil
}
