package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/oauth2"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/wire"
)

// errLogin is why a login at the issuer failed; the enclave never saw it.
var errLogin = errors.New("login")

// discovered is what a login needs of a provider's discovery document.
type discovered struct {
	Issuer   string `json:"issuer"`
	AuthURL  string `json:"authorization_endpoint"`
	TokenURL string `json:"token_endpoint"`
}

// login is the client's LoginFunc: authorization code with PKCE on a loopback
// redirect (RFC 8252, RFC 7636), in the person's browser. With --user it asks the
// development issuer without one.
//
// It does not verify the ID token: the enclave does.
func (a *app) login(ctx context.Context, r client.LoginRequest) (string, error) {
	hc, err := issuerClient(r.Issuer.Roots)
	if err != nil {
		return "", err
	}
	d, err := discover(ctx, hc, r.Issuer.Issuer)
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errLogin, r.Issuer.Issuer, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	config := &oauth2.Config{
		ClientID:    r.ClientID,
		Endpoint:    oauth2.Endpoint{AuthURL: d.AuthURL, TokenURL: d.TokenURL, AuthStyle: oauth2.AuthStyleInParams},
		RedirectURL: "http://" + l.Addr().String() + "/callback",
		Scopes:      []string{"openid"},
	}
	f := flow{state: rand.Text(), verifier: oauth2.GenerateVerifier(), issuer: d.Issuer}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(f.verifier), oauth2.SetAuthURLParam("nonce", r.Nonce)}
	if r.Fresh {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	var code string
	if a.user != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", a.user), oauth2.SetAuthURLParam("passclave_dev_login", "1"))
		code, err = f.direct(ctx, hc, config.AuthCodeURL(f.state, options...), config.RedirectURL)
	} else {
		code, err = a.inBrowser(ctx, l, &f, config.AuthCodeURL(f.state, options...), loginFor[r.For])
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errLogin, err)
	}
	token, err := config.Exchange(context.WithValue(ctx, oauth2.HTTPClient, hc), code, oauth2.VerifierOption(f.verifier))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errLogin, err)
	}
	id, ok := token.Extra("id_token").(string)
	if !ok {
		return "", fmt.Errorf("%w: the issuer gave no ID token", errLogin)
	}
	return id, nil
}

// issuerClient trusts the roots (PEM) that the measured configuration names for the
// issuer, or the system's where it names none.
func issuerClient(roots string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(roots)) {
			return nil, fmt.Errorf("%w: the measured configuration's roots of the issuer do not parse", errLogin)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}, nil
}

func discover(ctx context.Context, hc *http.Client, issuer string) (*discovered, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	answer, err := hc.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var d discovered
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&d); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if d.Issuer != issuer {
		return nil, fmt.Errorf("discovery names another issuer, %q", d.Issuer)
	}
	// One is handed to the browser's launcher, the other gets the code.
	for _, endpoint := range []string{d.AuthURL, d.TokenURL} {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("discovery names %.100q as an endpoint, which is not https", endpoint)
		}
	}
	return &d, nil
}

// flow is one authorization request.
type flow struct{ state, verifier, issuer string }

// errForeign is a redirect that does not know this flow's state: any page in the
// browser, and any process of this machine, can send one.
var errForeign = errors.New("the redirect does not belong to this login")

// code takes the authorization code out of the redirect's parameters.
func (f *flow) code(q url.Values) (string, error) {
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.state)) != 1 {
		return "", errForeign
	}
	if iss := q.Get("iss"); iss != "" && iss != f.issuer { // RFC 9207
		return "", errors.New("the redirect came from another issuer")
	}
	if problem := q.Get("error"); problem != "" {
		return "", fmt.Errorf("the issuer says %.64q", problem)
	}
	if q.Get("code") == "" {
		return "", errors.New("the redirect brought no code")
	}
	return q.Get("code"), nil
}

// direct asks the development issuer, which answers the redirect at once.
func (f *flow) direct(ctx context.Context, hc *http.Client, address, redirect string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	answer, err := hc.Do(r)
	if err != nil {
		return "", err
	}
	answer.Body.Close()
	to, err := answer.Location()
	if err != nil {
		return "", fmt.Errorf("--user works with the development issuer only: HTTP status %d", answer.StatusCode)
	}
	q := to.Query()
	to.RawQuery = ""
	if to.String() != redirect {
		return "", errors.New("the issuer redirects elsewhere")
	}
	return f.code(q)
}

// loginWithin is how long a login may take: so long is the challenge good that its nonce binds.
const loginWithin = 10 * time.Minute

// errLate ends a login that took longer.
var errLate = fmt.Errorf("nobody logged in within %.0f minutes: try again", loginWithin.Minutes())

// loginFor says why a login is wanted.
var loginFor = map[wire.CommandName]string{
	wire.CommandEnrol:   "to make your account",
	wire.CommandJoin:    "to add this device to your account",
	wire.CommandPINSet:  "afresh, to set the PIN",
	wire.CommandConfirm: "to approve what the service has of your account",
	wire.CommandRevoke:  "to show that this device joined a day ago or more: only then it may revoke another",
}

// inBrowser shows the address and waits for the browser to come back, at most
// [loginWithin]. Redirects of others ([errForeign]) are refused and end nothing.
func (a *app) inBrowser(ctx context.Context, l net.Listener, f *flow, address, why string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.loginWithin, errLate)
	defer cancel()
	a.warn("Log in %s:\n\n  %s\n", why, address)
	if !a.noBrowser {
		openBrowser(address)
	}
	defer a.working(a.progress.label()) // what was under way goes on
	a.working("waiting for the login in the browser")
	type result struct {
		code string
		err  error
	}
	came := make(chan result, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		code, err := f.code(r.URL.Query())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err != nil {
			http.Error(w, "The login failed: "+err.Error(), http.StatusBadRequest)
		} else {
			fmt.Fprintln(w, "You are logged in. Close this page and go back to the terminal.")
		}
		if errors.Is(err, errForeign) {
			return
		}
		select {
		case came <- result{code, err}:
		default: // a second redirect changes nothing
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	select {
	case r := <-came:
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		server.Shutdown(end) // lets the browser have its page
		return r.code, r.err
	case <-ctx.Done():
		server.Close()
		return "", context.Cause(ctx)
	}
}

// openBrowser tries; where it cannot, the printed address is enough.
func openBrowser(address string) {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	cmd := exec.Command(program, address)
	if cmd.Start() == nil {
		go cmd.Wait()
	}
}
