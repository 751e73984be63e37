package passkey

import (
	"encoding/binary"

	"github.com/passclave/passclave/wire"
)

// Flags of authenticator data (WebAuthn L3, section 6.1).
const (
	flagUP byte = 1 << 0 // user present
	flagUV byte = 1 << 2 // user verified
	flagBE byte = 1 << 3 // backup eligible
	flagBS byte = 1 << 4 // backed up
	flagAT byte = 1 << 6 // attested credential data included
)

// AttestationObject returns the answer to create (WebAuthn L3, section 6.5.4) with
// the attestation statement format "none" and the UV flag as given. There is no
// signature in it: a relying party learns at the first assertion that the key works.
func (s *Secret) AttestationObject(credentialID []byte, userVerified bool) ([]byte, error) {
	public, err := s.publicKey()
	if err != nil {
		return nil, err
	}
	return wire.Marshal(attestationObject{
		Format:            "none",
		AuthenticatorData: s.authenticatorData(userVerified, credentialID, public),
	}), nil
}

// attestationObject: the deterministic encoding puts fmt, attStmt and authData in
// this order, which is the CTAP2 canonical one.
type attestationObject struct {
	Format            string   `cbor:"fmt"`
	Statement         struct{} `cbor:"attStmt"` // empty, as "none" wants it
	AuthenticatorData []byte   `cbor:"authData"`
}

// authenticatorData returns RP ID hash(32) ‖ flags(1) ‖ signCount(4) and, with a
// credential ID, AAGUID(16) ‖ length(2) ‖ credential ID ‖ COSE_Key
// (WebAuthn L3, section 6.1). The user is always present: every use of a passkey
// is a person's act on a device.
func (s *Secret) authenticatorData(userVerified bool, credentialID, publicKey []byte) []byte {
	flags := flagUP | flagBE | flagBS
	if userVerified {
		flags |= flagUV
	}
	if credentialID != nil {
		flags |= flagAT
	}
	data := append(make([]byte, 0, 256), s.RPIDHash[:]...)
	data = append(data, flags, 0, 0, 0, 0) // signCount 0: what is on many devices counts nothing
	if credentialID != nil {
		data = append(data, AAGUID[:]...)
		data = binary.BigEndian.AppendUint16(data, uint16(len(credentialID)))
		data = append(data, credentialID...)
		data = append(data, publicKey...)
	}
	return data
}
