package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/development/issuer"
	"github.com/passclave/passclave/wire"
)

// provider serves handler over TLS and returns the login request for it.
func provider(t *testing.T, handler func(url string) http.Handler) (client.LoginRequest, *httptest.Server) {
	t.Helper()
	var h http.Handler
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	h = handler(server.URL)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return client.LoginRequest{
		Issuer:   wire.Issuer{Issuer: server.URL, ClientIDs: []string{"passclave"}, Algorithms: []string{"ES256"}, Roots: string(roots)},
		ClientID: "passclave", Nonce: "the nonce", Fresh: true,
	}, server
}

func devIssuer(t *testing.T) func(string) http.Handler {
	return func(url string) http.Handler {
		key, err := issuer.LoadKey(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		i, err := issuer.New(issuer.Config{URL: url, Key: key, ClientIDs: []string{"passclave"}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
}

// terminal is an app whose stderr the test reads.
func terminal(t *testing.T) (*app, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return newApp(os.Stdin, io.Discard, w), bufio.NewReader(r)
}

// claims reads an ID token's payload.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoginWithoutBrowser(t *testing.T) {
	t.Parallel()
	request, _ := provider(t, devIssuer(t))
	a, _ := terminal(t)
	a.user = "alice"
	token, err := a.login(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if c := claims(t, token); c["sub"] != "alice" || c["nonce"] != "the nonce" || c["aud"] != "passclave" {
		t.Errorf("claims %v", c)
	}
}

// The printed address, opened by somebody, ends in a token; a redirect with another
// state does not, and the page says so.
func TestLoginInBrowser(t *testing.T) {
	t.Parallel()
	request, server := provider(t, devIssuer(t))
	a, lines := terminal(t)
	a.noBrowser = true
	type result struct {
		token string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		token, err := a.login(t.Context(), request)
		done <- result{token, err}
	}()
	address := printed(t, lines)
	q := address.Query()
	if q.Get("prompt") != "login" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") != "the nonce" {
		t.Errorf("asks with %v", q)
	}
	q.Set("passclave_dev_login", "1")
	q.Set("login_hint", "bob")
	address.RawQuery = q.Encode()
	page, err := server.Client().Get(address.String()) // follows the redirect to the loopback address
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	r := <-done
	if r.err != nil || page.StatusCode != http.StatusOK {
		t.Fatalf("%v, page status %d", r.err, page.StatusCode)
	}
	if c := claims(t, r.token); c["sub"] != "bob" {
		t.Errorf("claims %v", c)
	}
}

// A login that nobody makes ends, and says so; what it is wanted for stands before it.
func TestLoginEnds(t *testing.T) {
	t.Parallel()
	request, _ := provider(t, devIssuer(t))
	request.For = wire.CommandRevoke
	a, lines := terminal(t)
	a.noBrowser, a.loginWithin = true, time.Millisecond
	if _, err := a.login(t.Context(), request); !errors.Is(err, errLogin) || !errors.Is(err, errLate) {
		t.Errorf("%v", err)
	}
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, loginFor[wire.CommandRevoke]) {
		t.Errorf("%q, %v", line, err)
	}
	for _, command := range []wire.CommandName{wire.CommandEnrol, wire.CommandJoin, wire.CommandPINSet, wire.CommandRevoke, wire.CommandConfirm} {
		if loginFor[command] == "" {
			t.Errorf("nothing for %s", command)
		}
	}
}

func printed(t *testing.T, lines *bufio.Reader) *url.URL {
	t.Helper()
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.TrimSpace(line); strings.HasPrefix(text, "https://") {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
	}
}

// What a redirect must not bring.
func TestRedirectRefused(t *testing.T) {
	t.Parallel()
	f := flow{state: "s", issuer: "https://issuer.example"}
	good := url.Values{"state": {"s"}, "code": {"c"}, "iss": {"https://issuer.example"}}
	if code, err := f.code(good); err != nil || code != "c" {
		t.Fatalf("%q, %v", code, err)
	}
	for name, change := range map[string]url.Values{
		"another state":  {"state": {"t"}, "error": {"access_denied"}},
		"no state":       {"state": {""}},
		"another issuer": {"iss": {"https://other.example"}},
		"an error":       {"error": {"access_denied"}},
		"no code":        {"code": {""}},
	} {
		q := url.Values{}
		for k, v := range good {
			q[k] = v
		}
		for k, v := range change {
			q[k] = v
		}
		code, err := f.code(q)
		if foreign := strings.HasSuffix(name, " state"); err == nil || errors.Is(err, errForeign) != foreign {
			t.Errorf("%s: %q, %v", name, code, err)
		}
	}
}

// Who does not know the state can neither end a login nor bring a code into it; who
// knows it ends it, also with the issuer's refusal.
func TestLoginOutlivesForeignRedirects(t *testing.T) {
	t.Parallel()
	request, _ := provider(t, devIssuer(t))
	a, lines := terminal(t)
	a.noBrowser = true
	done := make(chan error, 1)
	go func() {
		_, err := a.login(t.Context(), request)
		done <- err
	}()
	q := printed(t, lines).Query()
	for _, redirect := range []string{
		"", "?code=stolen&state=guessed", "?error=access_denied&state=guessed", "?error=access_denied&state=" + q.Get("state"),
	} {
		select {
		case err := <-done:
			t.Fatalf("ended before %q: %v", redirect, err)
		default:
		}
		page, err := http.Get(q.Get("redirect_uri") + redirect)
		if err != nil {
			t.Fatalf("%q: %v", redirect, err)
		}
		page.Body.Close()
		if page.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: page status %d", redirect, page.StatusCode)
		}
	}
	if err := <-done; !errors.Is(err, errLogin) || errors.Is(err, errForeign) {
		t.Errorf("ended by %v", err)
	}
}

// Endpoints that the provider names are handed to the browser and get the code.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*discovered)
		fine   bool
	}{
		"as it should be":    {func(*discovered) {}, true},
		"another issuer":     {func(d *discovered) { d.Issuer = "https://other.example" }, false},
		"an option":          {func(d *discovered) { d.AuthURL = "--help" }, false},
		"a file":             {func(d *discovered) { d.AuthURL = "file:///etc/passwd" }, false},
		"no host":            {func(d *discovered) { d.AuthURL = "https:///authorize" }, false},
		"code in the clear":  {func(d *discovered) { d.TokenURL = "http://issuer.example/token" }, false},
		"no token endpoint":  {func(d *discovered) { d.TokenURL = "" }, false},
		"no authorization's": {func(d *discovered) { d.AuthURL = "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, _ := provider(t, func(issuer string) http.Handler {
				d := discovered{Issuer: issuer, AuthURL: issuer + "/authorize", TokenURL: issuer + "/token"}
				test.change(&d)
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(d) })
			})
			hc, err := issuerClient(request.Issuer.Roots)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := discover(t.Context(), hc, request.Issuer.Issuer); (err == nil) != test.fine {
				t.Error(err)
			}
		})
	}
}

func TestLoginRefusesProvider(t *testing.T) {
	t.Parallel()
	discovery := func(issuer string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/.well-known/openid-configuration" {
				json.NewEncoder(w).Encode(discovered{Issuer: issuer, AuthURL: issuer + "/authorize", TokenURL: issuer + "/token"})
			}
		})
	}
	for name, handler := range map[string]func(string) http.Handler{
		"it shows a page to --user": discovery,
		"it has no discovery":       func(string) http.Handler { return http.NotFoundHandler() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request, _ := provider(t, handler)
			a, _ := terminal(t)
			a.user = "alice"
			if _, err := a.login(t.Context(), request); !errors.Is(err, errLogin) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("it has another certificate than configured", func(t *testing.T) {
		t.Parallel()
		request, _ := provider(t, devIssuer(t))
		request.Issuer.Roots = "" // the system's, which do not know it
		a, _ := terminal(t)
		a.user = "alice"
		if _, err := a.login(t.Context(), request); !errors.Is(err, errLogin) {
			t.Errorf("%v", err)
		}
	})
	t.Run("its configured roots do not parse", func(t *testing.T) {
		t.Parallel()
		request, _ := provider(t, devIssuer(t))
		request.Issuer.Roots = "not PEM"
		a, _ := terminal(t)
		if _, err := a.login(t.Context(), request); !errors.Is(err, errLogin) {
			t.Errorf("%v", err)
		}
	})
}
