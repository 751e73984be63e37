package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/passclave/passclave/wire"
)

// AAGUID names Passclave as the make of the authenticator: the enclave's own, which
// a test compares.
var AAGUID = [16]byte{0xba, 0xb6, 0x0f, 0xe8, 0xc1, 0x45, 0x4a, 0xda, 0x94, 0x56, 0xe7, 0x7d, 0x30, 0x16, 0xb2, 0x60}

// rebuild gives the result of a create whose answer was lost, from the record that
// it left. The record must be of what was asked for.
func (d *Device) rebuild(ctx context.Context, c *wire.Create, h *wire.Handle) (*Created, error) {
	if h == nil {
		return nil, wire.Errorf(wire.CodeMalformed, "the outcome of a create has no handle")
	}
	k, err := d.find(ctx, *h)
	if err != nil {
		return nil, after(err)
	}
	m := &k.Metadata
	if m.RPID != c.RPID || !bytes.Equal(m.UserHandle, c.UserHandle) || m.UserName != c.UserName || m.Created != c.Created {
		return nil, wire.Errorf(wire.CodeConflict, "the passkey made is not the one asked for")
	}
	return &Created{
		Handle: k.Handle, Version: k.Version, CredentialID: m.CredentialID,
		AttestationObject: attestationObject(m, true), Rebuilt: true,
	}, nil
}

// attestationObject is the answer to create with the statement format "none"
// (WebAuthn L3, section 6.5.4), which nobody signs: a pure function of a passkey's
// metadata. userVerified becomes the UV flag; a create always has it.
func attestationObject(m *wire.Metadata, userVerified bool) []byte {
	flags := byte(0x01 | 0x08 | 0x10 | 0x40) // UP, BE, BS, AT
	if userVerified {
		flags |= 0x04
	}
	rp := sha256.Sum256([]byte(m.RPID))
	data := append(rp[:], flags, 0, 0, 0, 0)
	data = append(data, AAGUID[:]...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(m.CredentialID)))
	data = append(data, m.CredentialID...)
	data = append(data, m.PublicKey...)
	return wire.Marshal(struct {
		Format    string   `cbor:"fmt"`
		Statement struct{} `cbor:"attStmt"`
		Data      []byte   `cbor:"authData"`
	}{Format: "none", Data: data})
}
