package keyrelease

import (
	"context"
	"net/netip"
	"strings"

	"github.com/passclave/passclave/keyrelease/imds"
	"github.com/passclave/passclave/wire"
)

// Identity returns what gives access tokens for the vault of a key service, as
// [Client.Bearer] wants it: those of the machine's managed identity, from the metadata
// service at a base URL ([imds.Base]). It is nil where the key service names no identity.
func Identity(s wire.KeyService, metadata string) func(context.Context) (string, error) {
	if s.Identity == "" {
		return nil
	}
	id := s.Identity
	if id == wire.IdentitySystem {
		id = ""
	}
	return imds.New(metadata, id, audience(s.Vault)).Token
}

// audience is whom access tokens for a vault are for: its host without the vault's own
// name, as https://managedhsm.azure.net for https://NAME.managedhsm.azure.net, and
// https://vault.azure.net for https://NAME.vault.azure.net, in other clouds likewise. A
// host of another form is its own audience.
func audience(vault string) string {
	u, err := base(vault)
	if err != nil {
		return "" // Release says so
	}
	host := u.Hostname()
	_, domain, _ := strings.Cut(host, ".")
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(domain, ".") {
		return "https://" + host
	}
	return "https://" + domain
}
