package attestationtest

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// Configuration returns the file of a measured configuration with cheap parameters.
func Configuration(t testing.TB) []byte {
	t.Helper()
	c := wire.Configuration{
		Version: wire.ConfigurationVersion,
		Ledger:  wire.LedgerIdentity{ID: bytes.Repeat([]byte{0x11}, 32), Backend: wire.BackendLocal, Genesis: make([]byte, 32), Number: 1},
		Issuers: []wire.Issuer{{Issuer: "https://issuer.test", ClientIDs: []string{"passclave"}, Algorithms: []string{"ES256"}}},
		PIN: wire.PINConfiguration{ConsecutiveLimit: 10, LifetimeLimit: 100,
			Argon2id: wire.Argon2id{MemoryKiB: 8, Time: 1, Parallelism: 1}},
		KeyService: wire.KeyService{Attestation: "https://keys.test", Vault: "https://keys.test", Key: "kek"},
	}
	file, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// ClientData returns valid runtime data of purpose client for the configuration,
// with keys that nobody holds.
func ClientData(t testing.TB, configuration []byte) attestation.RuntimeData {
	t.Helper()
	c, err := wire.ParseConfiguration(configuration)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(configuration)
	key, err := wire.KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	l := c.Ledger
	return attestation.RuntimeData{
		Purpose: attestation.PurposeClient,
		HPKE:    key.PublicKey().Bytes(),
		Config:  hash[:],
		Ledger: &attestation.Ledger{ID: l.ID, Backend: l.Backend, Genesis: l.Genesis, Number: l.Number,
			Signers: []attestation.Signer{{Public: bytes.Repeat([]byte{0x22}, 32)}}},
	}
}

// ReleaseData returns valid runtime data of purpose release for the configuration,
// with a key that nobody holds.
func ReleaseData(t testing.TB, configuration []byte) attestation.RuntimeData {
	t.Helper()
	hash := sha256.Sum256(configuration)
	return attestation.RuntimeData{
		Purpose: attestation.PurposeRelease,
		Config:  hash[:],
		Keys: []attestation.RSAKey{{KID: "test", Kty: "RSA", KeyOps: []string{"encrypt"},
			N: bytes.Repeat([]byte{0xc1}, 256), E: []byte{1, 0, 1}}},
	}
}
