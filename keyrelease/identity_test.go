package keyrelease

import (
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
