package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/wire"
)

// seededRP is the relying party of every seeded passkey, seededPasskeys how many an account has.
const (
	seededRP       = "rp.example"
	seededPasskeys = 2
)

// population is the accounts of a seeded store. All their secrets derive from one
// seed, so that nothing but the seed is kept for the load generator.
type population struct {
	seed []byte
	size int
}

func (p population) secret(i int, what string, n int) []byte {
	return wire.Derive(p.seed, "bench", uint64(i), what)[:n]
}

// device returns the only device of account i. Account IDs ascend with i.
func (p population) device(i int) *device {
	id := binary.BigEndian.AppendUint64(nil, uint64(i)*(math.MaxUint64/uint64(p.size)))
	d := &device{
		account: wire.AccountID(append(id, p.secret(i, "account", 24)...)),
		key:     p.key(i, "device key"), uv: p.key(i, "uv key"),
		vault: p.secret(i, "vault secret", wire.SecretSize), epoch: 1, number: 1,
		known: &wire.Head{Sequence: 1},
	}
	d.id = wire.NewDeviceID(d.account, point(d.key))
	for k := range seededPasskeys {
		d.handles = append(d.handles, wire.Handle(p.secret(i, fmt.Sprintf("handle %d", k), 16)))
	}
	return d
}

// key takes 32 derived bytes as a private scalar: they are one, but for one seed in 2^32.
func (p population) key(i int, what string) *ecdsa.PrivateKey {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), p.secret(i, what, 32))
	if err != nil {
		panic(err)
	}
	return key
}

// commit makes account i as the store keeps it.
func (p population) commit(core *enclave.Core, i int) (*wire.Commit, error) {
	d := p.device(i)
	return enclave.Seed(core, enclave.SeedAccount{
		ID: d.account, DeviceKey: point(d.key), UVKey: point(d.uv), VaultSecret: d.vault,
		Passkeys: d.handles, RPID: seededRP, Time: seededAt,
	})
}

// seededAt is when seeded accounts were made, Unix seconds.
const seededAt = 1_790_000_000
