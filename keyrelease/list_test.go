package keyrelease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	t.Parallel()
	item := func(v *vault, id string, created int) string {
		return fmt.Sprintf(`{"kid":%q,"attributes":{"enabled":true,"created":%d}}`, v.kid(id), created)
	}
	for name, c := range map[string]struct {
		body func(*vault) string
		want Reason
	}{
		"empty": {func(*vault) string { return `{"value":[]}` }, ReasonNoVersion},
		"all disabled": {func(v *vault) string {
			return `{"value":[{"kid":"` + v.kid("a1") + `","attributes":{"enabled":false}}]}`
		}, ReasonNoVersion},
		"other vault": {func(*vault) string {
			return `{"value":[{"kid":"https://evil.test/keys/passclave-kek/a1","attributes":{"enabled":true}}]}`
		}, ReasonAnswer},
		"other key": {func(v *vault) string {
			return `{"value":[{"kid":"` + v.url + `/keys/other/a1","attributes":{"enabled":true}}]}`
		}, ReasonAnswer},
		"path in version":  {func(v *vault) string { return `{"value":[` + item(v, "a1/../../x", 1) + `]}` }, ReasonAnswer},
		"query in version": {func(v *vault) string { return `{"value":[` + item(v, "a1?x=", 1) + `]}` }, ReasonAnswer},
		"version twice":    {func(v *vault) string { return `{"value":[` + item(v, "a1", 1) + `,` + item(v, "a1", 1) + `]}` }, ReasonAnswer},
		"too many": {func(v *vault) string {
			var items []string
			for i := range maxVersions + 1 {
				items = append(items, item(v, fmt.Sprint("v", i), i))
			}
			return `{"value":[` + strings.Join(items, ",") + `]}`
		}, ReasonAnswer},
		"next page elsewhere": {func(v *vault) string {
			return `{"value":[` + item(v, "a1", 1) + `],"nextLink":"https://evil.test/keys"}`
		}, ReasonAnswer},
		"next page over http": {func(v *vault) string {
			return `{"value":[],"nextLink":"` + strings.Replace(v.url, "https", "http", 1) + `/x/versions"}`
		}, ReasonAnswer},
		"endless":   {func(v *vault) string { return `{"value":[],"nextLink":"` + v.url + `/x/versions"}` }, ReasonAnswer},
		"not JSON":  {func(*vault) string { return `<html>` }, ReasonAnswer},
		"too large": {func(v *vault) string { return `{"value":[` + item(v, "a1", 100) + `]}` + strings.Repeat(" ", maxBody) }, ReasonAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, "a1")
			v.before = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/versions") {
					w.Write([]byte(c.body(v)))
					return true
				}
				return false
			}
			_, err := v.client().Release(context.Background())
			var e *Error
			if !errors.As(err, &e) || e.Reason != c.want || e.Step != StepList {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	v := newVault(t, "a1", "b2")
	v.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/versions") {
			return false
		}
		id, created, next := "b2", 101, `"`+v.url+r.URL.Path+`?api-version=7.4&$skiptoken=x"`
		if r.URL.Query().Has("$skiptoken") {
			id, created, next = "a1", 100, `null`
		}
		fmt.Fprintf(w, `{"value":[{"kid":%q,"attributes":{"enabled":true,"created":%d}}],"nextLink":%s}`, v.kid(id), created, next)
		return true
	}
	keks, err := v.client().Release(context.Background())
	if err != nil || len(keks) != 2 || keks[0].Version != "a1" || keks[1].Version != "b2" {
		t.Errorf("got %v, %v", keks, err)
	}
}

// Key Vault writes the default port into nextLink, and hosts stand in its IDs in lower case,
// however the configuration writes them (REST reference, example of "Get Key Versions").
func TestDefaultPort(t *testing.T) {
	t.Parallel()
	c := newVault(t, "a1").client()
	for _, configured := range []string{"https://MyVault.vault.azure.net", "https://myvault.vault.azure.net:443"} {
		c.Service.Vault = configured
		s, e := c.session()
		if e != nil {
			t.Fatal(e)
		}
		s.transport.http.Transport = pages{
			"https://myvault.vault.azure.net/keys/passclave-kek/versions?api-version=7.4": `{"value":[{"kid":"https://myvault.vault.azure.net/keys/passclave-kek/b2","attributes":{"enabled":true,"created":2}}],
				"nextLink":"https://myvault.vault.azure.net:443/keys/passclave-kek/versions?api-version=7.4&$skiptoken=eyJO&maxresults=1"}`,
			"https://myvault.vault.azure.net/keys/passclave-kek/versions?api-version=7.4&$skiptoken=eyJO&maxresults=1": `{"value":[{"kid":"https://myvault.vault.azure.net:443/keys/passclave-kek/a1","attributes":{"enabled":true,"created":1}}],"nextLink":null}`,
		}
		versions, e := s.versions(t.Context())
		if e != nil || len(versions) != 2 {
			t.Fatalf("%s: %v, %v", configured, versions, e)
		}
		for i, kid := range []string{"https://myvault.vault.azure.net/keys/passclave-kek/a1", "https://myvault.vault.azure.net/keys/passclave-kek/b2"} {
			if versions[i].kid != kid {
				t.Errorf("%s: version %d is %q", configured, i, versions[i].kid)
			}
		}
	}
	for _, kid := range []string{"https://myvault.vault.azure.net:443/keys/k/a1", "https://myvault.vault.azure.net/keys/k/a1"} {
		payload := fmt.Sprintf(`{"request":{"kid":%q},"response":{"key":{"key":{"kid":%q}}}}`, kid, kid)
		if _, e := readPayload([]byte(payload), expected{kid: "https://myvault.vault.azure.net/keys/k/a1"}); e != nil {
			t.Errorf("%s: %v", kid, e)
		}
	}
	for _, other := range []string{"https://myvault.vault.azure.net:8443/keys/k/a1", "http://myvault.vault.azure.net:443/keys/k/a1", "https://myvault.vault.azure.net/keys/K/a1"} {
		if canonical(other) == "https://myvault.vault.azure.net/keys/k/a1" {
			t.Errorf("%s counts as the same", other)
		}
	}
}

// pages answers GETs by URL.
type pages map[string]string

func (p pages) RoundTrip(r *http.Request) (*http.Response, error) {
	body, ok := p[r.URL.String()]
	if !ok {
		return nil, fmt.Errorf("nobody has %s", r.URL)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}
