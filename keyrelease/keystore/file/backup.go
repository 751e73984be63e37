package file

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/wire"
)

var (
	// ErrBackup is returned for bytes that are not a backup of this format.
	ErrBackup = errors.New("not a key backup")
	// ErrPassphrase is returned where passphrase or backup are not the right
	// ones: the two cannot be told apart.
	ErrPassphrase = errors.New("wrong passphrase, or the backup was changed")
	// ErrWeakPassphrase is returned for a passphrase under 12 bytes.
	ErrWeakPassphrase = errors.New("a backup's passphrase must have 12 bytes or more")
)

// Cost of one guess at a backup's passphrase. A reader takes no other.
var backupCost = wire.Argon2id{MemoryKiB: 256 << 10, Time: 3, Parallelism: 4}

const backupFormat = "passclave key backup 1"

// backup is the file: JSON with a format line, the salt of Argon2id, and the key
// file under AES-256-GCM. The AEAD key is Derive(Argon2id(passphrase, salt),
// "key backup"), the nonce is zero, as salt and so key are fresh for every
// backup; associated data is the format line.
type backup struct {
	Format string        `json:"format"`
	KDF    wire.Argon2id `json:"argon2id"` // for whoever reads it without this program
	Salt   azure.Bytes   `json:"salt"`     // 32 bytes
	Sealed azure.Bytes   `json:"sealed"`
}

func backupAEAD(passphrase, salt []byte) (cipher.AEAD, error) {
	stretched := argon2.IDKey(passphrase, salt, backupCost.Time, backupCost.MemoryKiB, backupCost.Parallelism, 32)
	defer clear(stretched)
	k := wire.Derive(stretched, "key backup")
	defer clear(k)
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// CheckPassphrase refuses a new backup's passphrase with [ErrWeakPassphrase].
func CheckPassphrase(passphrase []byte) error {
	if len(passphrase) < 12 {
		return ErrWeakPassphrase
	}
	return nil
}

// Backup returns all keys of the store in dir, encrypted under a passphrase of
// 12 bytes or more. It takes about a second and 256 MiB. A store without keys
// gives [keystore.ErrNotFound].
//
// It does not judge the passphrase beyond its length: whoever gets the backup can
// try guesses at the same cost.
func Backup(_ context.Context, dir string, passphrase []byte) ([]byte, error) {
	if err := CheckPassphrase(passphrase); err != nil {
		return nil, err
	}
	s, err := Open(dir)
	if err != nil {
		return nil, err
	}
	f, err := s.read()
	if err != nil {
		return nil, err
	}
	defer f.clear()
	if len(f.Keys) == 0 {
		return nil, keystore.ErrNotFound
	}
	plain, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	b := backup{Format: backupFormat, KDF: backupCost, Salt: make([]byte, 32)}
	rand.Read(b.Salt)
	aead, err := backupAEAD(passphrase, b.Salt)
	if err != nil {
		return nil, err
	}
	b.Sealed = aead.Seal(nil, make([]byte, aead.NonceSize()), plain, []byte(backupFormat))
	out, err := json.MarshalIndent(b, "", "  ")
	return append(out, '\n'), err
}

// Restore writes a backup's keys into dir. It never touches keys that are there
// ([keystore.ErrExists]): putting two histories together would hide which KEK a
// database needs. No broker may serve dir ([ErrInUse]). Errors are [ErrBackup] and [ErrPassphrase] besides.
func Restore(_ context.Context, dir string, data, passphrase []byte) error {
	var b backup
	if azure.Decode(data, &b) != nil || b.Format != backupFormat || b.KDF != backupCost || len(b.Salt) != 32 {
		return ErrBackup
	}
	aead, err := backupAEAD(passphrase, b.Salt)
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), b.Sealed, []byte(backupFormat))
	if err != nil {
		return ErrPassphrase
	}
	defer clear(plain)
	restored, err := parse(plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	s, err := Open(dir)
	if err != nil {
		return err
	}
	unlock, err := Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	return s.change(func(f *keyFile) error {
		if len(f.Keys) > 0 {
			return keystore.ErrExists
		}
		*f = *restored
		return nil
	})
}
