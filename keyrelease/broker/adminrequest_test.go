package broker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/passclave/passclave/keyrelease/operator"
)

// signed returns a request as an operator would send it, and its body.
func (o *office) signed(t testing.TB, p person, broker, method, path, body string, challenge []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, o.url+path, strings.NewReader(body))
	must(t, err)
	operator.Sign(r, broker, []byte(body), challenge, p.private)
	return r
}

// send returns the status, and the refusal's words.
func (o *office) send(t testing.TB, r *http.Request) (int, string) {
	t.Helper()
	res, err := o.http.Do(r)
	must(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(body)
}

func (o *office) challenge(t testing.TB) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.url+"/admin/challenge", nil)
	must(t, err)
	status, body := o.send(t, r)
	var c operator.Challenge
	if err := json.Unmarshal([]byte(body), &c); err != nil || status != http.StatusOK {
		t.Fatal(status, err)
	}
	return c.Challenge
}

// A request is good once, at one broker, for one path and body, by a known operator.
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	version := o.create(t, o.strict())
	disable, rotate := "/admin/keys/"+keyName+"/"+version+"/disable", "/admin/keys/"+keyName+"/rotate"
	elsewhere := newOffice(t)
	flipped := func(c []byte) []byte { c[9] ^= 1; return c }
	body := func(r *http.Request, text string) *http.Request {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		return r
	}
	for name, r := range map[string]*http.Request{
		"another body": body(o.signed(t, o.a, o.url, "POST", rotate, `{}`, o.challenge(t)), `{"release_policy":"AAAA"}`),
		"another operator's name": func() *http.Request {
			r := o.signed(t, o.a, o.url, "POST", rotate, `{}`, o.challenge(t))
			r.Header.Set(operator.KeyHeader, o.signed(t, o.b, o.url, "POST", rotate, "", nil).Header.Get(operator.KeyHeader))
			return r
		}(),
		"another broker": o.signed(t, o.a, elsewhere.url, "POST", rotate, `{}`, o.challenge(t)),
		"another path": func() *http.Request {
			r := o.signed(t, o.a, o.url, "POST", rotate, `{}`, o.challenge(t))
			r.URL.Path = disable
			return r
		}(),
		"another query": func() *http.Request {
			r := o.signed(t, o.a, o.url, "GET", "/admin/audit?offset=1", "", o.challenge(t))
			r.URL.RawQuery = "offset=0"
			return r
		}(),
		"another method": func() *http.Request {
			r := o.signed(t, o.a, o.url, "POST", "/admin/keys/"+keyName, "", o.challenge(t))
			r.Method = "GET"
			return r
		}(),
		"another broker's question": o.signed(t, o.a, o.url, "POST", rotate, `{}`, elsewhere.challenge(t)),
		"a made-up question":        o.signed(t, o.a, o.url, "POST", rotate, `{}`, make([]byte, challengeSize)),
		"no question":               o.signed(t, o.a, o.url, "POST", rotate, `{}`, nil),
		"a changed question":        o.signed(t, o.a, o.url, "POST", rotate, `{}`, flipped(o.challenge(t))),
		"an unknown operator":       o.signed(t, newPerson(t, "alice"), o.url, "POST", rotate, `{}`, o.challenge(t)),
		"nobody": func() *http.Request {
			r := o.signed(t, o.a, o.url, "POST", rotate, `{}`, o.challenge(t))
			r.Header = http.Header{}
			return r
		}(),
		"two signatures": func() *http.Request {
			r := o.signed(t, o.a, o.url, "POST", rotate, `{}`, o.challenge(t))
			r.Header.Add(operator.SignatureHeader, "AAAA")
			return r
		}(),
	} {
		if status, words := o.send(t, r); status != http.StatusUnauthorized {
			t.Errorf("%s: got %d %s", name, status, words)
		}
	}
	if got := o.policies(t); len(got) != 1 {
		t.Errorf("%d versions", len(got))
	}
}

func TestReplayedRequests(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.create(t, o.strict())
	rotate := "/admin/keys/" + keyName + "/rotate"
	challenge := o.challenge(t)
	for i, want := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusUnauthorized} {
		if status, words := o.send(t, o.signed(t, o.a, o.url, "POST", rotate, `{}`, challenge)); status != want {
			t.Errorf("%d: got %d %s", i, status, words)
		}
	}
	// The same question is nobody else's either.
	if status, _ := o.send(t, o.signed(t, o.b, o.url, "POST", rotate, `{}`, challenge)); status != http.StatusUnauthorized {
		t.Errorf("got %d", status)
	}
	// Not after a restart, and not after its time.
	fresh := o.challenge(t)
	o.restart(t)
	if status, _ := o.send(t, o.signed(t, o.a, o.url, "POST", rotate, `{}`, fresh)); status != http.StatusUnauthorized {
		t.Errorf("after a restart: got %d", status)
	}
	var later time.Duration
	o.challenges.since = func() time.Duration { return later }
	fresh = o.challenge(t)
	later = challengeLife + time.Millisecond
	if status, _ := o.send(t, o.signed(t, o.a, o.url, "POST", rotate, `{}`, fresh)); status != http.StatusUnauthorized {
		t.Errorf("too late: got %d", status)
	}
	if got := o.policies(t); len(got) != 2 {
		t.Errorf("%d versions", len(got))
	}
}

// What was redeemed is remembered for as long as it is good; when there is no room, nothing more
// is taken.
func TestChallengesAreNotForgotten(t *testing.T) {
	t.Parallel()
	c := newChallenges()
	var now time.Duration
	c.since = func() time.Duration { return now }
	first := c.issue()
	must(t, c.redeem(first))
	for range maxRedeemed - 1 {
		must(t, c.redeem(c.issue()))
	}
	late := c.issue()
	if err := c.redeem(late); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	if err := c.redeem(first); !errors.Is(err, errReplayed) {
		t.Errorf("got %v", err)
	}
	now = challengeLife + time.Millisecond
	must(t, c.redeem(c.issue()))
	if len(c.redeemed) != 1 {
		t.Errorf("%d are remembered", len(c.redeemed))
	}
}

func TestOperatorsAreLimited(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.create(t, o.strict())
	o.admins = rate.NewLimiter(1e-9, 1)
	_, err := o.alice.Key(t.Context(), keyName)
	must(t, err)
	_, err = o.bob.Key(t.Context(), keyName)
	wantRefused(t, err, http.StatusTooManyRequests, "Throttled")
}

// Without operators there is nothing to ask.
func TestNoOperatorsNoEndpoints(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.create(t, h.strict())
	_, err := h.as(t, newPerson(t, "alice")).Key(t.Context(), keyName)
	wantRefused(t, err, http.StatusNotFound, "NotFound")
}
