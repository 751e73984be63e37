package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"

	"github.com/passclave/passclave/wire"
)

// hello is a platform authenticator as far as the fake looks at one.
type hello struct{ credential wire.PlatformCredential }

func (h *hello) Credential() ([]byte, *wire.PlatformCredential) { return nil, &h.credential }

func (h *hello) Verify(_ context.Context, message []byte) (*wire.UserVerification, error) {
	challenge := sha256.Sum256(message)
	return &wire.UserVerification{Platform: &wire.PlatformAssertion{CredentialID: h.credential.ID, ClientDataJSON: challenge[:]}}, nil
}

// A platform credential that takes the UV key's place proves that it is there.
func TestReplaceUVByPlatform(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	next := &hello{wire.PlatformCredential{ID: []byte("id"), PublicKey: []byte("cose")}}
	if err := d.ReplaceUV(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	k := f.account.devices[0].keys
	if k.Platform == nil || !bytes.Equal(k.Platform.PublicKey, next.credential.PublicKey) || len(k.UV) > 0 {
		t.Fatalf("keys %+v", k)
	}
	if d.options.UV != UserVerifier(next) {
		t.Fatal("the device goes on with its old UV key")
	}
}

// The list of devices comes with the vault secret that authenticates them.
func TestDevicesBringsVaultSecret(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	brought := false
	f.respond = func(b *wire.Body, _ *wire.Response) {
		if b.Commands[0].Name == wire.CommandDevices {
			brought = bytes.Equal(b.VaultSecret, f.account.vault[f.account.epoch])
		}
	}
	if _, err := d.Devices(t.Context()); err != nil || !brought {
		t.Fatalf("the vault secret came: %v, %v", brought, err)
	}
}
