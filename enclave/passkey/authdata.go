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
	flagED byte = 1 << 7 // extension data included
)

// Levels of credProtect (CTAP 2.2, section 12.1).
const (
	credProtectOptional       uint8 = 1
	credProtectOptionalWithID uint8 = 2
	credProtectRequired       uint8 = 3
)

// SetCredProtect records the credProtect level that the relying party asked for at
// create; the attestation object then answers it. Level 3 (user verification
// required) contradicts "no UV needed" and is refused for such a passkey with
// [wire.CodeArgument] around an [ArgumentError], as is a level outside 1 to 3.
//
// Level 2 asks that a passkey be used without user verification only if the
// relying party named it; who named it is the client's to know and is not checked.
func (s *Secret) SetCredProtect(level uint8) error {
	if level < credProtectOptional || level > credProtectRequired {
		return refuse("cred_protect", "level not 1 to 3")
	}
	if level == credProtectRequired && s.NoUVNeeded {
		return refuse("cred_protect", "user verification required, of a passkey that needs none")
	}
	s.CredProtect = level
	return nil
}

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

// extensions of authenticator data at create.
type extensions struct {
	CredProtect uint8 `cbor:"credProtect"`
}

// authenticatorData returns RP ID hash(32) ‖ flags(1) ‖ signCount(4) and, with a
// credential ID, AAGUID(16) ‖ length(2) ‖ credential ID ‖ COSE_Key ‖ extensions
// (WebAuthn L3, section 6.1). The user is always present: every use of a passkey
// is a person's act on a device.
func (s *Secret) authenticatorData(userVerified bool, credentialID, publicKey []byte) []byte {
	flags := flagUP | flagBE | flagBS
	if userVerified {
		flags |= flagUV
	}
	protect := credentialID != nil && s.CredProtect != 0
	if credentialID != nil {
		flags |= flagAT
	}
	if protect {
		flags |= flagED
	}
	data := append(make([]byte, 0, 256), s.RPIDHash[:]...)
	data = append(data, flags, 0, 0, 0, 0) // signCount 0: what is on many devices counts nothing
	if credentialID != nil {
		data = append(data, AAGUID[:]...)
		data = binary.BigEndian.AppendUint16(data, uint16(len(credentialID)))
		data = append(data, credentialID...)
		data = append(data, publicKey...)
	}
	if protect {
		data = append(data, wire.Marshal(extensions{s.CredProtect})...)
	}
	return data
}
