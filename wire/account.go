package wire

import (
	"crypto/hpke"
	"crypto/subtle"
)

// Record is one passkey as stored and synced. Its parts are bound to handle and
// version ID; that this version is the one in force only the account head and the
// manifest say.
type Record struct {
	Handle     Handle    `cbor:"1,keyasint"`
	Version    VersionID `cbor:"2,keyasint"`
	Generation uint64    `cbor:"3,keyasint"`
	Epoch      uint64    `cbor:"4,keyasint"`
	Metadata   []byte    `cbor:"5,keyasint"` // box under the metadata key of the epoch, padded to MetadataBucket
	Secret     []byte    `cbor:"6,keyasint"` // box under the vault key of the epoch, padded to SecretBucket
}

// Boxes of records are padded to multiples of these sizes, in bytes.
const (
	MetadataBucket = 512
	SecretBucket   = 256
)

// ParseRecord decodes a record.
func ParseRecord(data []byte) (*Record, error) {
	if len(data) > MaxRecordSize {
		return nil, Errorf(CodeLimit, "record of %d bytes", len(data))
	}
	var r Record
	if err := Unmarshal(data, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// Scope returns the scope of the record's boxes.
func (r *Record) Scope(ledgerID []byte, account AccountID) Scope {
	return Scope{Ledger: ledgerID, Account: account, Generation: r.Generation, Epoch: r.Epoch}
}

// OpenMetadata opens a record's metadata: the deterministic CBOR of Metadata.
func (r *Record) OpenMetadata(ledgerID []byte, account AccountID, vaultSecret []byte) (*Metadata, error) {
	padded, err := OpenBox(MetadataKey(vaultSecret), LabelMetadata, r.Scope(ledgerID, account), r.Metadata, r.Handle, r.Version)
	if err != nil {
		return nil, err
	}
	plain, err := UnpadBox(padded)
	if err != nil {
		return nil, err
	}
	var m Metadata
	if err := Unmarshal(plain, &m); err != nil {
		return nil, err
	}
	return &m, nil
}

// Metadata is what a device knows of a passkey offline.
type Metadata struct {
	CredentialID []byte `cbor:"1,keyasint"`
	PublicKey    []byte `cbor:"2,keyasint"` // COSE_Key
	Algorithm    int64  `cbor:"3,keyasint"` // COSE
	RPID         string `cbor:"4,keyasint"`
	RPName       string `cbor:"5,keyasint,omitempty"`
	UserHandle   []byte `cbor:"6,keyasint"`
	UserName     string `cbor:"7,keyasint"`
	DisplayName  string `cbor:"8,keyasint,omitempty"`
	Label        string `cbor:"9,keyasint,omitempty"` // the person's own name for it
	Created      uint64 `cbor:"10,keyasint"`          // Unix seconds, by the creating device's clock
	NoUVNeeded   bool   `cbor:"11,keyasint,omitempty"`
	Hidden       bool   `cbor:"12,keyasint,omitempty"`
	Deleted      bool   `cbor:"13,keyasint,omitempty"`
}

// Manifest lists every record of the account at a sequence. Devices check the
// feed against it and never go back behind one they have seen.
type Manifest struct {
	Sequence uint64   `cbor:"1,keyasint"`
	Records  []Listed `cbor:"2,keyasint,omitempty"` // ascending by handle
}

// Listed names one record in force, all of it: whoever held an earlier epoch's
// vault secret could make metadata for a version of then.
type Listed struct {
	Handle  Handle    `cbor:"1,keyasint"`
	Version VersionID `cbor:"2,keyasint"`
	Record  Digest    `cbor:"3,keyasint"` // RecordHash
}

// RecordHash is H("record", encoded record).
func RecordHash(encoded []byte) Digest { return Hash("record", encoded) }

// SealManifest authenticates a manifest under the sync key. The box names its
// generation and epoch in the clear, so that a device knows which key opens it.
func SealManifest(vaultSecret []byte, s Scope, m Manifest) []byte {
	return Marshal(sealedManifest{s.Generation, s.Epoch, SealBox(SyncKey(vaultSecret), LabelManifest, s, Marshal(m))})
}

type sealedManifest struct {
	Generation uint64 `cbor:"1,keyasint"`
	Epoch      uint64 `cbor:"2,keyasint"`
	Box        []byte `cbor:"3,keyasint"`
}

// OpenManifest opens what [SealManifest] made. vaultSecret gives the vault secret
// of an epoch of a generation, or nil.
func OpenManifest(sealed, ledgerID []byte, account AccountID, vaultSecret func(generation, epoch uint64) []byte) (*Manifest, error) {
	var b sealedManifest
	if err := Unmarshal(sealed, &b); err != nil {
		return nil, err
	}
	secret := vaultSecret(b.Generation, b.Epoch)
	if secret == nil {
		return nil, Errorf(CodeEpoch, "no vault secret of epoch %d", b.Epoch)
	}
	plain, err := OpenBox(SyncKey(secret), LabelManifest, Scope{ledgerID, account, b.Generation, b.Epoch}, b.Box)
	if err != nil {
		return nil, err
	}
	var m Manifest
	if err := Unmarshal(plain, &m); err != nil {
		return nil, err
	}
	return &m, nil
}

// Previous is the secrets of an epoch as the next one keeps them.
type Previous struct {
	VaultSecret []byte `cbor:"1,keyasint"`
	NotesKey    []byte `cbor:"2,keyasint"`
}

// SealPrevious seals the secrets of epoch s.Epoch-1 under the vault secret of s.Epoch.
func SealPrevious(vaultSecret []byte, s Scope, p Previous) []byte {
	return SealBox(PreviousKey(vaultSecret), LabelPrevious, s, Marshal(p))
}

// OpenPrevious opens what [SealPrevious] made.
func OpenPrevious(vaultSecret []byte, s Scope, box []byte) (*Previous, error) {
	plain, err := OpenBox(PreviousKey(vaultSecret), LabelPrevious, s, box)
	if err != nil {
		return nil, err
	}
	var p Previous
	if err := Unmarshal(plain, &p); err != nil {
		return nil, err
	}
	if len(p.VaultSecret) != SecretSize || len(p.NotesKey) != SecretSize {
		return nil, Errorf(CodeMalformed, "previous secrets of a wrong size")
	}
	return &p, nil
}

// Secrets hold the vault secrets and notes' keys of all epochs up to the one in force.
type Secrets struct {
	Vault map[uint64][]byte // by epoch
	Notes map[uint64][]byte
}

// FollowPrevious walks the chain of previous boxes, newest first, from the vault
// secret of s.Epoch back to epoch 1, or as far as the boxes reach. A box that does
// not open is refused.
func FollowPrevious(vaultSecret []byte, s Scope, boxes [][]byte) (*Secrets, error) {
	out := &Secrets{Vault: map[uint64][]byte{s.Epoch: vaultSecret}, Notes: map[uint64][]byte{}}
	for _, box := range boxes {
		if s.Epoch <= 1 {
			return nil, Errorf(CodeMalformed, "more previous secrets than epochs")
		}
		p, err := OpenPrevious(vaultSecret, s, box)
		if err != nil {
			return nil, err
		}
		s.Epoch--
		vaultSecret = p.VaultSecret
		out.Vault[s.Epoch], out.Notes[s.Epoch] = p.VaultSecret, p.NotesKey
	}
	return out, nil
}

// Key-encapsulation contexts for the vault secret.
const (
	envelopeDevice   = "device"
	envelopeRecovery = "recovery"
)

// SealVaultSecret seals the vault secret of an epoch to a device's encryption
// key (HPKE MLKEM768-P256): enc ‖ ciphertext, as crypto/hpke's Seal gives it.
func SealVaultSecret(encryptionKey []byte, s Scope, device DeviceID, vaultSecret []byte) ([]byte, error) {
	key, err := DeviceKEM().NewPublicKey(encryptionKey)
	if err != nil {
		return nil, Errorf(CodeArgument, "encryption key")
	}
	return hpke.Seal(key, KDF(), AEAD(), envelopeInfo(envelopeDevice, s, device), vaultSecret)
}

// OpenVaultSecret opens what [SealVaultSecret] sealed. It proves nothing about who sealed it.
func OpenVaultSecret(key hpke.PrivateKey, s Scope, device DeviceID, envelope []byte) ([]byte, error) {
	return openSecret(key, envelopeInfo(envelopeDevice, s, device), envelope)
}

// SealToRecovery seals the vault secret of an epoch to the recovery key (HPKE MLKEM768-X25519).
func SealToRecovery(recoveryKey []byte, s Scope, vaultSecret []byte) ([]byte, error) {
	key, err := KEM().NewPublicKey(recoveryKey)
	if err != nil {
		return nil, Errorf(CodeArgument, "recovery key")
	}
	return hpke.Seal(key, KDF(), AEAD(), envelopeInfo(envelopeRecovery, s, DeviceID{}), vaultSecret)
}

// OpenFromRecovery opens what [SealToRecovery] sealed.
func OpenFromRecovery(key hpke.PrivateKey, s Scope, envelope []byte) ([]byte, error) {
	return openSecret(key, envelopeInfo(envelopeRecovery, s, DeviceID{}), envelope)
}

func openSecret(key hpke.PrivateKey, info, envelope []byte) ([]byte, error) {
	secret, err := hpke.Open(key, KDF(), AEAD(), info, envelope)
	if err != nil || len(secret) != SecretSize {
		return nil, Errorf(CodeVaultSecret, "envelope does not open")
	}
	return secret, nil
}

func envelopeInfo(to string, s Scope, device DeviceID) []byte {
	return boxData("vault secret envelope", &s, []any{to, device})
}

// FeedTokenHash is what the host stores of a feed token.
func FeedTokenHash(token []byte) Digest { return Hash("feed token", token) }

// BlobHash names a blob: an encryption key or an envelope, kept beside the head.
func BlobHash(blob []byte) Digest { return Hash("blob", blob) }

// EqualDigests compares in constant time.
func EqualDigests(a, b Digest) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
