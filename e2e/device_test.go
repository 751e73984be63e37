package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// What the person knows, and what a thief tries.
const (
	pin      = "493827"
	newPIN   = "615243"
	wrongPIN = "274916"
	code     = "local code"
)

// device is a person's device.
type device struct {
	*client.Device
	t       testing.TB
	storage *client.MemoryStorage
	skew    atomic.Int64 // seconds by which the issuer dates logins into the future
	posts   atomic.Int64 // requests that left it
}

// place is where a service can be reached.
type place struct {
	url       string
	policy    []byte
	transport http.RoundTripper
}

func (s *service) place() place { return place{s.url, s.policy, s.transport} }

// newDevice makes a device without an account.
func (s *service) newDevice(user string) *device { return newDevice(s.t, s.place(), user) }

func newDevice(t testing.TB, p place, user string) *device {
	t.Helper()
	d := &device{t: t, storage: &client.MemoryStorage{}}
	var err error
	d.Device, err = client.New(t.Context(), p.url, p.policy, d.options(p, user))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *device) options(p place, user string) client.Options {
	return client.Options{
		Storage:  d.storage,
		HTTP:     &http.Client{Transport: counting{p.transport, &d.posts}},
		Code:     func(context.Context, client.CodeRequest) (string, error) { return code, nil },
		CodeCost: cheap,
		Login: func(ctx context.Context, r client.LoginRequest) (string, error) {
			return login(ctx, r, user, d.skew.Load())
		},
	}
}

// reopened is the device after its process ended.
func (d *device) reopened(p place, user string) *device {
	d.t.Helper()
	again := &device{t: d.t, storage: d.storage}
	var err error
	if again.Device, err = client.Open(d.t.Context(), again.options(p, user)); err != nil {
		d.t.Fatal(err)
	}
	return again
}

// counting counts sealed requests.
type counting struct {
	next  http.RoundTripper
	posts *atomic.Int64
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		c.posts.Add(1)
	}
	return c.next.RoundTrip(r)
}

// enrolled makes an account with one device.
func (s *service) enrolled(user string) *device {
	s.t.Helper()
	d := s.newDevice(user)
	if _, err := d.Enrol(s.t.Context(), "laptop", pin); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// joined adds a device to an account by PIN.
func (s *service) joined(user, name, pin string) *device {
	s.t.Helper()
	d := s.newDevice(user)
	if _, err := d.Join(s.t.Context(), name, pin); err != nil {
		s.t.Fatal(err)
	}
	d.sync()
	return d
}

func (d *device) sync() *client.SyncReport {
	d.t.Helper()
	r, err := d.Sync(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

func site(user string) wire.Create {
	return wire.Create{RPID: "site.test", UserHandle: []byte(user), UserName: user, Algorithms: []int64{-7}}
}

// passkeysOf returns the passkeys of a user at [site].
func (d *device) passkeysOf(user string) (out []client.Passkey) {
	d.t.Helper()
	l, err := d.List(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	if l.Missing != 0 || l.Stale {
		d.t.Errorf("the listing lacks %d records, stale: %v", l.Missing, l.Stale)
	}
	for _, k := range l.Passkeys {
		if k.Metadata.UserName == user {
			out = append(out, k)
		}
	}
	return out
}

// counted counts the kinds of the account's history.
func (d *device) counted() map[ledger.Kind]uint64 {
	d.t.Helper()
	h, err := d.History(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	kinds := map[ledger.Kind]uint64{}
	for _, e := range h {
		if e.Note == nil {
			d.t.Fatalf("entry %d: a note that this device cannot read", e.Sequence)
		}
		kinds[e.Note.Kind]++
	}
	return kinds
}

func wantCode(t testing.TB, err error, want wire.Code) {
	t.Helper()
	if wire.CodeOf(err) != want {
		t.Fatalf("got %v, want %q", err, want)
	}
}

// wantLeft demands that a guess was refused with so many attempts left.
func wantLeft(t testing.TB, err error, want wire.Code, left uint64) {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != want || e.AttemptsLeft == nil || *e.AttemptsLeft != left {
		t.Fatalf("got %v, want %s with %d attempts left", err, want, left)
	}
}

// typed demands success or a refusal that a program can tell apart.
func typed(t testing.TB, err error) {
	t.Helper()
	var e *wire.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("an error without a code: %v", err)
	}
}

// login is the authorization code flow with PKCE at the development issuer.
func login(ctx context.Context, r client.LoginRequest, user string, skew int64) (string, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(r.Issuer.Roots))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	c := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	const redirect = "http://127.0.0.1:1/callback"
	q := url.Values{
		"response_type": {"code"}, "scope": {"openid"}, "client_id": {r.ClientID}, "redirect_uri": {redirect},
		"state": {"state"}, "nonce": {r.Nonce}, "login_hint": {user}, "passclave_dev_login": {"1"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"passclave_dev_skew": {fmt.Sprint(skew)},
	}
	if r.Fresh {
		q.Set("prompt", "login")
	}
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Issuer.Issuer+"/authorize?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	answer, err := c.Do(get)
	if err != nil {
		return "", err
	}
	answer.Body.Close()
	to, err := answer.Location()
	if err != nil {
		return "", err
	}
	answer, err = c.PostForm(r.Issuer.Issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "client_id": {r.ClientID},
		"redirect_uri": {redirect}, "code_verifier": {verifier},
	})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var token struct {
		ID string `json:"id_token"`
	}
	return token.ID, json.NewDecoder(answer.Body).Decode(&token)
}
