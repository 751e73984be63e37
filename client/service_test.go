package client

import (
	"net/http"
	"strings"
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestSecretsNotInErrors(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/attestation", "/v1/request", "/v1/feed"} {
		f := newFake(t)
		d := f.enrolled()
		f.refuse = func(p string) (int, wire.Code) {
			if p == path {
				return -1, ""
			}
			return 0, ""
		}
		d.session = nil
		_, err := d.Sync(t.Context())
		wantCode(t, err, wire.CodeUnavailable)
		token, _ := wire.Base64(d.p.Feed).MarshalText()
		for _, secret := range []string{string(d.p.epoch().Vault), string(d.p.Feed), string(token), d.p.Account.String(), testCode} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v holds a secret or the account", err)
			}
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNoRedirect(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	d.service.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "service.test" {
			t.Errorf("followed to %s", r.URL.Host)
		}
		a := answerHTTP(http.StatusTemporaryRedirect, nil)
		a.Header.Set("Location", "http://elsewhere.test/")
		return a, nil
	})
	_, err := d.Devices(t.Context())
	wantCode(t, err, wire.CodeUnsealedAnswer)
	_, err = d.Attest(t.Context())
	wantCode(t, err, wire.CodeUnsealedAnswer)
}

func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.sealed = func([]byte) []byte { return make([]byte, maxResponse+1) }
	_, err := d.Devices(t.Context())
	wantCode(t, err, wire.CodeTooLarge)
}

func TestServiceURL(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "service.test", "ftp://service.test", "http://", "http://a:b@service.test", "http://service.test/?q", "http://service.test/#f"} {
		if _, err := newService(u, nil, nil); wire.CodeOf(err) != wire.CodeArgument {
			t.Errorf("%q: %v", u, err)
		}
	}
	if _, err := newService("http://service.test/", nil, nil); err != nil {
		t.Error(err)
	}
}
