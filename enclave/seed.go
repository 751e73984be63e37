package enclave

import (
	"errors"

	"github.com/passclave/passclave/enclave/passkey"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// SeedAccount is an account that [Seed] makes out of nothing.
type SeedAccount struct {
	ID          wire.AccountID
	DeviceKey   []byte        // P-256 point, 65 bytes
	UVKey       []byte        // P-256 point, 65 bytes
	VaultSecret []byte        // 32 bytes
	Passkeys    []wire.Handle // names of the records; what they hold is random
	RPID        string        // of all of them
	Time        uint64        // Unix seconds
}

// Seed returns the commit by which an account with one trusted device and its
// passkeys begins: sealed, listed and signed by the code that serves requests, so
// that an enclave with the same KEK and configuration opens it. It stands for an
// enrolment and the passkeys' creation in one entry.
//
// It is for benchmarks with large stores. Whoever calls it chose the vault secret
// and holds the KEK, so the account protects nothing. No shipped binary contains it
// (TestSeedIsNotShipped); hence it is a function: linkers keep methods. What no
// assertion reads is left out: envelopes, encryption key and recovery record name
// blobs that do not exist, so that the device cannot sync and no PIN is right.
func Seed(c *Core, s SeedAccount) (*wire.Commit, error) {
	if len(s.VaultSecret) != wire.SecretSize {
		return nil, errors.New("enclave: seed: vault secret of a wrong size")
	}
	id := wire.NewDeviceID(s.ID, s.DeviceKey)
	h := &head{Version: wire.Version, Account: s.ID, Generation: 1, Epoch: 1}
	t := &tx{
		core: c, state: &State{}, in: &Received{Envelope: &wire.Envelope{}, Now: s.Time},
		body:    &wire.Body{Device: id, Number: 1},
		account: &account{head: h, key: random(wire.SecretSize), note: &ledger.Note{}},
	}
	ch := t.begins(ledger.KindEnrol, s.VaultSecret)
	scope := h.scope(c.config.Ledger.ID)
	h.Recovery = recovery{
		Salt: random(wire.SaltSize), Params: c.config.PIN.Argon2id, Pepper: random(wire.SecretSize), Epoch: 1,
		Public: wire.Digest(random(32)), Envelope: wire.Digest(random(32)),
	}
	h.Recovery.Private = wire.SealBox(random(wire.SecretSize), wire.LabelRecovery, scope, random(wire.SecretSize))
	h.Devices = []device{{
		ID: id, Name: "seeded", Key: s.DeviceKey, UV: s.UVKey,
		Encryption: wire.Digest(random(32)), Envelope: wire.Digest(random(32)), FeedToken: random(wire.SecretSize),
		How: howEnrol, Joined: s.Time, Last: &wire.Outcome{Number: 1},
	}}
	ch.note.Name, ch.commit.SetFeedTokens = "seeded", true
	for _, handle := range s.Passkeys {
		made, metadata, err := passkey.New(&wire.Create{
			RPID: s.RPID, UserHandle: handle[:], UserName: "seeded", Algorithms: []int64{passkey.ES256}, Created: s.Time,
		})
		if err != nil {
			return nil, err
		}
		w := row{Handle: handle, Credential: credentialHash(s.ID, metadata.CredentialID), RP: rpHash(s.ID, s.RPID)}
		if _, err := t.put(ch, w, made, metadata); err != nil {
			return nil, err
		}
	}
	ch.commit.Wraps = []wire.Wrap{c.wrap(scope, ch.account.key)}
	return &t.seal().commit, nil
}
