package attestation

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// IntelVerifier verifies evidence of TDX and SGX, and remembers which certificates and
// collateral have had a good signature: what a verifier sees again and again from one
// machine costs less than half then. The functions of the same names remember nothing.
//
// It remembers signatures and no verdict: roots, times, TCB and revocation are judged
// anew each time. The zero value and nil are ready for use, nil without a memory; it is
// safe for concurrent use and holds at most some kilobytes.
type IntelVerifier struct {
	mu    sync.Mutex
	known map[fact]struct{}
}

// maxFacts bounds the memory; a full one is emptied. One machine needs about six.
const maxFacts = 512

// fact names a signature that held: a digest of the kind, the signer and what is signed.
type fact [sha256.Size]byte

// factOf hashes label and parts, each with its length.
func factOf(label string, parts ...[]byte) (f fact) {
	h := sha256.New()
	for _, p := range append([][]byte{[]byte(label)}, parts...) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	h.Sum(f[:0])
	return f
}

func (v *IntelVerifier) knows(f fact) bool {
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.known[f]
	return ok
}

func (v *IntelVerifier) learn(f fact) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil || len(v.known) >= maxFacts {
		v.known = make(map[fact]struct{})
	}
	v.known[f] = struct{}{}
}

// once runs check unless it is known to have held for f.
func (v *IntelVerifier) once(f fact, check func() error) error {
	if v.knows(f) {
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	v.learn(f)
	return nil
}

// Genuine is the function of that name; it remembers where the platform is Intel's.
func (v *IntelVerifier) Genuine(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	var c *Claims
	var err error
	switch b.Platform {
	case PlatformTDX:
		c, err = v.verifyTDX(b, roots, now)
	case PlatformSGX:
		c, err = v.VerifySGX(b.Report, b.Collateral, roots, now)
	default:
		return Genuine(b, roots, now)
	}
	if err != nil {
		return nil, err
	}
	if err := c.bind(b.RuntimeData, b.Configuration); err != nil {
		return nil, err
	}
	return c, nil
}
