//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/passclave/passclave/development/softhsm/softhsmtest"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
)

// A token is used by what it can do, found out by doing; one that cannot wrap is refused.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	f := k.newFaulty(t)
	without := func(gone ...uint) func([]uint) []uint {
		return func(all []uint) []uint {
			return slices.DeleteFunc(all, func(m uint) bool { return slices.Contains(gone, m) })
		}
	}
	with := func(more ...uint) func([]uint) []uint {
		return func(all []uint) []uint { return append(all, more...) }
	}
	for name, c := range map[string]struct {
		list func([]uint) []uint
		wrap func(uint) []byte
		want string // the way; empty: refused
	}{
		"as it is":     {with(), nil, "OAEP and CKM_AES_KEY_WRAP_PAD"},
		"no OAEP":      {without(p11.CKM_RSA_PKCS_OAEP), nil, ""},
		"no key wrap":  {without(p11.CKM_AES_KEY_WRAP_PAD), nil, ""},
		"no AES keys":  {without(p11.CKM_AES_KEY_GEN), nil, ""},
		"nothing":      {func([]uint) []uint { return nil }, nil, ""},
		"listed alone": {with(p11.CKM_RSA_AES_KEY_WRAP, aesWrapKWP), nil, "OAEP and CKM_AES_KEY_WRAP_PAD"},
		// Another maker's CKM_AES_KEY_WRAP_PAD, of another length or of the right one.
		"another padding": {with(), func(m uint) []byte { return map[uint][]byte{p11.CKM_AES_KEY_WRAP_PAD: make([]byte, 48)}[m] }, ""},
		"no padding":      {with(), func(m uint) []byte { return map[uint][]byte{p11.CKM_AES_KEY_WRAP_PAD: make([]byte, 40)}[m] }, ""},
		"another OAEP":    {with(), func(m uint) []byte { return map[uint][]byte{p11.CKM_RSA_PKCS_OAEP: make([]byte, 256)}[m] }, ""},
	} {
		f.set(func() { f.list, f.wrap = c.list, c.wrap })
		s, err := f.open(k.config())
		if err != nil {
			if c.want != "" || !errors.Is(err, ErrMechanism) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := s.wraps[keywrap.RSAAESKeyWrap].name; got != c.want {
			t.Errorf("%s: wraps by %q, want %q", name, got, c.want)
		}
		s.Close()
	}
}

// SoftHSM's OAEP has SHA-1 alone. The others are refused, and no part of them is done here.
func TestAlgorithmIsRefused(t *testing.T) {
	t.Parallel()
	_, s, v := made(t)
	if len(s.wraps) != 1 {
		t.Skipf("this SoftHSM wraps by %v", s.wraps)
	}
	for _, a := range []keywrap.Algorithm{keywrap.RSAAESKeyWrap256, keywrap.RSAAESKeyWrap384} {
		if c, err := s.Wrap(t.Context(), "kek", v.ID, a, &testRSA().PublicKey); !errors.Is(err, keywrap.ErrAlgorithm) || c != nil {
			t.Errorf("%s: %x, %v", a, c, err)
		}
	}
}

// Each algorithm asks for its own hash, in OAEP and in its MGF1.
func TestOAEPParameters(t *testing.T) {
	t.Parallel()
	for a, want := range map[keywrap.Algorithm]p11.OAEPParams{
		keywrap.RSAAESKeyWrap:    {HashAlg: 0x220, MGF: 1, SourceType: 1}, // PKCS#11: CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED
		keywrap.RSAAESKeyWrap256: {HashAlg: 0x250, MGF: 2, SourceType: 1},
		keywrap.RSAAESKeyWrap384: {HashAlg: 0x260, MGF: 3, SourceType: 1},
	} {
		if got, err := oaepOf(a); err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, %v", a, got, err)
		}
	}
}

// Neither a key nor the session key between comes out of the library.
func TestKeysStayInside(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	f := k.newFaulty(t)
	var out [][]byte
	f.seen = func(_ string, answers ...[]byte) {
		for _, a := range answers {
			out = append(out, bytes.Clone(a))
		}
	}
	s, err := f.open(k.config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := s.Create(t.Context(), "kek", policy("a"), false)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap, testRSA(), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	between, err := rsa.DecryptOAEP(sha1.New(), nil, testRSA(), wrapped[:256], nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 4 {
		t.Fatalf("%d answers", len(out))
	}
	for _, o := range out {
		if bytes.Contains(o, key) || bytes.Contains(o, between) {
			t.Error("a key left the library")
		}
	}
	// Nobody who is logged in can read it, or use it for more than to be wrapped.
	err = s.do(t.Context(), false, func(x *session) error {
		o, err := x.key("kek", v.ID)
		if err != nil {
			return err
		}
		if _, err := x.GetAttributeValue(x.handle, o, []*p11.Attribute{p11.NewAttribute(p11.CKA_VALUE, nil)}); !isCode(err, p11.CKR_ATTRIBUTE_SENSITIVE) {
			t.Errorf("its value: %v", err)
		}
		if err := f.EncryptInit(x.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_ECB, nil)}, o); err == nil {
			t.Error("it encrypts")
		}
		if err := f.SetAttributeValue(x.handle, o, []*p11.Attribute{p11.NewAttribute(p11.CKA_ENCRYPT, true)}); err == nil {
			t.Error("it can be changed")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// An RSA key that others could break is refused before the token sees it, which would take
// it. (SoftHSM also dies of some that are none.)
func TestShortRSA(t *testing.T) {
	t.Parallel()
	_, s, v := made(t)
	n, ok := new(big.Int).SetString(strings.Repeat("f", 255)+"1", 16) // 1024 bits, odd
	if !ok {
		t.Fatal("no number")
	}
	if c, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &rsa.PublicKey{N: n, E: 65537}); !errors.Is(err, keystore.ErrRSA) || c != nil {
		t.Errorf("%x, %v", c, err)
	}
}

// What is not a wrapped key by its length does not leave the broker.
func TestWrappedLength(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	for _, n := range []int{0, 32, 39, 48} {
		f.set(func() {
			f.wrap = func(m uint) []byte { return map[uint][]byte{p11.CKM_AES_KEY_WRAP_PAD: make([]byte, n)}[m] }
		})
		if c, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey); !errors.Is(err, ErrCorrupt) || c != nil {
			t.Errorf("%d bytes: %x, %v", n, c, err)
		}
	}
}

// A session keeps nothing of a wrapping, whatever step of it fails.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	objects := func() (n int) {
		err := s.do(t.Context(), false, func(x *session) error {
			all, err := x.find(nil)
			n = len(all)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := objects()
	kek(t, s, v.ID)
	for _, call := range []string{"GenerateKey", "WrapKey"} {
		f.set(func() { f.before = failing(call, p11.Error(p11.CKR_ARGUMENTS_BAD)) })
		if _, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey); !isCode(err, p11.CKR_ARGUMENTS_BAD) {
			t.Fatal(err)
		}
	}
	if after := objects(); after != before {
		t.Errorf("%d objects, %d before", after, before)
	}
	// What cannot be destroyed ends with the session.
	f.later()
	f.set(func() { f.before = failing("DestroyObject", p11.Error(p11.CKR_ARGUMENTS_BAD)) })
	kek(t, s, v.ID)
	if after := objects(); after != before {
		t.Errorf("%d objects after a new login, %d before", after, before)
	}
}

// An HSM that has CKM_RSA_AES_KEY_WRAP: SoftHSM behind a library that adds it.
func TestOneMechanism(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	compiler, err := exec.LookPath("gcc")
	if err != nil && os.Getenv("CI") == "" {
		t.Skipf("NOT TESTED: %v", err)
	}
	library := filepath.Join(t.TempDir(), "onemechanism.so")
	out, err := exec.CommandContext(t.Context(), compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library,
		`-DBEHIND="`+k.place.Library(t)+`"`, "testdata/onemechanism.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := k.config()
	c.Module = library
	softhsmtest.Initializing.Lock()
	s, err := Open(c)
	softhsmtest.Initializing.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.wraps[keywrap.RSAAESKeyWrap].name; got != "CKM_RSA_AES_KEY_WRAP" {
		t.Fatalf("wraps by %q", got)
	}
	v, err := s.Create(t.Context(), "kek", policy("a"), false)
	if err != nil {
		t.Fatal(err)
	}
	// The same key as by the other way.
	if kek(t, s, v.ID) != kek(t, k.open(t), v.ID) {
		t.Error("another key")
	}
}

// A key that is not the one that was made, or not as it was made, is not wrapped.
func TestKeyObjects(t *testing.T) {
	t.Parallel()
	_, s, v := made(t)
	template, err := keyTemplate("kek", v.ID)
	if err != nil {
		t.Fatal(err)
	}
	in := func(f func(*session) error) {
		t.Helper()
		if err := s.do(t.Context(), false, f); err != nil {
			t.Fatal(err)
		}
	}
	plant := func(sensitive, extractable bool) func(*session) error {
		return func(x *session) error {
			_, err := x.CreateObject(x.handle, append(slices.Clone(template),
				p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY), p11.NewAttribute(p11.CKA_KEY_TYPE, p11.CKK_AES),
				p11.NewAttribute(p11.CKA_SENSITIVE, sensitive), p11.NewAttribute(p11.CKA_EXTRACTABLE, extractable), p11.NewAttribute(p11.CKA_VALUE, make([]byte, 32))))
			return err
		}
	}
	remove := func(x *session) error {
		all, err := x.find(append(slices.Clone(template), p11.NewAttribute(p11.CKA_CLASS, p11.CKO_SECRET_KEY)))
		for _, o := range all {
			err = errors.Join(err, x.DestroyObject(x.handle, o))
		}
		return err
	}
	refused := func(what string) {
		t.Helper()
		if _, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	in(plant(true, true))
	refused("a second key of one version")
	in(remove)
	refused("no key")
	if all, err := s.Versions(t.Context(), "kek"); err != nil || len(all) != 1 {
		t.Errorf("a version without its key is listed all the same: %v, %v", all, err)
	}
	in(plant(false, true))
	refused("a key in the clear")
	in(remove)
	in(plant(true, false))
	refused("a key that cannot be wrapped")
	in(remove)
	in(plant(true, true))
	kek(t, s, v.ID)
}

// Many at once, by two processes: each gets the key.
func TestTogether(t *testing.T) {
	t.Parallel()
	k, s, v := made(t)
	stores := []keystore.Store{s, k.process(t)}
	want := kek(t, s, v.ID)
	errs := make(chan error, 64)
	for i := range cap(errs) {
		go func() {
			c, err := stores[i%2].Wrap(context.Background(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey)
			if err == nil {
				var key []byte
				if key, err = keywrap.Unwrap(keywrap.RSAAESKeyWrap, testRSA(), c); err == nil && string(key) != want {
					err = errors.New("another key")
				}
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := stores[1].SetEnabled(t.Context(), "kek", v.ID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey); !errors.Is(err, keystore.ErrDisabled) {
		t.Errorf("disabled by another process: %v", err)
	}
}

// The names of ways are what the log and the docs call them.
func TestWaysAreNamed(t *testing.T) {
	t.Parallel()
	for _, w := range ways {
		if !strings.Contains(w.name, "CKM_") || len(w.mechanisms()) < 2 {
			t.Errorf("%+v", w)
		}
	}
}
