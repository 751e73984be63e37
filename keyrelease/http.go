package keyrelease

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/passclave/passclave/keyrelease/azure"
)

const (
	maxBody        = 256 << 10 // bytes of an answer; a release with five certificates has 20 kB
	attempts       = 5         // of one request
	firstPause     = 100 * time.Millisecond
	longestPause   = 5 * time.Second
	requestTimeout = 15 * time.Second
)

// transport is one client's connections to the two services.
type transport struct {
	http   *http.Client
	bearer func(context.Context) (string, error)
	pause  func(context.Context, time.Duration) error
}

func newTransport(roots *x509.CertPool, c *Client) *transport {
	t := &http.Transport{
		Proxy:                  nil, // never from the environment
		TLSClientConfig:        &tls.Config{RootCAs: roots, Time: c.Clock, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    requestTimeout,
		ResponseHeaderTimeout:  requestTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    1,
		DisableCompression:     true, // a small answer stays small
	}
	return &transport{
		http: &http.Client{
			Transport: t,
			Timeout:   requestTimeout,
			// A redirect would carry tokens to a host that nobody measured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		bearer: c.Bearer,
		pause:  pause,
	}
}

// pause waits for d, or until ctx ends, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// call sends one request until it is answered by something else than a broken
// connection, 429 or 5xx, at most attempts times, and decodes an answer of 200.
// A nil body makes it a GET.
func (t *transport) call(ctx context.Context, step Step, url string, body, answer any) *Error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return &Error{Reason: ReasonConfiguration, Step: step, cause: err}
		}
	}
	wait := firstPause
	for i := 1; ; i++ {
		after, err := t.once(ctx, step, url, data, answer)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return &Error{Reason: ReasonTimeLimit, Step: step, Next: "the last answer before the limit", cause: err}
		}
		again := err.Reason == ReasonUnreachable || err.Reason == ReasonThrottled || err.Reason == ReasonService && err.Status >= 500
		if !again || i == attempts {
			return err
		}
		// Full jitter over the upper half: enclaves that start together spread out.
		d := wait/2 + mathrand.N(wait/2)
		if t.pause(ctx, max(d, after)) != nil {
			return &Error{Reason: ReasonTimeLimit, Step: step, Next: "the last answer before the limit", cause: err}
		}
		wait = min(2*wait, longestPause)
	}
}

// once sends one request. The duration is what the service asks to wait, at most 30 s.
func (t *transport) once(ctx context.Context, step Step, url string, data []byte, answer any) (time.Duration, *Error) {
	id := requestID()
	method := http.MethodGet
	if data != nil {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(data))
	if err != nil {
		return 0, &Error{Reason: ReasonConfiguration, Step: step, cause: err}
	}
	r.Header.Set("Accept", azure.ContentType)
	r.Header.Set("User-Agent", "passclave")
	r.Header.Set(azure.ClientRequestIDHeader, id)
	if data != nil {
		r.Header.Set("Content-Type", azure.ContentType)
	}
	if t.bearer != nil && step != StepAttest {
		token, err := t.bearer(ctx)
		if err != nil {
			return 0, &Error{Reason: ReasonUnauthorized, Step: step, Next: "the managed identity gave no token", cause: err}
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := t.http.Do(r)
	if err != nil {
		return 0, &Error{Reason: ReasonUnreachable, Step: step, ClientRequestID: id, cause: err,
			Next: "that key_service names the service's address, and key_service.roots the root of its certificate"}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	e := &Error{Step: step, Status: res.StatusCode, ClientRequestID: id, RequestID: short(res.Header.Get(azure.RequestIDHeader))}
	switch {
	case err != nil:
		e.Reason, e.cause = ReasonUnreachable, err
		return 0, e
	case len(body) > maxBody:
		e.Reason = ReasonAnswer
		return 0, e
	case res.StatusCode == http.StatusOK:
		if err := azure.Decode(body, answer); err != nil {
			e.Reason, e.cause = ReasonAnswer, err
			return 0, e
		}
		return 0, nil
	}
	var said azure.ErrorResponse
	if azure.Decode(body, &said) == nil {
		e.Code, e.Message = short(said.Error.Code), short(said.Error.Message)
	}
	e.Reason, e.Next = reasonOf(res.StatusCode), next(step, res.StatusCode)
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return time.Duration(max(0, min(seconds, 30))) * time.Second, e
}

func reasonOf(status int) Reason {
	switch status {
	case http.StatusUnauthorized:
		return ReasonUnauthorized
	case http.StatusForbidden:
		return ReasonForbidden
	case http.StatusNotFound:
		return ReasonNotFound
	case http.StatusTooManyRequests:
		return ReasonThrottled
	}
	return ReasonService
}

func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func short(s string) string { return s[:min(len(s), 600)] }
