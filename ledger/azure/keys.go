package azure

import (
	"bytes"
	"encoding/base64"
	"sync"

	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// contents is what an entry's contents encode, in unpadded base64url. Beside the entry
// stand its writer's ledger keys: an enclave that has not got the newest KEK yet must
// not take the entries of one that has for a stranger's, and go on without them.
type contents struct {
	Entry   []byte   `cbor:"1,keyasint"`
	Signers []signer `cbor:"2,keyasint"`
}

type signer struct {
	Public    []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint,omitempty"` // by the one before
}

const (
	maxContents = 64 << 10 // longer ones are others'
	maxSigners  = 64
)

// keys are the ledger keys that entries are judged by: the process's own, and
// successors of them that stood beside entries, each signed by the one before.
type keys struct {
	id  []byte
	own func() []ledger.Signer

	mu      sync.Mutex
	signers []ledger.Signer
	judge   *ledger.Verifier // of signers
}

// extends reports whether a list begins with another.
func extends(long, short []ledger.Signer) bool {
	if len(long) < len(short) {
		return false
	}
	for i, s := range short {
		if !bytes.Equal(long[i].Public, s.Public) {
			return false
		}
	}
	return true
}

// verifier returns the verifier of the keys known now. The process's own come first:
// learned successors stay only while they continue them.
func (k *keys) verifier() *ledger.Verifier {
	own := k.own()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.judge == nil || !extends(k.signers, own) {
		k.set(own)
	}
	if k.judge == nil {
		return &ledger.Verifier{Ledger: k.id} // without keys nothing verifies
	}
	return k.judge
}

// set replaces the keys if each is signed by its predecessor. Call with the lock held.
func (k *keys) set(signers []ledger.Signer) {
	if v, err := ledger.NewVerifier(k.id, signers); err == nil {
		k.signers, k.judge = signers, v
	}
}

// learn takes keys that continue those known.
func (k *keys) learn(list []signer) {
	k.verifier()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(list) <= len(k.signers) || len(list) > maxSigners || len(k.signers) == 0 {
		return
	}
	longer := make([]ledger.Signer, len(list))
	for i, s := range list {
		longer[i] = ledger.Signer{Public: s.Public, Signature: s.Signature}
	}
	if extends(longer, k.signers) {
		k.set(longer)
	}
}

// contents encodes an entry with the keys known now.
func (k *keys) contents(entry []byte) string {
	k.verifier()
	k.mu.Lock()
	defer k.mu.Unlock()
	c := contents{Entry: entry}
	for _, s := range k.signers {
		c.Signers = append(c.Signers, signer{s.Public, s.Signature})
	}
	return base64.RawURLEncoding.EncodeToString(wire.Marshal(c))
}

// open decodes contents and learns the keys beside the entry. The entry is not checked.
func (k *keys) open(text string) ([]byte, bool) {
	if len(text) > maxContents {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, false
	}
	var c contents
	if wire.Unmarshal(b, &c) != nil {
		return nil, false
	}
	k.learn(c.Signers)
	return c.Entry, true
}
