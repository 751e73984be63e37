package pkcs11

import (
	"bytes"
	"testing"

	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// What is read encodes to itself again.
func FuzzMetadata(f *testing.F) {
	good := metadata{Format: metadataFormat, Name: "kek", ID: "00ff", Revision: 3, Created: 1, Enabled: true, Policy: releasepolicy.Require("https://authority.test", map[string]any{"claim": "a"})}
	if _, err := parseMetadata(good.encode()); err != nil {
		f.Fatal(err)
	}
	f.Add(good.encode())
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMetadata(data)
		if err != nil {
			if err != ErrCorrupt || m != nil {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(m.encode(), data) {
			t.Fatal("malleable")
		}
	})
}
