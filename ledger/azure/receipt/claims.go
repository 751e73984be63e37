package receipt

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Claim is one application claim: something that the transaction did, by the word of
// the application inside the ledger. Exactly one of its fields is set.
type Claim struct {
	Entry  *Entry    // kind "LedgerEntry"
	Digest *[32]byte // kind "ClaimDigest": an entry that this copy of the receipt does not disclose; its protocol is LedgerEntryV1
}

// Entry is what a transaction wrote.
type Entry struct {
	Collection string // collection ID
	Contents   string
}

// protocolV1 is the only way to compute a claim's digest that is documented.
const protocolV1 = "LedgerEntryV1"

// parseClaims reads the application claims and the digest of each. A receipt of an
// API version without them has none; [Verify] refuses it for that.
func (a *answer) parseClaims(data []byte) error {
	if absent(data) {
		return nil
	}
	list, err := array(data, maxClaims)
	if err != nil {
		return err
	}
	for _, c := range list {
		m, err := object(c)
		if err != nil {
			return err
		}
		kind, err := m.text("kind")
		if err != nil {
			return err
		}
		var claim Claim
		var inner [32]byte
		switch kind {
		case "LedgerEntry":
			inner, claim.Entry, err = parseEntry(m["ledgerEntry"])
		case "ClaimDigest":
			inner, err = parseDigest(m["digest"])
			claim.Digest = &inner
		default:
			return refuse(CheckClaims, "a claim of an unknown kind")
		}
		if err != nil {
			return err
		}
		a.application = append(a.application, claim)
		a.digests = append(a.digests, sha256.Sum256(append([]byte(protocolV1), inner[:]...)))
	}
	return nil
}

// parseEntry computes SHA-256(HMAC(key, collection ID) ‖ HMAC(key, contents)): the
// key keeps the digest from telling what was written to whoever sees it alone.
func parseEntry(data []byte) (digest [32]byte, e *Entry, err error) {
	m, err := object(data)
	if err != nil {
		return digest, nil, err
	}
	if err := m.protocol(); err != nil {
		return digest, nil, err
	}
	e = new(Entry)
	if e.Collection, err = m.text("collectionId"); err != nil {
		return digest, nil, err
	}
	if e.Contents, err = m.text("contents"); err != nil {
		return digest, nil, err
	}
	secret, err := m.text("secretKey")
	if err != nil {
		return digest, nil, err
	}
	key, err := base64.StdEncoding.Strict().DecodeString(secret)
	if err != nil || len(key) == 0 {
		return digest, nil, refuse(CheckFormat, "secretKey is not base64")
	}
	mac := func(s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	return sha256.Sum256(append(mac(e.Collection), mac(e.Contents)...)), e, nil
}

func parseDigest(data []byte) (digest [32]byte, err error) {
	m, err := object(data)
	if err != nil {
		return digest, err
	}
	if err := m.protocol(); err != nil {
		return digest, err
	}
	return m.digest("value")
}

func (m members) protocol() error {
	p, err := m.text("protocol")
	if err != nil {
		return err
	}
	if p != protocolV1 {
		return refuse(CheckClaims, "a claim of an unknown protocol")
	}
	return nil
}

// claimsDigest is SHA-256(count as uint32, little-endian ‖ the claims' digests).
func claimsDigest(claims [][32]byte) [32]byte {
	b := bytes.NewBuffer(binary.LittleEndian.AppendUint32(nil, uint32(len(claims))))
	for _, c := range claims {
		b.Write(c[:])
	}
	return sha256.Sum256(b.Bytes())
}
