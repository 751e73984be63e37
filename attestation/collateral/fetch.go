package collateral

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Limits of one request.
const (
	attempts     = 5
	firstPause   = 200 * time.Millisecond
	longestPause = 10 * time.Second // also of what Retry-After asks for
	maxRedirects = 3
	maxAnswer    = 512 << 10 // bytes; Intel's TCB info has 20 kB, revocation lists some 100 kB
)

// fetcher asks sources.
type fetcher struct {
	http  *http.Client
	now   func() time.Time
	pause time.Duration // the first
}

func newFetcher(c *http.Client, now func() time.Time) *fetcher {
	own := *c
	own.Jar = nil
	own.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if first := via[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host || len(via) > maxRedirects {
			return ErrRedirect
		}
		return nil
	}
	return &fetcher{http: &own, now: now, pause: firstPause}
}

// get returns a body of status 200. It tries again after a broken connection, 429 and
// 5xx, with growing pauses, until ctx ends. Errors are [*Error].
func (f *fetcher) get(ctx context.Context, source, address string, header http.Header) ([]byte, http.Header, error) {
	pause := f.pause
	for i := 1; ; i++ {
		body, answered, after, e := f.once(ctx, source, address, header)
		if e == nil {
			return body, answered, nil
		}
		e.Attempts = i
		// Between half and all of the pause: machines that start together spread out.
		wait := max(pause/2+rand.N(pause/2+1), min(after, longestPause))
		deadline, limited := ctx.Deadline()
		if !again(e) || i == attempts || ctx.Err() != nil || limited && time.Until(deadline) < wait {
			return nil, nil, e
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, nil, e
		case <-timer.C:
		}
		pause = min(2*pause, longestPause)
	}
}

func again(e *Error) bool {
	switch {
	case e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return true
	case e.Status != 0:
		return false
	}
	return !errors.Is(e, ErrRedirect)
}

// once sends one request. The duration is what the source asks to wait.
func (f *fetcher) once(ctx context.Context, source, address string, header http.Header) ([]byte, http.Header, time.Duration, *Error) {
	fail := func(status int, id string, cause error) *Error {
		// An url.Error repeats the address, which names the chip.
		if u := (*url.Error)(nil); errors.As(cause, &u) {
			cause = u.Err
		}
		return &Error{Source: source, Status: status, RequestID: id, cause: cause}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, 0, fail(0, "", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	answer, err := f.http.Do(request)
	if err != nil {
		return nil, nil, 0, fail(0, "", err)
	}
	defer answer.Body.Close()
	id := requestID(answer.Header.Get)
	if answer.StatusCode != http.StatusOK {
		return nil, nil, retryAfter(answer.Header.Get("Retry-After"), f.now()), fail(answer.StatusCode, id, ErrStatus)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, 0, fail(0, id, err) // broken off: try again
	case len(body) > maxAnswer:
		return nil, nil, 0, fail(answer.StatusCode, id, ErrTooLarge)
	}
	return body, answer.Header, 0, nil
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); zero for none.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return t.Sub(now)
	}
	return 0
}
