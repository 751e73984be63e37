package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
)

var passphrase = []byte("correct horse battery")

// Argon2id takes most of a second a guess: one test holds all that need it.
func TestBackup(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStore(t)
	data, err := Backup(ctx, s.dir, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := json.Marshal(plain.Keys["kek"][0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, bytes.Trim(secret, `"`)) || bytes.Contains(data, plain.Keys["kek"][0].Key) {
		t.Error("the key stands in the backup")
	}

	dir := t.TempDir()
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, dir, data, passphrase); !errors.Is(err, ErrInUse) {
		t.Errorf("under a running broker: got %v, want ErrInUse", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, dir, data, []byte("correct horse batterx")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("other passphrase: got %v, want ErrPassphrase", err)
	}
	if err := Restore(ctx, dir, data, passphrase); err != nil {
		t.Fatal(err)
	}
	restored, err := (&Store{dir: dir}).read()
	if err != nil || len(restored.Keys["kek"]) != 1 || !bytes.Equal(restored.Keys["kek"][0].Key, plain.Keys["kek"][0].Key) {
		t.Errorf("restored another key: %v", err)
	}
	info, err := os.Stat((&Store{dir: dir}).path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Restore(ctx, dir, data, passphrase); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("over keys: got %v, want ErrExists", err)
	}

	var b backup
	if err := azure.Decode(data, &b); err != nil {
		t.Fatal(err)
	}
	b.Sealed[0] ^= 1
	flipped, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := Restore(ctx, t.TempDir(), flipped, passphrase); !errors.Is(err, ErrPassphrase) {
		t.Errorf("flipped: got %v, want ErrPassphrase", err)
	}
}

func TestBackupRefusals(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	if _, err := Backup(ctx, newStore(t).dir, []byte("short")); !errors.Is(err, ErrWeakPassphrase) {
		t.Errorf("got %v, want ErrWeakPassphrase", err)
	}
	if _, err := Backup(ctx, t.TempDir(), passphrase); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	good := backup{Format: backupFormat, KDF: backupCost, Salt: make([]byte, 32), Sealed: make([]byte, 40)}
	for name, change := range map[string]func(*backup){
		"format":       func(b *backup) { b.Format = "passclave key backup 2" },
		"cheaper cost": func(b *backup) { b.KDF.Time = 1 },
		"huge cost":    func(b *backup) { b.KDF.MemoryKiB = 1 << 31 },
		"short salt":   func(b *backup) { b.Salt = b.Salt[:8] },
	} {
		b := good
		change(&b)
		data, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := Restore(ctx, t.TempDir(), data, passphrase); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: got %v, want ErrBackup", name, err)
		}
	}
	if err := Restore(ctx, t.TempDir(), []byte("{"), passphrase); !errors.Is(err, ErrBackup) {
		t.Errorf("got %v, want ErrBackup", err)
	}
}
