package enclave

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/passclave/passclave/wire"
)

// head is the account head: what the enclave knows of an account between two
// requests. It is sealed under the account key, and the newest ledger entry names
// the SHA-256 of the sealed form.
type head struct {
	Version    uint64         `cbor:"1,keyasint"`
	Account    wire.AccountID `cbor:"2,keyasint"`
	Generation uint64         `cbor:"3,keyasint"`
	Epoch      uint64         `cbor:"4,keyasint"`
	Devices    []device       `cbor:"5,keyasint"` // in the order of their joining
	Recovery   recovery       `cbor:"6,keyasint"`
	Members    wire.Digest    `cbor:"7,keyasint"`            // HMAC under the members' key: see members
	Records    records        `cbor:"8,keyasint"`            // packed, ascending by handle
	Earlier    []earlierKey   `cbor:"9,keyasint,omitempty"`  // account keys of epochs that a record still stands under, newest first
	Previous   [][]byte       `cbor:"10,keyasint,omitempty"` // see wire.Previous, newest first
	Listed     uint64         `cbor:"11,keyasint"`           // sequence of the entry that began with this head: its manifest is the newest
}

// device is a member.
type device struct {
	ID         wire.DeviceID            `cbor:"1,keyasint"`
	Name       string                   `cbor:"2,keyasint"`
	Key        []byte                   `cbor:"3,keyasint"` // device key: P-256 point
	UV         []byte                   `cbor:"4,keyasint,omitempty"`
	Platform   *wire.PlatformCredential `cbor:"5,keyasint,omitempty"`
	Encryption wire.Digest              `cbor:"6,keyasint"` // blob: the encryption key
	Envelope   wire.Digest              `cbor:"7,keyasint"` // blob: the vault secret sealed to it
	FeedToken  []byte                   `cbor:"8,keyasint"`
	How        string                   `cbor:"9,keyasint"`            // howEnrol or howJoin
	Joined     uint64                   `cbor:"10,keyasint"`           // iat of the login it joined by
	Grown      bool                     `cbor:"11,keyasint,omitempty"` // showed a login of 24 hours later
	Last       *wire.Outcome            `cbor:"12,keyasint,omitempty"`
}

const (
	howEnrol = "enrol"
	howJoin  = "join"
)

func (d *device) trusted() bool { return len(d.UV) > 0 || d.Platform != nil }
func (d *device) young() bool   { return d.How == howJoin && !d.Grown }

// recovery is the recovery record: what a right PIN opens.
type recovery struct {
	Salt     []byte        `cbor:"1,keyasint"` // of Argon2id
	Params   wire.Argon2id `cbor:"2,keyasint"`
	Pepper   []byte        `cbor:"3,keyasint"`
	Public   wire.Digest   `cbor:"4,keyasint"` // blob: the recovery public key
	Private  []byte        `cbor:"5,keyasint"` // box under the recovery key: the private half's seed
	Envelope wire.Digest   `cbor:"6,keyasint"` // blob: the vault secret sealed to the public half
	Epoch    uint64        `cbor:"7,keyasint"` // in which the pair was made: scope of Private
}

type earlierKey struct {
	Epoch uint64 `cbor:"1,keyasint"`
	Key   []byte `cbor:"2,keyasint"`
}

func (h *head) scope(ledgerID []byte) wire.Scope {
	return wire.Scope{Ledger: ledgerID, Account: h.Account, Generation: h.Generation, Epoch: h.Epoch}
}

func (h *head) device(id wire.DeviceID) *device {
	for i := range h.Devices {
		if h.Devices[i].ID == id {
			return &h.Devices[i]
		}
	}
	return nil
}

// members is the HMAC that authenticates who belongs to the account under a vault
// secret: whoever holds the KEK alone can read and seal heads, but cannot make
// this.
func (h *head) members(vaultSecret []byte) wire.Digest {
	type member struct {
		_          struct{} `cbor:",toarray"`
		ID         wire.DeviceID
		Key, UV    []byte
		Platform   *wire.PlatformCredential
		Encryption wire.Digest
		How        string
		Joined     uint64
		Grown      bool
	}
	list := make([]member, len(h.Devices))
	for i, d := range h.Devices {
		list[i] = member{ID: d.ID, Key: d.Key, UV: d.UV, Platform: d.Platform, Encryption: d.Encryption, How: d.How, Joined: d.Joined, Grown: d.Grown}
	}
	message := wire.Hash("members", h.Account, h.Generation, h.Epoch, h.Recovery.Public, wire.Encoded(wire.Marshal(list)))
	mac := hmac.New(sha256.New, wire.MembersKey(vaultSecret))
	mac.Write(message[:])
	return wire.Digest(mac.Sum(nil))
}

// seal returns the sealed head and its SHA-256.
func (h *head) seal(accountKey, ledgerID []byte) ([]byte, wire.Digest) {
	box := wire.SealBox(wire.HeadKey(accountKey), wire.LabelHead, h.scope(ledgerID), wire.PadBox(wire.Marshal(h), headBucket))
	return box, sha256.Sum256(box)
}

// headBucket is what the plaintext of a head is padded to a multiple of, in bytes.
const headBucket = 1024

func openHead(box, accountKey []byte, s wire.Scope) (*head, error) {
	padded, err := wire.OpenBox(wire.HeadKey(accountKey), wire.LabelHead, s, box)
	if err != nil {
		return nil, wire.Errorf(wire.CodeHeadMismatch, "head does not open")
	}
	plain, err := wire.UnpadBox(padded)
	if err != nil {
		return nil, wire.Errorf(wire.CodeHeadMismatch, "head's padding")
	}
	var h head
	if err := wire.Unmarshal(plain, &h); err != nil {
		return nil, wire.NewError(wire.CodeHeadMismatch, err)
	}
	if h.Version != wire.Version || h.Account != s.Account || h.Generation != s.Generation || h.Epoch != s.Epoch || len(h.Records)%rowSize != 0 {
		return nil, wire.Errorf(wire.CodeHeadMismatch, "head of another account or epoch")
	}
	return &h, nil
}
