// Package enclave is the workload: the only code that sees a passkey's private
// key, a vault secret or a stretched PIN in the clear.
//
// [Core.Step] is one request from top to bottom: a pure function from the state of
// a request and an event to the next state and effects, so that the runtime, the
// fuzzer and a model checker drive the same code. It reads no clock, opens no
// connection and keeps nothing between requests; only crypto/rand is drawn from.
// What outlives a request lies in the account head and the ledger; what outlives
// neither (HPKE keys, the replay filter, the endorser's memory) is the runtime's.
//
// It trusts its own binary, the measured configuration, the KEK, and the ledger
// backend's word for which entry is the newest. Everything else is hostile: what
// the host loads is checked against the newest entry, what a device asks against
// the account head, and what neither can vouch for against the vault secret.
package enclave

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// KEK is one version of the key-encryption key.
type KEK struct {
	Version string
	Key     []byte // 32 bytes
	// Lineage is what came before this version, where that is known; nil: nothing is.
	Lineage *Lineage
}

// Core is what all requests of one enclave share. It does not change: a new
// version of the KEK makes a new Core.
type Core struct {
	config  *wire.Configuration
	boot    []byte // authenticates challenges, seals tickets: 32 bytes of this process
	keks    []KEK  // oldest first
	signers []ledger.Signer
	keys    *ledger.Verifier

	successions [][]ledger.Signer // for each of keks the ledger keys up to its own
	inherited   *Lineage          // that the ledger keys begin with; nil: they begin with the first of keks
}

// NewCore returns a core for a measured configuration. Without a KEK it answers
// every request with [wire.CodeSealed]. keks are ordered oldest first; boot is a
// random key of 32 bytes.
func NewCore(config *wire.Configuration, boot []byte, keks []KEK) (*Core, error) {
	c := &Core{config: config, boot: boot, keks: keks}
	if len(boot) != wire.SecretSize {
		return nil, fmt.Errorf("enclave: boot key of %d bytes", len(boot))
	}
	if len(keks) == 0 {
		return c, nil
	}
	for _, k := range keks {
		if len(k.Key) != wire.SecretSize {
			return nil, fmt.Errorf("enclave: KEK version %s has %d bytes", k.Version, len(k.Key))
		}
	}
	// The private keys end here: each entry's is derived again from the KEK.
	secret.Do(c.succession)
	c.signers = c.successions[len(keks)-1]
	var err error
	c.keys, err = ledger.NewVerifier(config.Ledger.ID, c.signers)
	return c, err
}

// Signers returns the ledger keys, oldest first, also of versions that are not held any
// more: none without a KEK.
func (c *Core) Signers() []ledger.Signer { return c.signers }

// Verifier checks entries of this ledger; nil without a KEK.
func (c *Core) Verifier() *ledger.Verifier { return c.keys }

func (c *Core) newestKEK() KEK { return c.keks[len(c.keks)-1] }

// sign signs an entry with the newest ledger key. The private key is derived for each
// signature and erased with what else the derivation left, which costs about as much as
// the signature again; an assertion signs nothing.
func (c *Core) sign(e *ledger.Entry) []byte {
	return e.SignWith(c.LedgerKey())
}

// LedgerKey returns the newest ledger key: its public half, and how it signs.
func (c *Core) LedgerKey() (public ed25519.PublicKey, sign func(message []byte) []byte) {
	return c.signers[len(c.signers)-1].Public, func(message []byte) (signature []byte) {
		secret.Do(func() {
			signature = ed25519.Sign(ledger.Key(c.config.Ledger.ID, c.newestKEK().Key), message)
		})
		return signature
	}
}

// Ages up to which a challenge or ticket is good.
const (
	challengeAge = 2 * time.Minute
	loginAge     = 10 * time.Minute
)

const challengeSize = 8 + 16

// Challenge returns the enclave's monotonic time, authenticated: milliseconds
// since the start (uint64, big-endian) ‖ the first 16 bytes of an HMAC-SHA-256.
// It is the same for all who ask at the same time.
func (c *Core) Challenge(now time.Duration) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, challengeSize), uint64(now.Milliseconds()))
	return append(b, c.challengeMAC(b)...)
}

func (c *Core) challengeMAC(t []byte) []byte {
	message := wire.Hash("challenge", t)
	mac := hmac.New(sha256.New, wire.Derive(c.boot, "challenge key"))
	mac.Write(message[:])
	return mac.Sum(nil)[:challengeSize-8]
}

// checkChallenge refuses a challenge that this process did not make, or made
// longer ago than age.
func (c *Core) checkChallenge(challenge []byte, now, age time.Duration) error {
	if len(challenge) != challengeSize || !hmac.Equal(challenge[8:], c.challengeMAC(challenge[:8])) {
		return wire.Errorf(wire.CodeChallenge, "not a challenge of this enclave")
	}
	made := time.Duration(binary.BigEndian.Uint64(challenge)) * time.Millisecond
	if made > now || now-made > age {
		return wire.Errorf(wire.CodeChallenge, "older than %s", age)
	}
	return nil
}
