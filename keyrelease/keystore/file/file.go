// Package file is the key store for development: one JSON file that holds the
// keys in the clear. Who can read the file, or the memory of the process that
// opened it, has the KEK; the file mode (0600) is all that protects it. A service
// whose database matters keeps its keys in an HSM.
//
// The file is the source of truth and is read at each call, so that an offline
// `rotate` is seen; every change is written to a temporary file, synced and
// renamed, under a lock file that two processes share. The caller must keep a
// backup (see [Backup]): the database opens with these keys or not at all.
package file

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// FileName is the key file's name in the state folder.
const FileName = "keys.json"

const (
	formatVersion = 2 // 1 had no immutable policies
	maxFile       = 8 << 20
	keyType       = "oct-HSM"
)

var (
	// ErrCorrupt is returned for a key file that is there but cannot be read as one.
	ErrCorrupt = errors.New("key file is corrupt")
	// ErrMode is returned for a key file that others than its owner may use.
	ErrMode = errors.New("key file must have mode 0600")
)

// Store is a folder with a key file. It implements [keystore.Store].
type Store struct {
	dir string
	now func() time.Time
	mu  sync.Mutex // one writer in this process; the lock file keeps out others
}

// Open returns the store in a folder, which is made (0700) if it is not there. A
// key file that is there is checked ([ErrCorrupt], [ErrMode]).
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, now: time.Now}
	f, err := s.read()
	if err != nil {
		return nil, err
	}
	f.clear()
	return s, nil
}

// keyFile is the whole of the file.
type keyFile struct {
	Format int              `json:"format"`
	Notice string           `json:"notice"`
	Keys   map[string][]key `json:"keys"` // versions, oldest first
}

type key struct {
	ID      string      `json:"version"`
	Created uint64      `json:"created"`
	Enabled bool        `json:"enabled"`
	Key     azure.Bytes `json:"key"`
	Policy  azure.Bytes `json:"release_policy"`

	Immutable bool `json:"immutable,omitempty"`
}

const notice = "DEVELOPMENT ONLY: these keys are not protected. Losing them loses every passkey sealed under them."

func (f *keyFile) clear() {
	for _, versions := range f.Keys {
		for _, k := range versions {
			clear(k.Key)
		}
	}
}

func (k *key) public() keystore.Version {
	return keystore.Version{ID: k.ID, Created: k.Created, Enabled: k.Enabled, Kty: keyType, Policy: k.Policy, Immutable: k.Immutable}
}

func (s *Store) path() string { return filepath.Join(s.dir, FileName) }

// read returns the file, or an empty one where none is.
func (s *Store) read() (*keyFile, error) {
	f, err := os.Open(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return &keyFile{Format: formatVersion, Notice: notice, Keys: map[string][]key{}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s", ErrMode, s.path())
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s: too large", ErrCorrupt, s.path())
	}
	data := make([]byte, info.Size())
	if n, err := f.ReadAt(data, 0); n != len(data) {
		return nil, err
	}
	defer clear(data)
	k, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, s.path())
	}
	return k, nil
}

// parse reads a key file and checks all that the rest relies on.
func parse(data []byte) (*keyFile, error) {
	var f keyFile
	if azure.Decode(data, &f) != nil || f.Format != 1 && f.Format != formatVersion || f.Keys == nil {
		return nil, ErrCorrupt
	}
	f.Format = formatVersion
	for name, versions := range f.Keys {
		if !keystore.ValidName(name) || len(versions) == 0 {
			return nil, ErrCorrupt
		}
		for i, v := range versions {
			_, err := releasepolicy.Parse(v.Policy)
			if len(v.Key) != 32 || !keystore.ValidName(v.ID) || err != nil || i > 0 && v.Created <= versions[i-1].Created || v.Immutable != versions[0].Immutable {
				return nil, ErrCorrupt
			}
		}
	}
	return &f, nil
}

// change runs f on the file as it is and writes what f left, unless f fails.
func (s *Store) change(f func(*keyFile) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	lock, err := os.OpenFile(filepath.Join(s.dir, FileName+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which also gives up the lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	k, err := s.read()
	if err != nil {
		return err
	}
	defer k.clear()
	if err := f(k); err != nil {
		return err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(k); err != nil {
		return err
	}
	defer clear(b.Bytes())
	return writeAtomic(s.path(), b.Bytes())
}

// writeAtomic replaces a file by data: after a crash either is there, whole.
func writeAtomic(path string, data []byte) error {
	dir := filepath.Dir(path)
	t, err := os.CreateTemp(dir, filepath.Base(path)+".tmp*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.Write(data)
	if err == nil {
		err = t.Sync()
	}
	if e := t.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Create makes a key with one version.
func (s *Store) Create(_ context.Context, name string, policy []byte, immutable bool) (keystore.Version, error) {
	if !keystore.ValidName(name) {
		return keystore.Version{}, keystore.ErrName
	}
	return s.add(name, policy, func(versions []key) (bool, error) {
		if len(versions) > 0 {
			return false, keystore.ErrExists
		}
		return immutable, nil
	})
}

// Rotate adds a version to a key.
func (s *Store) Rotate(_ context.Context, name string, policy []byte) (keystore.Version, error) {
	return s.add(name, policy, func(versions []key) (bool, error) {
		if len(versions) == 0 {
			return false, keystore.ErrNotFound
		}
		newest := versions[len(versions)-1]
		if newest.Immutable && !bytes.Equal(newest.Policy, policy) {
			return false, keystore.ErrImmutable
		}
		return newest.Immutable, nil
	})
}

// add makes a version. check sees those before it, and says whether its policy is immutable.
func (s *Store) add(name string, policy []byte, check func([]key) (bool, error)) (keystore.Version, error) {
	if _, err := releasepolicy.Parse(policy); err != nil {
		return keystore.Version{}, fmt.Errorf("%w: %w", keystore.ErrPolicy, err)
	}
	var made keystore.Version
	err := s.change(func(f *keyFile) error {
		versions := f.Keys[name]
		immutable, err := check(versions)
		if err != nil {
			return err
		}
		k := key{Created: uint64(s.now().Unix()), Enabled: true, Key: make([]byte, 32), Policy: policy, Immutable: immutable}
		if n := len(versions); n > 0 {
			k.Created = max(k.Created, versions[n-1].Created+1) // two in one second keep their order
		}
		rand.Read(k.Key)
		var id [16]byte
		rand.Read(id[:])
		k.ID = hex.EncodeToString(id[:])
		f.Keys[name] = append(versions, k)
		made = k.public()
		return nil
	})
	return made, err
}

// Versions lists all versions of a key, oldest first.
func (s *Store) Versions(_ context.Context, name string) ([]keystore.Version, error) {
	f, err := s.read()
	if err != nil {
		return nil, err
	}
	defer f.clear()
	if len(f.Keys[name]) == 0 {
		return nil, keystore.ErrNotFound
	}
	var versions []keystore.Version
	for _, k := range f.Keys[name] {
		versions = append(versions, k.public())
	}
	return versions, nil
}

func (f *keyFile) find(name, id string) (*key, error) {
	i := slices.IndexFunc(f.Keys[name], func(k key) bool { return k.ID == id })
	if i < 0 {
		return nil, keystore.ErrNotFound
	}
	return &f.Keys[name][i], nil
}

// SetEnabled switches a version on or off.
func (s *Store) SetEnabled(_ context.Context, name, id string, enabled bool) error {
	return s.change(func(f *keyFile) error {
		k, err := f.find(name, id)
		if err == nil {
			k.Enabled = enabled
		}
		return err
	})
}

// SetPolicy gives a version another release policy.
func (s *Store) SetPolicy(_ context.Context, name, id string, policy []byte) error {
	if _, err := releasepolicy.Parse(policy); err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrPolicy, err)
	}
	return s.change(func(f *keyFile) error {
		k, err := f.find(name, id)
		if err != nil {
			return err
		}
		if k.Immutable {
			return keystore.ErrImmutable
		}
		k.Policy = policy
		return nil
	})
}

// Wrap returns the version's key wrapped to pub. The key passes through this
// process in the clear: that is the difference to an HSM.
func (s *Store) Wrap(_ context.Context, name, id string, a keywrap.Algorithm, pub *rsa.PublicKey) ([]byte, error) {
	if !keystore.ValidRSA(pub) {
		return nil, keystore.ErrRSA
	}
	f, err := s.read()
	if err != nil {
		return nil, err
	}
	defer f.clear()
	k, err := f.find(name, id)
	if err != nil {
		return nil, err
	}
	if !k.Enabled {
		return nil, keystore.ErrDisabled
	}
	return keywrap.Wrap(a, pub, k.Key)
}
