//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	p11 "github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// Store is a token. It implements [keystore.Store].
type Store struct {
	config Config
	module module
	now    func() time.Time
	wraps  map[keywrap.Algorithm]way // what Open found out
	known  known

	mu         sync.RWMutex // held for reading while the library is used
	connection *connection  // guarded by mu; nil: there is none
	next       time.Time    // guarded by mu: nobody connects before
	failed     error        // guarded by mu: why the last attempt failed
	refused    error        // guarded by mu: the PIN was refused, for good
}

// Open loads the library, logs in and finds out how the token wraps. A process opens a
// library once. Errors: [ErrModule], [ErrToken], [ErrPIN], [ErrPINCount], [ErrMechanism].
func Open(c Config) (*Store, error) {
	m := p11.New(c.Module)
	if m == nil {
		return nil, fmt.Errorf("%w: %s", ErrModule, c.Module)
	}
	return open(c, m)
}

func open(c Config, m module) (*Store, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{config: c, module: m, now: time.Now, known: known{versions: map[string]map[string]bool{}}}
	if err := s.connect(); err != nil {
		return nil, err
	}
	err := s.do(context.Background(), false, func(x *session) (err error) {
		s.wraps, err = x.tryWays()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for _, a := range []keywrap.Algorithm{keywrap.RSAAESKeyWrap, keywrap.RSAAESKeyWrap256, keywrap.RSAAESKeyWrap384} {
		how := "not at all"
		if w, ok := s.wraps[a]; ok {
			how = w.name
		}
		c.Log.Info("the token wraps", "algorithm", a, "by", how)
	}
	if strings.HasPrefix(s.connection.info.ManufacturerID, "SoftHSM") {
		c.Log.Warn("DEVELOPMENT ONLY: SoftHSM is no hardware: it keeps the keys in files and uses them in this process", "token", c.Token)
	}
	return s, nil
}

// Close logs out. The store must not be used any more.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connection, s.refused = nil, errors.New("pkcs11: the store is closed")
	if err := s.module.Finalize(); err != nil && !isLost(err) {
		return err
	}
	return nil
}

// Locks between the processes of a folder. Who reads shares the first, who changes something
// has it alone: to others a change is one step, also where the token has several. The second
// is for logins, one at a time: SoftHSM rewrites the token's own file at each, and a process that
// looks for the token just then finds none.
const (
	lockFile      = "pkcs11.lock"
	loginLockFile = "pkcs11-login.lock"
)

func (s *Store) lock(name string, how int) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(s.config.Dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// read runs f, twice where the token is lost meanwhile.
func (s *Store) read(ctx context.Context, f func(*session) error) error {
	unlock, err := s.lock(lockFile, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	return s.do(ctx, true, f)
}

// change runs f, once: where the token is lost meanwhile, what f wrote may be there.
func (s *Store) change(ctx context.Context, f func(*session) error) error {
	unlock, err := s.lock(lockFile, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	// A connection that was lost before is found out by this, and not by f.
	if err := s.do(ctx, true, (*session).present); err != nil {
		return err
	}
	return s.do(ctx, false, f)
}

// Create makes a key with one version.
func (s *Store) Create(ctx context.Context, name string, policy []byte, immutable bool) (keystore.Version, error) {
	if !keystore.ValidName(name) {
		return keystore.Version{}, keystore.ErrName
	}
	return s.add(ctx, name, policy, func(newest *record) (bool, error) {
		if newest != nil {
			return false, keystore.ErrExists
		}
		return immutable, nil
	})
}

// Rotate adds a version to a key.
func (s *Store) Rotate(ctx context.Context, name string, policy []byte) (keystore.Version, error) {
	return s.add(ctx, name, policy, func(newest *record) (bool, error) {
		switch {
		case newest == nil:
			return false, keystore.ErrNotFound
		case newest.Immutable && !bytes.Equal(newest.Policy, policy):
			return false, keystore.ErrImmutable
		}
		return newest.Immutable, nil
	})
}

// add makes a version. check sees the one before it, nil if there is none, and says whether
// its policy is immutable.
func (s *Store) add(ctx context.Context, name string, policy []byte, check func(newest *record) (immutable bool, err error)) (made keystore.Version, err error) {
	if err := checkPolicy(policy); err != nil {
		return made, err
	}
	err = s.change(ctx, func(x *session) error {
		records, err := x.records(name)
		if err != nil {
			return err
		}
		var newest *record
		if n := len(records); n > 0 {
			newest = records[n-1]
		}
		immutable, err := check(newest)
		if err != nil {
			return err
		}
		var id [16]byte
		rand.Read(id[:])
		m := &metadata{Format: metadataFormat, Name: name, ID: hex.EncodeToString(id[:]), Created: uint64(s.now().Unix()), Enabled: true, Policy: policy, Immutable: immutable}
		if newest != nil {
			m.Created = max(m.Created, newest.Created+1) // two in one second keep their order
		}
		template, err := keyTemplate(name, m.ID)
		if err != nil {
			return err
		}
		key, err := x.generate(template...)
		if err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		if err := x.checkKey(key); err != nil {
			return err
		}
		made = m.public()
		return x.write(m)
	})
	if err != nil {
		return keystore.Version{}, err
	}
	return made, nil
}

func checkPolicy(policy []byte) error {
	if _, err := releasepolicy.Parse(policy); err != nil {
		return fmt.Errorf("%w: %w", keystore.ErrPolicy, err)
	}
	return nil
}

// Versions lists all versions of a key, oldest first.
func (s *Store) Versions(ctx context.Context, name string) (versions []keystore.Version, err error) {
	err = s.read(ctx, func(x *session) error {
		records, err := x.records(name)
		versions = nil
		for _, r := range records {
			versions = append(versions, r.public())
		}
		return err
	})
	if err == nil && len(versions) == 0 {
		err = keystore.ErrNotFound
	}
	return versions, err
}

// SetEnabled switches a version on or off.
func (s *Store) SetEnabled(ctx context.Context, name, id string, enabled bool) error {
	return s.replace(ctx, name, id, func(m *metadata) error { m.Enabled = enabled; return nil })
}

// SetPolicy gives a version another release policy.
func (s *Store) SetPolicy(ctx context.Context, name, id string, policy []byte) error {
	if err := checkPolicy(policy); err != nil {
		return err
	}
	return s.replace(ctx, name, id, func(m *metadata) error {
		if m.Immutable {
			return keystore.ErrImmutable
		}
		m.Policy = policy
		return nil
	})
}

func (s *Store) replace(ctx context.Context, name, id string, change func(*metadata) error) error {
	return s.change(ctx, func(x *session) error {
		r, err := x.record(name, id)
		if err != nil {
			return err
		}
		return x.replace(r, change)
	})
}

// Wrap returns the version's key wrapped to pub, in the token.
func (s *Store) Wrap(ctx context.Context, name, id string, a keywrap.Algorithm, pub *rsa.PublicKey) (wrapped []byte, err error) {
	if !keystore.ValidRSA(pub) {
		return nil, keystore.ErrRSA
	}
	err = s.read(ctx, func(x *session) error {
		r, err := x.record(name, id)
		if err != nil {
			return err
		}
		if !r.Enabled {
			return keystore.ErrDisabled
		}
		w, ok := s.wraps[a]
		if !ok {
			return fmt.Errorf("%w: the token cannot wrap by %.40q", keywrap.ErrAlgorithm, a)
		}
		key, err := x.key(name, id)
		if err != nil {
			return err
		}
		wrapped, err = x.wrap(w, a, pub, key)
		return err
	})
	return wrapped, err
}
