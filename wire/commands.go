package wire

import "crypto/sha256"

// Command is one thing that a request asks for. The table of who may do what is
// in docs/protocol.md; a command's arguments are the deterministic CBOR of the
// struct of the same name, and so is its result.
type Command struct {
	Name      CommandName `cbor:"1,keyasint"`
	Arguments []byte      `cbor:"2,keyasint"`
}

// CommandName is the stable name of a command.
type CommandName string

const (
	CommandTicket    CommandName = "ticket"
	CommandEnrol     CommandName = "enrol"
	CommandJoin      CommandName = "join"
	CommandReplaceUV CommandName = "uv-replace"
	CommandCreate    CommandName = "create"
	CommandAssert    CommandName = "assert"
	CommandBlob      CommandName = "blob-write"
	CommandSync      CommandName = "sync"
	CommandRename    CommandName = "rename"
	CommandHide      CommandName = "hide"
	CommandDelete    CommandName = "delete"
	CommandReseal    CommandName = "reseal-page"
	CommandPINSet    CommandName = "pin-set"
	CommandDevices   CommandName = "devices"
	CommandHistory   CommandName = "history"
	CommandRevoke    CommandName = "revoke"
	CommandConfirm   CommandName = "confirm"
)

// NewCommand encodes a command.
func NewCommand(name CommandName, arguments any) Command {
	return Command{Name: name, Arguments: Marshal(arguments)}
}

// None is the argument or result of a command that has none.
type None struct{}

// DeviceKeys are a device's public keys. The UV key, or the platform credential,
// makes it trusted.
type DeviceKeys struct {
	Device     []byte              `cbor:"1,keyasint"`           // P-256 point, 65 bytes: signs every request
	Encryption []byte              `cbor:"2,keyasint"`           // HPKE MLKEM768-P256 public key, 1249 bytes
	UV         []byte              `cbor:"3,keyasint,omitempty"` // P-256 point, 65 bytes
	Platform   *PlatformCredential `cbor:"4,keyasint,omitempty"`
}

// PlatformCredential is a WebAuthn credential of the platform authenticator that
// proves user verification.
type PlatformCredential struct {
	ID        []byte `cbor:"1,keyasint"`
	PublicKey []byte `cbor:"2,keyasint"` // COSE_Key: ES256 or RS256
}

// Ticket needs a login. It is the first half of enrol, join and pin-set. The
// request is signed by DeviceKey, which need not belong to a member.
type Ticket struct {
	DeviceKey []byte `cbor:"1,keyasint"` // P-256 point, 65 bytes: the one that the login's nonce binds
}

// TicketResult says how to stretch the PIN. An account that does not exist gets a
// salt all the same, always the same one.
type TicketResult struct {
	Ticket       []byte   `cbor:"1,keyasint"` // opaque; good for 10 minutes, for the device key of the login, and until a PIN is set
	Salt         []byte   `cbor:"2,keyasint"` // in force: for join
	FreshSalt    []byte   `cbor:"3,keyasint"` // for enrol and pin-set
	Argon2id     Argon2id `cbor:"4,keyasint"` // in force: for join
	FreshParams  Argon2id `cbor:"5,keyasint"` // for enrol and pin-set
	AttemptsLeft uint64   `cbor:"6,keyasint"`
}

// Enrol makes the account and its first device, and sets the PIN.
type Enrol struct {
	Ticket       []byte     `cbor:"1,keyasint"`
	StretchedPIN []byte     `cbor:"2,keyasint"` // Argon2id(PIN, TicketResult.FreshSalt), 32 bytes
	Keys         DeviceKeys `cbor:"3,keyasint"`
	Name         string     `cbor:"4,keyasint"` // of the device
}

// Join is a PIN attempt: a right PIN makes the new device a member.
type Join struct {
	Ticket       []byte     `cbor:"1,keyasint"`
	StretchedPIN []byte     `cbor:"2,keyasint"` // Argon2id(PIN, TicketResult.Salt), 32 bytes
	Keys         DeviceKeys `cbor:"3,keyasint"`
	Name         string     `cbor:"4,keyasint"`
}

// Membership is what a member needs of the epoch in force: the result of enrol,
// join, pin-set and revoke.
type Membership struct {
	Generation  uint64 `cbor:"1,keyasint"`
	Epoch       uint64 `cbor:"2,keyasint"`
	VaultSecret []byte `cbor:"3,keyasint,omitempty"` // absent for a device that revoked itself
	NotesKey    []byte `cbor:"4,keyasint,omitempty"`
	FeedToken   []byte `cbor:"5,keyasint,omitempty"`
	Unsealed    uint64 `cbor:"6,keyasint,omitempty"` // records that still stand under an earlier epoch
}

// ReplaceUV puts another UV key or platform credential in the place of the
// device's own. The request is verified by the old one, and the new one proves that
// the device holds it: a key that nobody can use would leave the device untrusted.
type ReplaceUV struct {
	UV         []byte              `cbor:"1,keyasint,omitempty"`
	Platform   *PlatformCredential `cbor:"2,keyasint,omitempty"`
	Possession *UserVerification   `cbor:"3,keyasint,omitempty"` // by the new one over UVPossession
}

// UVPossessionMessage is what a new UV key signs with ES256, and whose SHA-256 is
// the challenge of a new platform credential's assertion: the CBOR that
// UVPossession is the SHA-256 of.
func UVPossessionMessage(account AccountID, device DeviceID, key []byte) []byte {
	return labelled("uv possession", account, device, key)
}

// UVPossession is H("uv possession", account ID, device ID, key), key being the UV
// key or the platform credential's COSE_Key.
func UVPossession(account AccountID, device DeviceID, key []byte) Digest {
	return sha256.Sum256(UVPossessionMessage(account, device, key))
}

// Create makes a passkey (WebAuthn L3, section 6.3.2).
type Create struct {
	ClientDataHash Digest   `cbor:"1,keyasint"`
	RPID           string   `cbor:"2,keyasint"`
	RPName         string   `cbor:"3,keyasint,omitempty"`
	UserHandle     []byte   `cbor:"4,keyasint"` // 1 to 64 bytes
	UserName       string   `cbor:"5,keyasint"`
	DisplayName    string   `cbor:"6,keyasint,omitempty"`
	Algorithms     []int64  `cbor:"7,keyasint"`            // COSE, by the RP's preference
	Exclude        [][]byte `cbor:"8,keyasint,omitempty"`  // credential IDs
	NoUVNeeded     bool     `cbor:"9,keyasint,omitempty"`  // assertions may do without user verification, and then say so
	Created        uint64   `cbor:"10,keyasint"`           // Unix seconds, by the device's clock
	PRF            *PRF     `cbor:"11,keyasint,omitempty"` // evaluate at once
}

// PRF holds the inputs of the prf extension, hashed by the client as WebAuthn L3,
// section 10.1.4 says: SHA-256("WebAuthn PRF" ‖ 0x00 ‖ input).
type PRF struct {
	First  Digest  `cbor:"1,keyasint"`
	Second *Digest `cbor:"2,keyasint,omitempty"`
}

// PRFResult holds HMAC-SHA-256 outputs, 32 bytes each.
type PRFResult struct {
	First  []byte `cbor:"1,keyasint"`
	Second []byte `cbor:"2,keyasint,omitempty"`
}

// CreateResult holds what the relying party gets.
type CreateResult struct {
	Handle            Handle     `cbor:"1,keyasint"`
	Version           VersionID  `cbor:"2,keyasint"`
	CredentialID      []byte     `cbor:"3,keyasint"`
	AttestationObject []byte     `cbor:"4,keyasint"`
	PRF               *PRFResult `cbor:"5,keyasint,omitempty"`
}

// Assert signs with a passkey (WebAuthn L3, section 6.3.3).
type Assert struct {
	Handle         Handle `cbor:"1,keyasint"`
	ClientDataHash Digest `cbor:"2,keyasint"`
	RPID           string `cbor:"3,keyasint"`
	PRF            *PRF   `cbor:"4,keyasint,omitempty"`
	ReadBlob       bool   `cbor:"5,keyasint,omitempty"` // largeBlob read
}

// AssertResult holds what only the enclave can make; credential ID and user handle
// stand in the record's metadata, which the device has.
type AssertResult struct {
	AuthenticatorData []byte     `cbor:"1,keyasint"`
	Signature         []byte     `cbor:"2,keyasint"` // ASN.1 DER for ES256
	PRF               *PRFResult `cbor:"3,keyasint,omitempty"`
	Blob              []byte     `cbor:"4,keyasint,omitempty"`
}

// WriteBlob stores a largeBlob (WebAuthn L3, section 10.1.5) with a passkey.
type WriteBlob struct {
	Handle   Handle    `cbor:"1,keyasint"`
	Replaces VersionID `cbor:"2,keyasint"`
	Blob     []byte    `cbor:"3,keyasint"` // at most MaxBlob; empty deletes
}

// Rename changes the names that people see; the relying party's own stay.
type Rename struct {
	Handle   Handle    `cbor:"1,keyasint"`
	Replaces VersionID `cbor:"2,keyasint"`
	Label    string    `cbor:"3,keyasint"`
}

// Hide takes a passkey out of lists, or puts it back.
type Hide struct {
	Handle   Handle    `cbor:"1,keyasint"`
	Replaces VersionID `cbor:"2,keyasint"`
	Hidden   bool      `cbor:"3,keyasint,omitempty"`
}

// Delete marks a passkey deleted. It goes for good 30 days later.
type Delete struct {
	Handle   Handle    `cbor:"1,keyasint"`
	Replaces VersionID `cbor:"2,keyasint"`
}

// Edited is the result of every edit of one record.
type Edited struct {
	Handle  Handle    `cbor:"1,keyasint"`
	Version VersionID `cbor:"2,keyasint"`
}

// ResealPage seals the records that the header names anew under the epoch in force.
type ResealPage struct{}

// ResealResult says what is left to do.
type ResealResult struct {
	Done []Edited `cbor:"1,keyasint,omitempty"`
	Left []Handle `cbor:"2,keyasint,omitempty"` // records of earlier epochs, at most MaxHandles of them
}

// Sync brings a device up to date; it needs no vault secret.
type Sync struct{}

// SyncResult lets a device that holds an older vault secret find the one in force.
type SyncResult struct {
	Generation uint64   `cbor:"1,keyasint"`
	Epoch      uint64   `cbor:"2,keyasint"`
	Envelope   []byte   `cbor:"3,keyasint"`           // the vault secret in force, sealed to the device: see SealVaultSecret
	Previous   [][]byte `cbor:"4,keyasint,omitempty"` // of epochs Epoch, Epoch-1, … 2: see Previous
	FeedToken  []byte   `cbor:"5,keyasint"`
	Manifest   []byte   `cbor:"6,keyasint"` // sealed, see Manifest
	Last       *Outcome `cbor:"7,keyasint,omitempty"`
	Unsealed   []Handle `cbor:"8,keyasint,omitempty"` // records of earlier epochs, at most MaxHandles of them
	Young      bool     `cbor:"9,keyasint,omitempty"`
	NotesKey   []byte   `cbor:"10,keyasint"` // of the epoch in force
	Listed     uint64   `cbor:"11,keyasint"` // sequence of the newest manifest: the host may give an older one in Manifest
}

// PINSet sets a new PIN, unlocks the account and begins a new epoch.
type PINSet struct {
	Ticket       []byte `cbor:"1,keyasint"` // of a fresh login of this device
	StretchedPIN []byte `cbor:"2,keyasint"` // Argon2id(PIN, TicketResult.FreshSalt)
}

// Devices lists the account's devices.
type Devices struct{}

// DevicesResult lists the devices in the order of their joining.
type DevicesResult struct {
	Devices []DeviceInfo `cbor:"1,keyasint"`
}

// DeviceInfo describes one device to the others.
type DeviceInfo struct {
	ID       DeviceID `cbor:"1,keyasint"`
	Name     string   `cbor:"2,keyasint"`
	Joined   uint64   `cbor:"3,keyasint"`           // iat of the login it joined by, Unix seconds
	How      string   `cbor:"4,keyasint"`           // "enrol" or "join"
	Trusted  bool     `cbor:"5,keyasint,omitempty"` // has a UV key or platform credential
	Platform bool     `cbor:"6,keyasint,omitempty"` // verified by the platform authenticator, not by a UV key
	Young    bool     `cbor:"7,keyasint,omitempty"`
}

// History asks for ledger entries From to To, both counted in.
type History struct {
	From uint64 `cbor:"1,keyasint"` // from 1
	To   uint64 `cbor:"2,keyasint"` // at most From + MaxEntries - 1; a larger one than the newest means the newest
}

// HistoryResult holds encoded ledger entries, oldest first. They carry
// signatures and links of their own: nobody need believe the order given here.
type HistoryResult struct {
	Entries [][]byte `cbor:"1,keyasint"`
}

// Revoke ends a device's membership and begins a new epoch.
type Revoke struct {
	Device DeviceID `cbor:"1,keyasint"`
}

// Confirm brings back an account that the ledger lost its memory of; with Restore one whose
// newest entries the host lost, as it was before them. Without Approve it only asks what
// is offered.
type Confirm struct {
	Approve *Head  `cbor:"1,keyasint,omitempty"` // the very head that is offered
	Restore bool   `cbor:"2,keyasint,omitempty"`
	Newest  []byte `cbor:"3,keyasint,omitempty"` // with Restore: the newest entry that the device has seen
	Lost    *Head  `cbor:"4,keyasint,omitempty"` // with Restore and Approve: the very loss that the person was shown
}

// ConfirmResult says what is offered, and who approved it so far.
type ConfirmResult struct {
	Confirmed bool            `cbor:"1,keyasint,omitempty"` // the account goes on: nothing is left to do
	Offered   Head            `cbor:"2,keyasint"`           // the newest entry that the service has
	Needed    uint64          `cbor:"3,keyasint,omitempty"` // approvals: more than half of Devices
	Devices   []ConfirmDevice `cbor:"4,keyasint,omitempty"` // the offered head's trusted devices
	Lost      *Head           `cbor:"5,keyasint,omitempty"` // of a restore: the newest entry there was; what is behind Offered up to it is gone
	Known     bool            `cbor:"6,keyasint,omitempty"` // of a restore: some device brought that entry, without which nothing is restored
}

// ConfirmDevice is a device that can approve.
type ConfirmDevice struct {
	ID       DeviceID `cbor:"1,keyasint"`
	Name     string   `cbor:"2,keyasint"`
	Approved bool     `cbor:"3,keyasint,omitempty"`
}

// Limits that keep one commit small.
const (
	MaxRecords    = 2000     // passkeys of an account
	MaxDevices    = 64       // devices of an account
	MaxRecordSize = 64 << 10 // bytes of an encoded record
	MaxBlob       = 32 << 10 // bytes of a largeBlob
	MaxName       = 256      // bytes of UTF-8
	MaxDeviceName = 64       // bytes of UTF-8
	PageSize      = 32       // records of one reseal-page
)
