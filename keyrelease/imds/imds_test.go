package imds

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func service(t *testing.T, status int, body string) (base string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		want := "/metadata/identity/oauth2/token?api-version=2018-02-01&client_id=me&resource=https%3A%2F%2Fledger.example"
		if r.URL.String() != want || r.Header.Get("Metadata") != "true" {
			t.Errorf("asked %s with Metadata %q", r.URL, r.Header.Get("Metadata"))
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// documented is an answer in the documented form, with a lifetime.
func documented(seconds string) string {
	return `{"access_token":"eyJ0-secret","refresh_token":"","expires_in":"` + seconds + `","expires_on":"1506484173","not_before":"1506480273","resource":"https://ledger.example","token_type":"Bearer"}`
}

func TestTokenIsKept(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[string]int32{"3599": 1, "60": 3} { // one that is about to end is not kept
		base, asked := service(t, http.StatusOK, documented(seconds))
		i := New(base, "me", "https://ledger.example")
		for range 3 {
			if token, err := i.Token(t.Context()); err != nil || token != "eyJ0-secret" {
				t.Fatalf("%q, %v", token, err)
			}
		}
		if got := asked.Load(); got != want {
			t.Errorf("a token of %s s was asked for %d times, want %d", seconds, got, want)
		}
	}
}

// While the service gives no token, one that is good still is used to its end; it is not
// asked at each call meanwhile.
func TestServiceAway(t *testing.T) {
	t.Parallel()
	base, asked := service(t, http.StatusGone, "")
	i := New(base, "me", "https://ledger.example")
	i.token, i.expiry = "eyJ0-secret", time.Now().Add(time.Minute)
	for range 3 {
		if token, err := i.Token(t.Context()); err != nil || token != "eyJ0-secret" {
			t.Fatalf("%q, %v", token, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	i.expiry, i.replace = time.Now(), time.Now()
	if token, err := i.Token(t.Context()); err == nil || token != "" {
		t.Errorf("%q after its end", token)
	}
}

// Some implementations write the seconds as a number.
func TestNumber(t *testing.T) {
	t.Parallel()
	base, _ := service(t, http.StatusOK, strings.Replace(documented("3599"), `"3599"`, "3599", 1))
	if token, err := New(base, "me", "https://ledger.example").Token(t.Context()); err != nil || token != "eyJ0-secret" {
		t.Fatalf("%q, %v", token, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"no identity":    {http.StatusBadRequest, `{"error":"invalid_request"}`},
		"another status": {http.StatusAccepted, documented("3599")},
		"not JSON":       {http.StatusOK, "eyJ0-secret"},
		"no token":       {http.StatusOK, `{"expires_in":"3599","token_type":"Bearer"}`},
		"no end":         {http.StatusOK, `{"access_token":"eyJ0-secret","token_type":"Bearer"}`},
		"another scheme": {http.StatusOK, strings.Replace(documented("3599"), "Bearer", "Basic", 1)},
	} {
		base, _ := service(t, c.status, c.body)
		token, err := New(base, "me", "https://ledger.example").Token(t.Context())
		if err == nil || token != "" {
			t.Errorf("%s: %q", name, token)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error holds the token: %v", name, err)
		}
	}
}

// Who answers by sending elsewhere gives no token, and nothing comes between by the environment.
func TestNobodyElseIsAsked(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, documented("3599"))
	}))
	t.Cleanup(elsewhere.Close)
	metadata := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(metadata.Close)
	i := New(metadata.URL, "", "https://ledger.example")
	if token, err := i.Token(t.Context()); err == nil || token != "" || asked.Load() != 0 {
		t.Errorf("%q, %v, asked elsewhere %d times", token, err, asked.Load())
	}
	if i.http.Transport.(*http.Transport).Proxy != nil {
		t.Error("a proxy may come from the environment")
	}
}
