package client

import (
	"bytes"
	"testing"

	"github.com/passclave/passclave/enclave/passkey"
	"github.com/passclave/passclave/wire"
)

// What is rebuilt of a passkey's metadata is what the enclave made, byte for byte.
func TestRebuiltIsTheEnclaves(t *testing.T) {
	t.Parallel()
	if AAGUID != passkey.AAGUID {
		t.Error("another AAGUID than the enclave's")
	}
	c := site("a.test", "alice")
	s, m, err := passkey.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	for _, uv := range []bool{true, false} {
		want, err := s.AttestationObject(m.CredentialID, uv)
		if err != nil {
			t.Fatal(err)
		}
		if got := attestationObject(m, uv); !bytes.Equal(got, want) {
			t.Errorf("UV %v: got %x, want %x", uv, got, want)
		}
	}
}

// The record behind a repeated create must be of what was asked for.
func TestRebuildRefusesAnother(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*wire.Metadata){
		"site":    func(m *wire.Metadata) { m.RPID = "b.test" },
		"user":    func(m *wire.Metadata) { m.UserHandle = []byte("bob") },
		"name":    func(m *wire.Metadata) { m.UserName = "bob" },
		"created": func(m *wire.Metadata) { m.Created++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			d := f.enrolled()
			f.lose = func(n wire.CommandName) bool {
				if n != wire.CommandCreate || f.count(n) != 1 {
					return false
				}
				for _, k := range f.account.records {
					changed := k.changed
					change(&k.metadata)
					version := k.record.Version
					f.put(k)
					k.record.Version, k.changed = version, changed
					k.record.Metadata = wire.SealBox(wire.MetadataKey(f.account.vault[1]), wire.LabelMetadata, f.scope(1),
						wire.PadBox(wire.Marshal(k.metadata), wire.MetadataBucket), k.record.Handle, version)
					k.encoded = wire.Marshal(k.record)
				}
				f.list()
				return true
			}
			_, err := d.Create(t.Context(), site("a.test", "alice"))
			wantCode(t, err, wire.CodeConflict)
		})
	}
}
