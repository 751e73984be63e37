package wire

import "encoding/hex"

type (
	// Digest is a SHA-256 value.
	Digest [32]byte
	// AccountID is H("account", issuer, subject): a pseudonym that whoever knows both can confirm.
	AccountID [32]byte
	// StreamID names an account's stream in the ledger: H("stream", ledger ID, account ID).
	StreamID [32]byte
	// DeviceID is the first 16 bytes of H("device", account ID, device key).
	DeviceID [16]byte
	// Handle is the random name of a record; the host sees it.
	Handle [16]byte
	// VersionID is the random name of one version of a record.
	VersionID [16]byte
	// RequestID is drawn by the client for every request.
	RequestID [16]byte
	// KeyID names one of the enclave's HPKE keys: the first 8 bytes of H("hpke key", public key).
	KeyID [8]byte
)

func (d Digest) String() string    { return hex.EncodeToString(d[:]) }
func (a AccountID) String() string { return hex.EncodeToString(a[:]) }
func (s StreamID) String() string  { return hex.EncodeToString(s[:]) }
func (d DeviceID) String() string  { return hex.EncodeToString(d[:]) }
func (h Handle) String() string    { return hex.EncodeToString(h[:]) }
func (v VersionID) String() string { return hex.EncodeToString(v[:]) }
func (k KeyID) String() string     { return hex.EncodeToString(k[:]) }

// Stream returns the stream of an account in a ledger.
func Stream(ledgerID []byte, account AccountID) StreamID {
	return StreamID(Hash("stream", ledgerID, account))
}

// NewDeviceID returns the ID of the device whose device key is the given
// uncompressed P-256 point (65 bytes).
func NewDeviceID(account AccountID, deviceKey []byte) DeviceID {
	h := Hash("device", account, deviceKey)
	return DeviceID(h[:16])
}

// NewKeyID returns the ID of an HPKE public key in its RFC 9180 serialization.
func NewKeyID(public []byte) KeyID {
	h := Hash("hpke key", public)
	return KeyID(h[:8])
}
