package broker

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/passclave/passclave/wire"
)

const (
	challengeLife = 2 * time.Minute
	challengeSize = 8 + 16 + 16
	maxRedeemed   = 1 << 14
)

// challenges are what operators sign over: each good for one request, in the process that
// gave it, for two minutes. One is milliseconds since the start (uint64, big-endian) ‖ 16
// random bytes ‖ the first 16 bytes of Derive(key, "operator challenge", all before).
type challenges struct {
	key   []byte               // of this process
	since func() time.Duration // since the start, monotonic

	mu       sync.Mutex
	redeemed map[[challengeSize]byte]time.Duration // guarded by mu: when each was given
}

func newChallenges() *challenges {
	start := time.Now()
	c := &challenges{key: make([]byte, 32), since: func() time.Duration { return time.Since(start) }, redeemed: map[[challengeSize]byte]time.Duration{}}
	rand.Read(c.key)
	return c
}

func (c *challenges) issue() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, challengeSize), uint64(c.since().Milliseconds()))
	var random [16]byte
	rand.Read(random[:])
	b = append(b, random[:]...)
	return append(b, c.mac(b)...)
}

func (c *challenges) mac(b []byte) []byte { return wire.Derive(c.key, "operator challenge", b)[:16] }

var (
	errChallenge = errors.New("not a challenge of this broker's run, or older than two minutes")
	errReplayed  = errors.New("the challenge was used before")
	errBusy      = errors.New("too many requests of operators within two minutes")
)

// redeem takes a challenge once.
func (c *challenges) redeem(challenge []byte) error {
	if len(challenge) != challengeSize || subtle.ConstantTimeCompare(c.mac(challenge[:24]), challenge[24:]) != 1 {
		return errChallenge
	}
	now := c.since()
	given := time.Duration(binary.BigEndian.Uint64(challenge)) * time.Millisecond
	if now-given > challengeLife {
		return errChallenge
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.redeemed[[challengeSize]byte(challenge)]; ok {
		return errReplayed
	}
	if len(c.redeemed) >= maxRedeemed {
		for k, given := range c.redeemed {
			if now-given > challengeLife {
				delete(c.redeemed, k)
			}
		}
		if len(c.redeemed) >= maxRedeemed {
			return errBusy // forgetting one that is still good would let it in again
		}
	}
	c.redeemed[[challengeSize]byte(challenge)] = given
	return nil
}
