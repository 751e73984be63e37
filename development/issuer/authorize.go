package issuer

import (
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cookie names the browser's session.
const cookie = "passclave_dev_session"

// maxSkew bounds passclave_dev_skew: ten years of 365 days, in seconds.
const maxSkew = 10 * 365 * 24 * 3600

// A request is a checked authorization request (OpenID Connect Core, section 3.1.2.1).
type request struct {
	clientID    string
	redirect    *url.URL
	state       string
	nonce       string
	challenge   string // PKCE S256
	loginHint   string
	direct      bool // passclave_dev_login=1
	promptLogin bool
	promptNone  bool
	maxAge      *time.Duration
	skew        time.Duration
}

// authorize answers both the question (GET) and the form (POST).
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect := loopback(q.Get("redirect_uri"))
	if redirect == nil || !i.knownClient(q.Get("client_id")) {
		// Not to be redirected anywhere (RFC 6749, section 4.1.2.1).
		http.Error(w, "unknown client_id, or redirect_uri is not http://127.0.0.1:PORT/…", http.StatusBadRequest)
		return
	}
	req, problem := parseRequest(q, redirect)
	if problem != "" {
		i.redirect(w, r, req, url.Values{"error": {problem}})
		return
	}
	now := i.config.Now()
	asks := r.Method == http.MethodGet
	s, ok := i.session(r)
	switch {
	case asks && ok && usable(req, s, now):
		i.grant(w, r, req, s)
		return
	case req.promptNone:
		i.redirect(w, r, req, url.Values{"error": {"login_required"}})
		return
	case asks && !req.direct:
		i.form(w, req, http.StatusOK, "")
		return
	}
	user := req.loginHint
	if !asks {
		user = r.PostFormValue("user")
	}
	if !userName.MatchString(user) {
		i.form(w, req, http.StatusBadRequest, "A user name has 1 to 64 letters, digits and . _ @ + -")
		return
	}
	s = session{user: user, authTime: now}
	i.logIn(w, s)
	i.grant(w, r, req, s)
}

var userName = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,64}$`)

// parseRequest checks all but client and redirect. With a problem, an OAuth error
// code, the request is good for the error's redirect only.
func parseRequest(q url.Values, redirect *url.URL) (req *request, problem string) {
	req = &request{
		clientID:  q.Get("client_id"),
		redirect:  redirect,
		state:     q.Get("state"),
		nonce:     q.Get("nonce"),
		challenge: q.Get("code_challenge"),
		loginHint: q.Get("login_hint"),
		direct:    q.Get("passclave_dev_login") == "1",
	}
	for name, values := range q {
		if len(values) > 1 || name == "request" || name == "request_uri" {
			return req, "invalid_request"
		}
	}
	prompts := strings.Fields(q.Get("prompt"))
	req.promptNone, req.promptLogin = slices.Contains(prompts, "none"), slices.Contains(prompts, "login")
	switch {
	case q.Get("response_type") != "code":
		return req, "unsupported_response_type"
	case q.Has("response_mode") && q.Get("response_mode") != "query":
		return req, "invalid_request"
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return req, "invalid_scope"
	case q.Get("code_challenge_method") != "S256" || len(req.challenge) != 43:
		return req, "invalid_request"
	case req.promptNone && len(prompts) > 1:
		return req, "invalid_request"
	}
	if age, given, ok := seconds(q, "max_age"); !ok {
		return req, "invalid_request"
	} else if given {
		req.maxAge = &age
	}
	skew, _, ok := seconds(q, "passclave_dev_skew")
	if !ok {
		return req, "invalid_request"
	}
	req.skew = skew
	return req, ""
}

// seconds reads a whole number from 0 to maxSkew.
func seconds(q url.Values, name string) (d time.Duration, given, ok bool) {
	if !q.Has(name) {
		return 0, false, true
	}
	n, err := strconv.ParseUint(q.Get(name), 10, 32)
	return time.Duration(n) * time.Second, true, err == nil && n <= maxSkew
}

// loopback returns the redirect URI if it is http to a loopback address literal
// with a port (RFC 8252, sections 7.3 and 8.3: not "localhost"), else nil.
func loopback(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Fragment != "" || u.User != nil || u.Port() == "" {
		return nil
	}
	if a, err := netip.ParseAddr(u.Hostname()); err != nil || !a.IsLoopback() {
		return nil
	}
	return u
}

// usable reports whether the session answers the request without a new login.
func usable(req *request, s session, now time.Time) bool {
	return !req.promptLogin &&
		(req.loginHint == "" || req.loginHint == s.user) &&
		(req.maxAge == nil || now.Sub(s.authTime) <= *req.maxAge)
}

func (i *Issuer) session(r *http.Request) (session, bool) {
	c, err := r.Cookie(cookie)
	if err != nil {
		return session{}, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s, ok := i.sessions[c.Value]
	return s, ok
}

func (i *Issuer) logIn(w http.ResponseWriter, s session) {
	id := rand.Text()
	i.mu.Lock()
	remember(i.sessions, id, s)
	i.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
	i.config.Log.Info("login without proof", "user", s.user)
}

// grant sends the browser back with a code for the session's user.
func (i *Issuer) grant(w http.ResponseWriter, r *http.Request, req *request, s session) {
	code := rand.Text()
	i.mu.Lock()
	remember(i.codes, code, grant{request: *req, session: s, until: i.config.Now().Add(codeLifetime)})
	i.mu.Unlock()
	i.redirect(w, r, req, url.Values{"code": {code}})
}

// redirect answers with state and the issuer's name (RFC 9207) beside the given values.
func (i *Issuer) redirect(w http.ResponseWriter, r *http.Request, req *request, values url.Values) {
	u := *req.redirect
	q := u.Query()
	for name, value := range values {
		q[name] = value
	}
	if req.state != "" {
		q.Set("state", req.state)
	}
	q.Set("iss", i.config.URL)
	u.RawQuery = q.Encode()
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

//go:embed login.html
var loginHTML string

var loginPage = template.Must(template.New("login").Parse(loginHTML))

// form shows the login page. It posts to the address it was fetched from, so that
// the authorization request comes along.
func (i *Issuer) form(w http.ResponseWriter, req *request, status int, problem string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	loginPage.Execute(w, map[string]string{"Client": req.clientID, "User": req.loginHint, "Problem": problem})
}

func (i *Issuer) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("Passclave's DEVELOPMENT issuer. It lets anyone sign in as anyone.\n\n" +
		i.config.URL + "/.well-known/openid-configuration\n"))
}
