package attestation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/passclave/passclave/wire"
)

// Purposes of runtime data. Each verifier demands its own, so that evidence made
// for one cannot be shown to another.
const (
	PurposeClient   = "client"   // binds the HPKE key that clients seal to
	PurposeRelease  = "release"  // binds the RSA key that the KEK is wrapped to
	PurposeEndorser = "endorser" // binds the Ed25519 key that signs an endorser's answers
)

// RuntimeData is what the enclave itself says in its evidence: REPORT_DATA holds
// its hash ([ReportData]). It is canonical compact JSON with the members in this
// order. Azure Attestation reads "keys" and passes the rest on as claims.
type RuntimeData struct {
	Keys    []RSAKey    `json:"keys,omitempty"`   // release: exactly one
	Purpose string      `json:"purpose"`          // PurposeClient, PurposeRelease or PurposeEndorser
	HPKE    wire.Base64 `json:"hpke,omitempty"`   // client: the public key to seal to, in its RFC 9180 serialization
	Config  wire.Base64 `json:"config"`           // SHA-256 of the measured configuration's file, 32 bytes
	Ledger  *Ledger     `json:"ledger,omitempty"` // client, endorser: the ledger that every account stands in; an endorser's has no genesis yet (zero) and no signers
	Nonce   wire.Base64 `json:"nonce,omitempty"`  // whoever asked for fresh evidence chose it; at most MaxNonce bytes

	Endorser wire.Base64 `json:"endorser,omitempty"` // endorser: its Ed25519 public key, 32 bytes
}

// Ledger names the ledger, and the keys that sign its entries.
type Ledger struct {
	ID      wire.Base64 `json:"id"`                // 32 bytes
	Backend string      `json:"backend"`           // wire.BackendLocal, …
	Genesis wire.Base64 `json:"genesis"`           // 32 bytes
	Number  uint64      `json:"number"`            // counts geneses from 1
	Signers []Signer    `json:"signers,omitempty"` // in the order of KEK versions, oldest first; none while the enclave has no KEK
}

// Signer is an Ed25519 ledger key. Its signature is its predecessor's over it; the
// first has none. Package ledger verifies it.
type Signer struct {
	Public    wire.Base64 `json:"public"`              // 32 bytes
	Signature wire.Base64 `json:"signature,omitempty"` // 64 bytes
}

// RSAKey is an RSA public key as a JSON Web Key (RFC 7517, RFC 7518 section 6.3.1).
type RSAKey struct {
	KID    string      `json:"kid"`
	Kty    string      `json:"kty"`     // "RSA"
	KeyOps []string    `json:"key_ops"` // ["encrypt"]
	N      wire.Base64 `json:"n"`       // big-endian, no leading zero
	E      wire.Base64 `json:"e"`       // 65537
}

// Limits of runtime data, in bytes, and of its signers.
const (
	MaxNonce       = 64
	maxRuntimeData = 64 << 10
	maxHPKE        = 4096
	maxSigners     = 128
	minModulus     = 128
	maxModulus     = 1024
	maxName        = 64
)

// ReportData is REPORT_DATA for runtime data: SHA-256(runtime data) ‖ 32 zero bytes,
// as Azure Attestation demands it.
func ReportData(runtimeData []byte) [64]byte {
	var d [64]byte
	h := sha256.Sum256(runtimeData)
	copy(d[:], h[:])
	return d
}

// ParseRuntimeData reads runtime data. It accepts exactly the bytes that
// [RuntimeData.Encode] gives for their content: unknown, duplicate and reordered
// members, white space and any other spelling are refused. Refusals are of
// [CheckRuntimeData].
//
// It does not compare the purpose or the nonce with what the reader wants, and
// judges no key: neither its strength nor, for ledger keys, who signed it.
func ParseRuntimeData(data []byte) (*RuntimeData, error) {
	if len(data) > maxRuntimeData {
		return nil, refuse(CheckRuntimeData, fmt.Errorf("%d bytes are more than %d", len(data), maxRuntimeData))
	}
	var r RuntimeData
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, refuse(CheckRuntimeData, err)
	}
	again, err := r.Encode()
	if err != nil {
		return nil, refuse(CheckRuntimeData, err)
	}
	if !bytes.Equal(again, data) {
		return nil, refuse(CheckRuntimeData, errors.New("not in canonical form"))
	}
	return &r, nil
}

// Encode returns the canonical form of r, or why r is not runtime data of its purpose.
func (r *RuntimeData) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func (r *RuntimeData) check() error {
	if len(r.Config) != sha256.Size {
		return errors.New("config must have 32 bytes")
	}
	if len(r.Nonce) > MaxNonce {
		return fmt.Errorf("nonce must have at most %d bytes", MaxNonce)
	}
	switch r.Purpose {
	case PurposeClient:
		if len(r.HPKE) == 0 || len(r.HPKE) > maxHPKE || r.Ledger == nil || r.Keys != nil || r.Endorser != nil {
			return errors.New("purpose client has hpke and ledger, and never keys or endorser")
		}
		return r.Ledger.check()
	case PurposeRelease:
		if len(r.Keys) != 1 || r.HPKE != nil || r.Ledger != nil || r.Endorser != nil {
			return errors.New("purpose release has exactly one key, and neither hpke nor ledger nor endorser")
		}
		return r.Keys[0].check()
	case PurposeEndorser:
		if len(r.Endorser) != ed25519.PublicKeySize || r.Ledger == nil || len(r.Ledger.Signers) > 0 || r.Keys != nil || r.HPKE != nil {
			return errors.New("purpose endorser has endorser and ledger without signers, and never keys or hpke")
		}
		return r.Ledger.check()
	}
	return errors.New("unknown purpose")
}

func (l *Ledger) check() error {
	switch {
	case len(l.ID) != 32:
		return errors.New("ledger.id must have 32 bytes")
	case !isName(l.Backend):
		return errors.New("ledger.backend is not a name")
	case len(l.Genesis) != 32:
		return errors.New("ledger.genesis must have 32 bytes")
	case l.Number == 0:
		return errors.New("ledger.number counts from 1")
	case len(l.Signers) > maxSigners:
		return fmt.Errorf("more than %d ledger.signers", maxSigners)
	}
	for i, s := range l.Signers {
		if len(s.Public) != ed25519.PublicKeySize {
			return errors.New("a public key in ledger.signers must have 32 bytes")
		}
		if i == 0 && s.Signature != nil || i > 0 && len(s.Signature) != ed25519.SignatureSize {
			return errors.New("in ledger.signers all but the first have a signature of 64 bytes")
		}
	}
	return nil
}

func (k *RSAKey) check() error {
	switch {
	case !isName(k.KID):
		return errors.New("kid is not a name")
	case k.Kty != "RSA" || len(k.KeyOps) != 1 || k.KeyOps[0] != "encrypt":
		return errors.New(`a key has kty "RSA" and key_ops ["encrypt"]`)
	case len(k.N) < minModulus || len(k.N) > maxModulus || k.N[0] == 0:
		return errors.New("n is out of range")
	case !bytes.Equal(k.E, []byte{1, 0, 1}):
		return errors.New("e is not 65537")
	}
	return nil
}

// isName reports whether s is a short name that JSON carries without any escape.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
