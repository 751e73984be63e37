//go:build cgo

package pkcs11

import (
	"crypto/rand"
	"crypto/rsa"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/passclave/passclave/development/softhsm/softhsmtest"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/keyrelease/releasetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(processVariable) != "" {
		serveProcess()
		return
	}
	os.Exit(softhsmtest.Main(m))
}

const (
	testOfficer = "the officer's PIN"
	testUser    = "the user's PIN"
)

// token is a new token in SoftHSM, alone in its place.
type token struct {
	place  *softhsmtest.Place
	label  string
	dir    string // state folder of who uses it
	folder string // SoftHSM's, of this token
}

func newToken(t testing.TB) *token {
	t.Helper()
	k := &token{place: softhsmtest.New(t), label: "the token", dir: t.TempDir()}
	softhsmtest.Initializing.Lock()
	err := InitToken(k.place.Library(t), k.label, PIN{testOfficer}, PIN{testUser})
	softhsmtest.Initializing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob(filepath.Join(k.place.Tokens, "*"))
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	k.folder = all[0]
	return k
}

func (k *token) config() Config {
	return Config{Token: k.label, PIN: PIN{testUser}, Dir: k.dir, Log: slog.New(slog.DiscardHandler)}
}

// open opens the token in this process. Nobody else may use it at the same time.
func (k *token) open(t testing.TB) *Store {
	t.Helper()
	f := k.newFaulty(t) // without faults
	s, err := open(k.config(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func policy(value string) []byte {
	return releasepolicy.Require("https://authority.test", map[string]any{"claim": value})
}

var testRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// made is a token with one key in it, and its store.
func made(t testing.TB) (*token, *Store, keystore.Version) {
	t.Helper()
	k := newToken(t)
	s := k.open(t)
	v, err := s.Create(t.Context(), "kek", policy("a"), false)
	if err != nil {
		t.Fatal(err)
	}
	return k, s, v
}

// kek returns a version's key, as an enclave gets it.
func kek(t testing.TB, s *Store, id string) string {
	t.Helper()
	c, err := s.Wrap(t.Context(), "kek", id, keywrap.RSAAESKeyWrap, &testRSA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap, testRSA(), c)
	if err != nil {
		t.Fatal(err)
	}
	return string(key)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	var tokens sync.Map
	releasetest.TestStore(t, func(t *testing.T) keystore.Store {
		k, ok := tokens.Load(t.Name())
		if !ok {
			k = newToken(t)
			tokens.Store(t.Name(), k)
		}
		return k.(*token).process(t)
	})
}
