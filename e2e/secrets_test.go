package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/passclave/passclave/client"
)

// held is a profile, as far as it holds secrets.
type held struct {
	Keys struct {
		Device     []byte `cbor:"1,keyasint"`
		Encryption []byte `cbor:"2,keyasint"`
	} `cbor:"7,keyasint"`
	Epochs []struct {
		Epoch uint64 `cbor:"1,keyasint"`
		Vault []byte `cbor:"2,keyasint"`
		Notes []byte `cbor:"3,keyasint"`
	} `cbor:"13,keyasint"`
	Feed []byte `cbor:"19,keyasint"`
}

// secrets are those of a service and of devices that stay members.
func (s *service) secrets(devices ...*device) map[string][]byte {
	s.t.Helper()
	out := map[string][]byte{
		"the PIN":              []byte(pin),
		"a wrong PIN":          []byte(wrongPIN),
		"the local code":       []byte(code),
		"a token of the login": []byte("eyJhbGciOi"),
	}
	for _, k := range s.keks {
		out["KEK "+k.Version] = k.Key
	}
	for n, d := range devices {
		data, err := d.storage.Load(s.t.Context(), client.ItemProfile)
		if err != nil {
			s.t.Fatal(err)
		}
		var p held
		if err := cbor.Unmarshal(data, &p); err != nil {
			s.t.Fatal(err)
		}
		of := func(what string) string { return fmt.Sprintf("%s of device %d", what, n) }
		out[of("device key")], out[of("encryption key")], out[of("feed token")] = p.Keys.Device, p.Keys.Encryption, p.Feed
		for _, e := range p.Epochs {
			out[of(fmt.Sprint("vault secret ", e.Epoch))], out[of(fmt.Sprint("notes' key ", e.Epoch))] = e.Vault, e.Notes
		}
		if len(p.Epochs) == 0 {
			s.t.Fatal("a device without a vault secret")
		}
	}
	for what, secret := range out {
		if len(secret) < 6 {
			s.t.Fatalf("%s has %d bytes: the profile's format has changed", what, len(secret))
		}
	}
	return out
}

// forms are the ways in which a secret may be written. Ends of base64 depend on what
// surrounds it: they are left out.
func forms(secret []byte) map[string][]byte {
	out := map[string][]byte{
		"raw": secret,
		"hex": []byte(hex.EncodeToString(secret)),
		"HEX": []byte(strings.ToUpper(hex.EncodeToString(secret))),
	}
	if len(secret) >= 16 {
		whole := secret[:len(secret)/3*3]
		out["base64"] = []byte(base64.StdEncoding.EncodeToString(whole))
		out["base64url"] = []byte(base64.URLEncoding.EncodeToString(whole))
		out["decimal"] = []byte(strings.Trim(fmt.Sprint(whole), "[]"))
	}
	return out
}
