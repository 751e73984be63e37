package attestation

import "github.com/passclave/passclave/wire"

// fact names a signature of Intel's that held: a digest of its kind, the signer and what
// is signed.
type fact = wire.Digest

func factOf(kind string, parts ...[]byte) fact { return cacheKey(kind, parts...) }

func (c *Cache) knows(f fact) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.known[f]
	return ok
}

func (c *Cache) learn(f fact) {
	if c != nil && c.size > 0 {
		c.remember(f, struct{}{})
	}
}

// held runs check unless it is known to have held for f.
func (c *Cache) held(f fact, check func() error) error {
	_, err := once(c, func() wire.Digest { return f }, func() (struct{}, error) { return struct{}{}, check() })
	return err
}
