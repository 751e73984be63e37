package issuer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/passclave/passclave/development/issuer"
)

const (
	redirectURI = "http://127.0.0.1:40001/callback"
	verifier    = "a-verifier-of-at-least-forty-three-characters"
)

// A world is an issuer on TLS with a clock that a test moves, and one browser.
type world struct {
	url     string
	issuer  *issuer.Issuer
	seconds atomic.Int64
	browser *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := issuer.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{}
	w.seconds.Store(1_800_000_000)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.issuer.ServeHTTP(rw, r) }))
	w.url = "https://" + server.Listener.Addr().String()
	w.issuer, err = issuer.New(issuer.Config{
		URL: w.url, Key: key, ClientIDs: []string{"passclave"}, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Unix(w.seconds.Load(), 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	w.browser = server.Client()
	w.browser.Jar, _ = cookiejar.New(nil)
	w.browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w
}

// question returns a good authorization request with changes; an empty value removes.
func question(changes ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "scope": {"openid"}, "client_id": {"passclave"}, "redirect_uri": {redirectURI},
		"state": {"the state"}, "nonce": {"the nonce"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"login_hint": {"alice"}, "passclave_dev_login": {"1"},
	}
	for n := 0; n < len(changes); n += 2 {
		q.Set(changes[n], changes[n+1])
		if changes[n+1] == "" {
			q.Del(changes[n])
		}
	}
	return q
}

// answer asks and returns the parameters of the redirect, nil where there was none.
func (w *world) answer(t *testing.T, q url.Values, form url.Values) (url.Values, int) {
	t.Helper()
	var response *http.Response
	var err error
	if form == nil {
		response, err = w.browser.Get(w.url + "/authorize?" + q.Encode())
	} else {
		response, err = w.browser.PostForm(w.url+"/authorize?"+q.Encode(), form)
	}
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	to, err := response.Location()
	if err != nil {
		return nil, response.StatusCode
	}
	if to.Host+to.Path != "127.0.0.1:40001/callback" {
		t.Fatalf("redirected to %s", to)
	}
	return to.Query(), response.StatusCode
}

// exchange returns the ID token, or the OAuth error.
func (w *world) exchange(t *testing.T, form url.Values) (token, problem string) {
	t.Helper()
	response, err := w.browser.PostForm(w.url+"/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct {
		IDToken string `json:"id_token"`
		Error   string `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.IDToken, body.Error
}

func codeForm(code string, changes ...string) url.Values {
	f := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"passclave"},
		"redirect_uri": {redirectURI}, "code_verifier": {verifier},
	}
	for n := 0; n < len(changes); n += 2 {
		f.Set(changes[n], changes[n+1])
	}
	return f
}

type claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Party    string `json:"azp"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	AuthTime int64  `json:"auth_time"`
	Nonce    string `json:"nonce"`
}

// login runs the whole flow and verifies the token with the keys that /jwks serves.
func (w *world) login(t *testing.T, changes ...string) claims {
	t.Helper()
	got, status := w.answer(t, question(changes...), nil)
	if got.Get("code") == "" {
		t.Fatalf("no code: %v, status %d", got, status)
	}
	return w.claims(t, got.Get("code"))
}

func (w *world) claims(t *testing.T, code string) claims {
	t.Helper()
	token, problem := w.exchange(t, codeForm(code))
	if problem != "" {
		t.Fatal(problem)
	}
	response, err := w.browser.Get(w.url + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&keys); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := parsed.Claims(keys, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := claims{
		Issuer: w.url, Subject: "alice", Audience: "passclave", Party: "passclave", Nonce: "the nonce",
		IssuedAt: 1_800_000_000, Expiry: 1_800_000_300, AuthTime: 1_800_000_000,
	}
	if got := w.login(t); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	answer, _ := w.answer(t, question(), nil)
	if answer.Get("state") != "the state" || answer.Get("iss") != w.url {
		t.Errorf("answered %v", answer)
	}

	w.seconds.Add(24 * 3600)
	if got := w.login(t); got.IssuedAt != 1_800_086_400 || got.AuthTime != 1_800_000_000 {
		t.Errorf("an old session: %+v", got)
	}
	if got := w.login(t, "prompt", "login"); got.AuthTime != 1_800_086_400 {
		t.Errorf("prompt=login: %+v", got)
	}
	w.seconds.Add(10)
	if got := w.login(t, "max_age", "9"); got.AuthTime != 1_800_086_410 {
		t.Errorf("max_age: %+v", got)
	}
	if got := w.login(t, "passclave_dev_skew", "86400"); got.IssuedAt != 1_800_172_810 || got.AuthTime != 1_800_172_810 || got.Expiry != 1_800_173_110 {
		t.Errorf("skew: %+v", got)
	}
	if got := w.login(t, "login_hint", "bob"); got.Subject != "bob" {
		t.Errorf("another user: %+v", got)
	}
}

func TestForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := question("passclave_dev_login", "", "login_hint", "")
	if _, status := w.answer(t, q, nil); status != http.StatusOK {
		t.Errorf("no page: %d", status)
	}
	if got, _ := w.answer(t, question("passclave_dev_login", "", "prompt", "none"), nil); got.Get("error") != "login_required" {
		t.Errorf("prompt=none: %v", got)
	}
	for _, user := range []string{"", "<b>", strings.Repeat("a", 65)} {
		if got, status := w.answer(t, q, url.Values{"user": {user}}); got != nil || status != http.StatusBadRequest {
			t.Errorf("user %q: %v, %d", user, got, status)
		}
	}
	got, _ := w.answer(t, q, url.Values{"user": {"carol"}})
	if c := w.claims(t, got.Get("code")); c.Subject != "carol" {
		t.Errorf("%+v", c)
	}
	if got, _ := w.answer(t, question("passclave_dev_login", "", "login_hint", "", "prompt", "none"), nil); got.Get("code") == "" {
		t.Errorf("the session is not used: %v", got)
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ name, value, problem string }{
		{"response_type", "token", "unsupported_response_type"},
		{"response_mode", "fragment", "invalid_request"},
		{"scope", "profile", "invalid_scope"},
		{"code_challenge", "", "invalid_request"},
		{"code_challenge_method", "plain", "invalid_request"},
		{"code_challenge_method", "", "invalid_request"},
		{"prompt", "none login", "invalid_request"},
		{"max_age", "-1", "invalid_request"},
		{"passclave_dev_skew", "-1", "invalid_request"},
		{"passclave_dev_skew", "315360001", "invalid_request"},
		{"request_uri", "https://evil.example", "invalid_request"},
		{"request", "a JWT", "invalid_request"},
	} {
		if got, _ := w.answer(t, question(c.name, c.value), nil); got.Get("error") != c.problem || got.Has("code") || got.Get("state") != "the state" {
			t.Errorf("%s=%s: %v", c.name, c.value, got)
		}
	}
	twice := question()
	twice.Add("nonce", "another")
	if got, _ := w.answer(t, twice, nil); got.Get("error") != "invalid_request" {
		t.Errorf("nonce twice: %v", got)
	}
	// These must not be redirected at all.
	for _, c := range [][2]string{
		{"client_id", "other"},
		{"redirect_uri", ""},
		{"redirect_uri", "https://127.0.0.1:40001/callback"},
		{"redirect_uri", "http://localhost:40001/callback"},
		{"redirect_uri", "http://10.0.0.1:40001/callback"},
		{"redirect_uri", "http://evil.example:40001/callback"},
		{"redirect_uri", "http://127.0.0.1@evil.example:40001/callback"},
		{"redirect_uri", "http://127.0.0.1/callback"},
		{"redirect_uri", "http://user@127.0.0.1:40001/callback"},
		{"redirect_uri", "http://127.0.0.1:40001/callback#fragment"},
	} {
		if got, status := w.answer(t, question(c[0], c[1]), nil); got != nil || status != http.StatusBadRequest {
			t.Errorf("%s=%s: %v, %d", c[0], c[1], got, status)
		}
	}
}

func TestTokenRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ name, value, problem string }{
		{"grant_type", "password", "unsupported_grant_type"},
		{"code", "another", "invalid_grant"},
		{"client_id", "other", "invalid_grant"},
		{"redirect_uri", "http://127.0.0.1:40002/callback", "invalid_grant"},
		{"code_verifier", "another verifier", "invalid_grant"},
	} {
		answer, _ := w.answer(t, question(), nil)
		if _, problem := w.exchange(t, codeForm(answer.Get("code"), c.name, c.value)); problem != c.problem {
			t.Errorf("%s: %q, want %q", c.name, problem, c.problem)
		}
	}
	answer, _ := w.answer(t, question(), nil)
	w.exchange(t, codeForm(answer.Get("code")))
	if _, problem := w.exchange(t, codeForm(answer.Get("code"))); problem != "invalid_grant" {
		t.Errorf("a code used twice: %q", problem)
	}
	answer, _ = w.answer(t, question(), nil)
	w.seconds.Add(61)
	if _, problem := w.exchange(t, codeForm(answer.Get("code"))); problem != "invalid_grant" {
		t.Errorf("a late code: %q", problem)
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	response, err := w.browser.Get(w.url + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var d map[string]any
	if err := json.NewDecoder(response.Body).Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d["issuer"] != w.url || d["jwks_uri"] != w.url+"/jwks" || d["authorization_endpoint"] != w.url+"/authorize" {
		t.Errorf("%v", d)
	}
}

func TestKeyIsKept(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	first, err := issuer.LoadKey(folder)
	if err != nil {
		t.Fatal(err)
	}
	second, err := issuer.LoadKey(folder)
	if err != nil || !first.Equal(second) {
		t.Errorf("another key after a restart: %v", err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := jose.JSONWebKey{Key: p384}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	public, err := jose.JSONWebKey{Key: &first.PublicKey}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "{", `{"kty":"oct","k":"AAAA"}`, string(other), string(public)} {
		if err := os.WriteFile(filepath.Join(folder, "issuer-key.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := issuer.LoadKey(folder); err == nil {
			t.Errorf("a key from %q", content)
		}
	}
}

func TestConfigIsWhole(t *testing.T) {
	t.Parallel()
	key, err := issuer.LoadKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*issuer.Config){
		"http":        func(c *issuer.Config) { c.URL = "http://issuer.example" },
		"no URL":      func(c *issuer.Config) { c.URL = "https://%zz" },
		"no host":     func(c *issuer.Config) { c.URL = "https:" },
		"a query":     func(c *issuer.Config) { c.URL = "https://issuer.example?q" },
		"a fragment":  func(c *issuer.Config) { c.URL = "https://issuer.example#f" },
		"with a path": func(c *issuer.Config) { c.URL = "https://issuer.example/" },
		"no key":      func(c *issuer.Config) { c.Key = nil },
		"no clients":  func(c *issuer.Config) { c.ClientIDs = nil },
		"no clock":    func(c *issuer.Config) { c.Now = nil },
		"no log":      func(c *issuer.Config) { c.Log = nil },
	} {
		c := issuer.Config{URL: "https://issuer.example", Key: key, ClientIDs: []string{"x"}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		if _, err := issuer.New(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := issuer.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
