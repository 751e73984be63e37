package keyrelease

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/passclave/passclave/wire"
)

// Access tokens are asked for the vault's domain, in every cloud.
func TestAudience(t *testing.T) {
	t.Parallel()
	for vault, want := range map[string]string{
		"https://kek.managedhsm.azure.net":         "https://managedhsm.azure.net",
		"https://kek.vault.azure.net/":             "https://vault.azure.net",
		"https://kek.vault.azure.net:443":          "https://vault.azure.net",
		"https://kek.managedhsm.usgovcloudapi.net": "https://managedhsm.usgovcloudapi.net",
		"https://127.0.0.1:8443":                   "https://127.0.0.1",
		"https://[::1]:8443":                       "https://::1",
		"https://broker.test":                      "https://broker.test",
		"http://kek.vault.azure.net":               "",
	} {
		if got := audience(vault); got != want {
			t.Errorf("%s: %s, want %s", vault, got, want)
		}
	}
	if Identity(wire.KeyService{Vault: "https://kek.vault.azure.net"}, "http://127.0.0.1:1") != nil {
		t.Error("a token where no identity is named")
	}
}

// The metadata service is asked for the identity that the configuration names, or for the
// machine's own, and for a token for the vault.
func TestIdentity(t *testing.T) {
	t.Parallel()
	for identity, want := range map[string]url.Values{
		wire.IdentitySystem: {"api-version": {"2018-02-01"}, "resource": {"https://managedhsm.azure.net"}},
		"a-client-id":       {"api-version": {"2018-02-01"}, "resource": {"https://managedhsm.azure.net"}, "client_id": {"a-client-id"}},
	} {
		var asked url.Values
		metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.Query()
			w.Write([]byte(`{"access_token":"a-token","expires_in":"3599","token_type":"Bearer"}`))
		}))
		t.Cleanup(metadata.Close)
		bearer := Identity(wire.KeyService{Vault: "https://kek.managedhsm.azure.net", Identity: identity}, metadata.URL)
		if token, err := bearer(t.Context()); err != nil || token != "a-token" || asked.Encode() != want.Encode() {
			t.Errorf("%s: %q, %v, asked %v", identity, token, err, asked)
		}
	}
}
