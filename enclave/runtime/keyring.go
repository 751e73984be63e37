package runtime

import (
	"crypto/hpke"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/wire"
)

const (
	keyLife     = time.Hour
	keyRequests = 1 << 20
	keyOverlap  = 5 * time.Minute // how long a replaced key still opens requests
)

// keyring holds the HPKE key pairs. A pair lives in memory only and is replaced
// every hour or 2^20 requests. What a pair has opened it never opens again; a full
// filter closes its key, since nothing is ever forgotten to make room.
type keyring struct {
	now      func() time.Duration
	requests int // per key
	replaced func()

	mu   sync.Mutex
	keys []*keyPair // newest first; the first is handed out
}

type keyPair struct {
	id      wire.KeyID
	private hpke.PrivateKey
	public  []byte
	born    time.Duration
	retired time.Duration         // when another took its place; 0: current
	seen    map[[16]byte]struct{} // truncated SHA-256 of every enc that it opened
}

// newKeyring makes the first pair. replaced is called, without locks held, after
// another pair has become the current one.
func newKeyring(now func() time.Duration, requests int, replaced func()) (*keyring, error) {
	k := &keyring{now: now, requests: requests, replaced: replaced}
	return k, k.add()
}

func (k *keyring) add() error {
	var pair *keyPair
	var err error
	secret.Do(func() {
		var private hpke.PrivateKey
		if private, err = wire.KEM().GenerateKey(); err != nil {
			return
		}
		public := private.PublicKey().Bytes()
		pair = &keyPair{id: wire.NewKeyID(public), private: private, public: public, born: k.now(), seen: map[[16]byte]struct{}{}}
	})
	if err != nil {
		return err
	}
	if len(k.keys) > 0 {
		k.keys[0].retired = max(k.now(), 1)
	}
	k.keys = append([]*keyPair{pair}, k.keys...)
	return nil
}

// current returns the public key that is handed out.
func (k *keyring) current() (wire.KeyID, []byte, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[0].id, k.keys[0].public, len(k.keys[0].seen)
}

// open opens an envelope once.
func (k *keyring) open(e *wire.Envelope) (*wire.Opened, error) {
	pair := k.find(e.Header.Key)
	if pair == nil {
		return nil, wire.Errorf(wire.CodeUnknownKey, "no key %s", e.Header.Key)
	}
	var opened *wire.Opened
	var err error
	secret.Do(func() { opened, err = e.Open(pair.private) })
	if err != nil {
		return nil, err
	}
	return opened, k.admit(pair, e.Enc)
}

func (k *keyring) find(id wire.KeyID) *keyPair {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.keys {
		if p.id == id {
			return p
		}
	}
	return nil
}

// admit notes that a pair opened enc, and refuses what it has opened before.
func (k *keyring) admit(p *keyPair, enc []byte) error {
	sum := sha256.Sum256(enc)
	short := [16]byte(sum[:16])
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := p.seen[short]; ok {
		return wire.Errorf(wire.CodeReplayed, "opened before")
	}
	if len(p.seen) >= k.requests {
		return wire.Errorf(wire.CodeUnknownKey, "key used up")
	}
	p.seen[short] = struct{}{}
	return nil
}

// turn replaces the current pair when its time or number is up, and forgets pairs
// whose overlap is over. The runtime calls it often.
func (k *keyring) turn() error {
	k.mu.Lock()
	now, current := k.now(), k.keys[0]
	// A sixteenth of the filter is left for clients that still hold the old key.
	due := now-current.born >= keyLife || len(current.seen) >= k.requests-k.requests/16
	var err error
	if due {
		err = k.add()
	}
	kept := k.keys[:1]
	for _, p := range k.keys[1:] {
		if now-p.retired < keyOverlap {
			kept = append(kept, p)
		}
	}
	k.keys = kept
	k.mu.Unlock()
	if due && err == nil {
		k.replaced()
	}
	return err
}
