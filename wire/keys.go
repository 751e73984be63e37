package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
)

// Sizes in bytes of the secrets in the key schedule.
const (
	SecretSize    = 32 // account key, vault secret, pepper, stretched PIN, KEK, feed token
	SaltSize      = 16 // Argon2id salt
	boxSaltSize   = 24
	boxTagSize    = 16
	BoxOverhead   = boxSaltSize + boxTagSize
	P256PointSize = 65
)

// Scope says whose secret is sealed; it stands in the associated data of every box.
type Scope struct {
	Ledger     []byte // ledger ID, 32 bytes
	Account    AccountID
	Generation uint64
	Epoch      uint64
}

// The key schedule. docs/protocol.md draws it.

// WrapKey seals an account key under one version of the KEK.
func WrapKey(kek []byte, s Scope) []byte { return derive(kek, "wrap key", &s, nil) }

// LedgerSeed is the Ed25519 seed (RFC 8032) of the ledger key of one KEK version.
func LedgerSeed(kek, ledgerID []byte) []byte { return Derive(kek, "ledger key", ledgerID) }

// LineageKey seals what an enclave leaves behind for those that will hold this version
// of the KEK and none before it.
func LineageKey(kek, ledgerID []byte) []byte { return Derive(kek, "lineage key", ledgerID) }

// FalseSaltSecret is what the salts of accounts that do not exist are derived from. It is
// the oldest version's, and outlives it.
func FalseSaltSecret(kek, ledgerID []byte) []byte { return Derive(kek, "false salt secret", ledgerID) }

// FalseSalt is the salt of an account that does not exist.
func FalseSalt(secret []byte, account AccountID) []byte {
	return Derive(secret, "false salt", account)[:SaltSize]
}

// HeadKey seals the account head.
func HeadKey(accountKey []byte) []byte { return Derive(accountKey, "head key") }

// NotesKey seals the notes of ledger entries; devices hold it too.
func NotesKey(accountKey []byte) []byte { return Derive(accountKey, "notes key") }

// ApprovalKey seals approvals of a discontinued account, which no device opens.
func ApprovalKey(accountKey []byte) []byte { return Derive(accountKey, "approval key") }

// VaultKey seals the secret part of records: it needs both secrets of an epoch.
func VaultKey(accountKey, vaultSecret []byte) []byte {
	return Derive(labelled("vault", accountKey, vaultSecret), "vault key")
}

// MetadataKey seals the part of records that devices read offline.
func MetadataKey(vaultSecret []byte) []byte { return Derive(vaultSecret, "metadata key") }

// MembersKey authenticates the membership.
func MembersKey(vaultSecret []byte) []byte { return Derive(vaultSecret, "members key") }

// SyncKey authenticates manifests.
func SyncKey(vaultSecret []byte) []byte { return Derive(vaultSecret, "sync key") }

// PreviousKey seals the former epoch's secrets under the newer vault secret.
func PreviousKey(vaultSecret []byte) []byte { return Derive(vaultSecret, "previous key") }

// RecoveryKey seals the private half of the recovery record.
func RecoveryKey(pepper, stretchedPIN []byte) []byte {
	return Derive(labelled("recovery", pepper, stretchedPIN), "recovery key")
}

// SealBox seals plaintext at rest: salt(24) ‖ AES-256-GCM(ciphertext ‖ tag) under
// Derive(key, "box", salt) with a zero nonce, so that no nonce is ever chosen or
// counted. The associated data is the CBOR of [label, version, scope…, context…].
func SealBox(key []byte, label string, s Scope, plaintext []byte, context ...any) []byte {
	box := make([]byte, boxSaltSize, BoxOverhead+len(plaintext))
	rand.Read(box)
	var nonce [12]byte
	return boxAEAD(key, box).Seal(box, nonce[:], plaintext, boxData(label, &s, context))
}

// OpenBox opens what [SealBox] sealed with the same key, label, scope and
// context. Anything else is refused with one undetailed error.
func OpenBox(key []byte, label string, s Scope, box []byte, context ...any) ([]byte, error) {
	if len(box) < BoxOverhead {
		return nil, errBox
	}
	var nonce [12]byte
	plain, err := boxAEAD(key, box[:boxSaltSize]).Open(nil, nonce[:], box[boxSaltSize:], boxData(label, &s, context))
	if err != nil {
		return nil, errBox
	}
	return plain, nil
}

var errBox = Errorf(CodeMalformed, "box does not open")

// boxData is the associated data of a box.
func boxData(label string, s *Scope, context []any) []byte {
	return appendLabelled(make([]byte, 0, 192), label, s, context)
}

func boxAEAD(key, salt []byte) cipher.AEAD {
	block := must(aes.NewCipher(Derive(key, "box", salt)))
	return must(cipher.NewGCM(block))
}

// Labels of boxes.
const (
	LabelWrap     = "wrap"     // an account key; context: KEK version
	LabelHead     = "head"     // the account head
	LabelNote     = "note"     // a ledger entry's note; context: sequence
	LabelMetadata = "metadata" // a record's metadata; context: handle, version ID
	LabelSecret   = "secret"   // a record's secret part; context: handle, version ID
	LabelPrevious = "previous" // the former epoch's secrets
	LabelRecovery = "recovery" // the private half of the recovery record
	LabelManifest = "manifest" // the list of all records
	LabelLineage  = "lineage"  // ledger keys of earlier KEK versions, for the enclave alone; context: KEK version
	LabelApproval = "approval" // a device's approval of a discontinued account, for the enclave alone
)

// PadBox pads the content of a box to a multiple of size with a length in front,
// so that the box does not tell its content's length.
func PadBox(content []byte, size int) []byte { return pad(content, roundUp(len(content)+4, size)) }

// UnpadBox is the inverse of [PadBox]; every byte of padding must be zero.
func UnpadBox(padded []byte) ([]byte, error) { return unpad(padded) }
