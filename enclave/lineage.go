package enclave

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"

	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// A Lineage is what must outlive the versions of the KEK before one: their ledger keys,
// public halves alone, so that what they signed goes on to verify and devices see the
// list that they pinned; and what false salts come from, so that these stay what they are.
//
// An enclave that holds a version and earlier ones makes it, sealed under that version,
// and the host keeps it. One that holds the version and none before opens it. Who can make
// one holds the version, and so could sign history by the version's own ledger key, which
// is a newer one than all that he could put in.
type Lineage struct {
	Signers []ledger.Signer // oldest first, each signed by the one before; the last is the version's own
	Salts   []byte          // wire.FalseSaltSecret of the oldest version
}

// sealedLineage is the content of its box.
type sealedLineage struct {
	Signers []sealedSigner `cbor:"1,keyasint"`
	Salts   []byte         `cbor:"2,keyasint"`
}

type sealedSigner struct {
	Public    []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint,omitempty"`
}

func lineageScope(ledgerID []byte) wire.Scope { return wire.Scope{Ledger: ledgerID} }

// Seal seals a lineage under the version that it leads to.
func (l *Lineage) Seal(ledgerID []byte, k KEK) (box []byte) {
	content := sealedLineage{Salts: l.Salts}
	for _, s := range l.Signers {
		content.Signers = append(content.Signers, sealedSigner{s.Public, s.Signature})
	}
	secret.Do(func() {
		box = wire.SealBox(wire.LineageKey(k.Key, ledgerID), wire.LabelLineage, lineageScope(ledgerID), wire.Marshal(content), k.Version)
	})
	return box
}

// OpenLineage opens what [Lineage.Seal] made of this ledger and version. It does not
// check that the list has every version that there was: what a host keeps back, devices
// miss in the list that they pinned.
func OpenLineage(ledgerID []byte, k KEK, box []byte) (l *Lineage, err error) {
	var content sealedLineage
	var own ed25519.PublicKey
	secret.Do(func() {
		var plain []byte
		if plain, err = wire.OpenBox(wire.LineageKey(k.Key, ledgerID), wire.LabelLineage, lineageScope(ledgerID), box, k.Version); err == nil {
			err = wire.Unmarshal(plain, &content)
		}
		own = ledger.Key(ledgerID, k.Key).Public().(ed25519.PublicKey)
	})
	if err != nil {
		return nil, err
	}
	l = &Lineage{Salts: content.Salts}
	for _, s := range content.Signers {
		l.Signers = append(l.Signers, ledger.Signer{Public: s.Public, Signature: s.Signature})
	}
	if _, err := ledger.NewVerifier(ledgerID, l.Signers); err != nil {
		return nil, err
	}
	if len(l.Salts) != wire.SecretSize || !own.Equal(l.Signers[len(l.Signers)-1].Public) {
		return nil, wire.Errorf(wire.CodeEntry, "a lineage that does not lead to its version")
	}
	return l, nil
}

// Equal reports whether two lineages are the same; nil is none.
func (l *Lineage) Equal(other *Lineage) bool {
	if l == nil || other == nil || len(l.Signers) != len(other.Signers) {
		return l == other
	}
	for i, s := range l.Signers {
		if !bytes.Equal(s.Public, other.Signers[i].Public) || !bytes.Equal(s.Signature, other.Signers[i].Signature) {
			return false
		}
	}
	return hmac.Equal(l.Salts, other.Salts)
}

// Longer returns the one that knows of more versions; l where neither does. nil is none.
func (l *Lineage) Longer(other *Lineage) *Lineage {
	if other != nil && (l == nil || len(other.Signers) > len(l.Signers)) {
		return other
	}
	return l
}

// succession returns the ledger keys up to each version that is held: what it knows of the
// versions before it, or those before it here and its own, whichever are more. The
// version that is not held any more, or was disabled between two others, stays in it so.
func (c *Core) succession() {
	for i, k := range c.keks {
		key := ledger.Key(c.config.Ledger.ID, k.Key)
		own := ledger.Signer{Public: key.Public().(ed25519.PublicKey)}
		var signers []ledger.Signer
		if i > 0 {
			former := c.successions[i-1]
			own = ledger.Succeed(c.config.Ledger.ID, ledger.Key(c.config.Ledger.ID, c.keks[i-1].Key), own.Public)
			signers = former[:len(former):len(former)]
		}
		signers = append(signers, own)
		if k.Lineage != nil && len(k.Lineage.Signers) > len(signers) {
			signers, c.inherited = k.Lineage.Signers, k.Lineage
		}
		c.successions = append(c.successions, signers)
	}
}

// Lineage returns what an enclave is to find that will hold a version of the KEK and none
// before it; nil where none came before, or the version is not held.
func (c *Core) Lineage(version string) *Lineage {
	for i, k := range c.keks {
		if k.Version == version && len(c.successions[i]) > 1 {
			l := &Lineage{Signers: c.successions[i]}
			secret.Do(func() { l.Salts = bytes.Clone(c.falseSaltSecret()) })
			return l
		}
	}
	return nil
}

// falseSaltSecret is the oldest version's, whether that is held or not.
func (c *Core) falseSaltSecret() []byte {
	if c.inherited != nil {
		return c.inherited.Salts
	}
	return wire.FalseSaltSecret(c.keks[0].Key, c.config.Ledger.ID)
}
