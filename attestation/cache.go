package attestation

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/passclave/passclave/wire"
)

// Cache remembers what was verified and cannot come out differently: signatures, and
// what was decoded, which depend on nothing but the bytes. What depends on the time or on the
// verifier's roots (validity, which roots count, revocation) is checked every time.
// Only what was found good is remembered.
//
// It is for those who verify often: a client that comes back, a host, a broker. It
// holds at most the number of results that it was made for, about 16 KiB each; the
// oldest goes first. A stranger's evidence may push results out, which costs time and
// nothing else. It is safe for concurrent use. The zero value and nil remember nothing.
type Cache struct {
	mu    sync.Mutex
	known map[wire.Digest]any
	order []wire.Digest // of known, a ring: the oldest at next once it is full
	next  int
	size  int
}

// NewCache returns a cache of at most size results. One bundle of SEV-SNP makes up to
// five: chain, report, revocation list, endorsement, host certificates. One of TDX or
// SGX makes up to eight: PCK certificates, what they say of the platform, their
// signatures, the quoting enclave's report, and each of the four kinds of collateral.
func NewCache(size int) *Cache {
	return &Cache{known: map[wire.Digest]any{}, size: size}
}

// Genuine is [Genuine], with less work for what is known.
func (c *Cache) Genuine(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	return genuine(b, roots, now, c)
}

// Hardware is [Hardware], with less work for what is known.
func (c *Cache) Hardware(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	return hardware(b, roots, now, c)
}

// cacheKey names a result by all inputs that it depends on. Each has its length before
// it: no two lists of inputs run together.
func cacheKey(kind string, inputs ...[]byte) wire.Digest {
	h := sha256.New()
	for _, in := range append([][]byte{[]byte(kind)}, inputs...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(in)))
		h.Write(n[:])
		h.Write(in)
	}
	return wire.Digest(h.Sum(nil))
}

// once returns what check returned for the same key, or calls it. check must depend on
// nothing that the key does not name; its result is shared and must not be changed.
func once[T any](c *Cache, key func() wire.Digest, check func() (T, error)) (T, error) {
	if c == nil || c.size <= 0 {
		return check()
	}
	k := key()
	c.mu.Lock()
	v, ok := c.known[k].(T)
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := check()
	if err == nil {
		c.remember(k, v)
	}
	return v, err
}

func (c *Cache) remember(k wire.Digest, v any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.known[k]; ok {
		return // another goroutine was faster
	}
	if len(c.order) < c.size {
		c.order = append(c.order, k)
	} else {
		delete(c.known, c.order[c.next])
		c.order[c.next] = k
		c.next = (c.next + 1) % c.size
	}
	c.known[k] = v
}
