// Package releasetest is the conformance suite of key stores: every
// implementation of [keystore.Store] passes it before a broker may use it.
package releasetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

var wrapTo = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func policy(value string) []byte {
	return releasepolicy.Require("https://authority.test", map[string]any{"claim": value})
}

// TestStore runs the suite. open gives the store of one place: the first call
// with a *testing.T finds it empty, a later one with the same T what the earlier
// one left, as after a restart.
func TestStore(t *testing.T, open func(*testing.T) keystore.Store) {
	t.Helper()
	ctx := context.Background()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	key := func(t *testing.T, s keystore.Store, name, id string) []byte {
		t.Helper()
		c, err := s.Wrap(ctx, name, id, keywrap.RSAAESKeyWrap, &wrapTo().PublicKey)
		must(t, err)
		k, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap, wrapTo(), c)
		must(t, err)
		return k
	}

	t.Run("create", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		v, err := s.Create(ctx, "kek-1", policy("a"), false)
		must(t, err)
		if v.ID == "" || v.Created == 0 || !v.Enabled || v.Kty != "oct-HSM" || !bytes.Equal(v.Policy, policy("a")) {
			t.Errorf("made %+v", v)
		}
		list, err := s.Versions(ctx, "kek-1")
		must(t, err)
		if len(list) != 1 || list[0].ID != v.ID || list[0].Created != v.Created || !bytes.Equal(list[0].Policy, v.Policy) {
			t.Errorf("made %+v, listed %+v", v, list)
		}
		if k := key(t, s, "kek-1", v.ID); len(k) != 32 || bytes.Equal(k, make([]byte, 32)) {
			t.Errorf("a key of %d bytes, or zero", len(k))
		}
		_, err = s.Create(ctx, "kek-1", policy("a"), false)
		want(t, err, keystore.ErrExists)
		other, err := s.Create(ctx, "kek-2", policy("a"), false)
		must(t, err)
		if bytes.Equal(key(t, s, "kek-1", v.ID), key(t, s, "kek-2", other.ID)) {
			t.Error("two keys are the same")
		}
		_, err = s.Wrap(ctx, "kek-2", v.ID, keywrap.RSAAESKeyWrap, &wrapTo().PublicKey)
		want(t, err, keystore.ErrNotFound)
	})

	t.Run("refusals", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		for _, name := range []string{"", "a/b", "..", "a b", "ä", string(bytes.Repeat([]byte("a"), 128))} {
			_, err := s.Create(ctx, name, policy("a"), false)
			want(t, err, keystore.ErrName)
		}
		for _, p := range []string{"", "{}", `{"version":"1.0.0","anyOf":[]}`} {
			_, err := s.Create(ctx, "kek", []byte(p), false)
			want(t, err, keystore.ErrPolicy)
		}
		_, err := s.Versions(ctx, "kek")
		want(t, err, keystore.ErrNotFound)
		_, err = s.Rotate(ctx, "kek", policy("a"))
		want(t, err, keystore.ErrNotFound)
		want(t, s.SetEnabled(ctx, "kek", "1", true), keystore.ErrNotFound)
		_, err = s.Wrap(ctx, "kek", "1", keywrap.RSAAESKeyWrap, &wrapTo().PublicKey)
		want(t, err, keystore.ErrNotFound)
		v, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		_, err = s.Rotate(ctx, "kek", []byte("{}"))
		want(t, err, keystore.ErrPolicy)
		want(t, s.SetEnabled(ctx, "kek", v.ID+"0", false), keystore.ErrNotFound)
		_, err = s.Wrap(ctx, "kek", v.ID, "RSA_AES_KEY_WRAP_512", &wrapTo().PublicKey)
		want(t, err, keywrap.ErrAlgorithm)
		want(t, s.SetPolicy(ctx, "other", v.ID, policy("b")), keystore.ErrNotFound)
		want(t, s.SetPolicy(ctx, "kek", v.ID+"0", policy("b")), keystore.ErrNotFound)
		want(t, s.SetPolicy(ctx, "kek", v.ID, []byte("{}")), keystore.ErrPolicy)
		list, err := s.Versions(ctx, "kek")
		must(t, err)
		if len(list) != 1 || !bytes.Equal(list[0].Policy, policy("a")) || list[0].Immutable {
			t.Errorf("listed %+v", list)
		}
	})

	t.Run("set policy", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		first, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		second, err := s.Rotate(ctx, "kek", policy("a"))
		must(t, err)
		must(t, s.SetEnabled(ctx, "kek", first.ID, false))
		k := key(t, s, "kek", second.ID)
		must(t, s.SetPolicy(ctx, "kek", first.ID, policy("b")))
		for _, s := range []keystore.Store{s, open(t)} {
			list, err := s.Versions(ctx, "kek")
			must(t, err)
			if len(list) != 2 || !bytes.Equal(list[0].Policy, policy("b")) || list[0].Enabled || !bytes.Equal(list[1].Policy, policy("a")) {
				t.Errorf("listed %+v", list)
			}
		}
		must(t, s.SetPolicy(ctx, "kek", second.ID, policy("c")))
		if !bytes.Equal(key(t, s, "kek", second.ID), k) {
			t.Error("the key changed with its policy")
		}
	})

	t.Run("immutable", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		first, err := s.Create(ctx, "kek", policy("a"), true)
		must(t, err)
		for range 2 { // the version made first, and its successor
			_, err = s.Rotate(ctx, "kek", policy("b"))
			want(t, err, keystore.ErrImmutable)
			_, err = s.Rotate(ctx, "kek", append(policy("a"), ' '))
			want(t, err, keystore.ErrImmutable)
			_, err = s.Rotate(ctx, "kek", policy("a"))
			must(t, err)
			s = open(t)
		}
		list, err := s.Versions(ctx, "kek")
		must(t, err)
		if !first.Immutable || len(list) != 3 {
			t.Fatalf("made %+v, listed %+v", first, list)
		}
		for _, v := range list {
			want(t, s.SetPolicy(ctx, "kek", v.ID, policy("b")), keystore.ErrImmutable)
			if !v.Immutable || !bytes.Equal(v.Policy, policy("a")) {
				t.Errorf("listed %+v", v)
			}
			must(t, s.SetEnabled(ctx, "kek", v.ID, false))
			must(t, s.SetEnabled(ctx, "kek", v.ID, true))
		}
		want(t, s.SetPolicy(ctx, "kek", list[2].ID, policy("a")), keystore.ErrImmutable)
	})

	t.Run("wrap", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		v, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		k := key(t, s, "kek", v.ID) // RSAAESKeyWrap is what every store has
		pub := wrapTo().PublicKey
		for _, a := range []keywrap.Algorithm{keywrap.RSAAESKeyWrap, keywrap.RSAAESKeyWrap256, keywrap.RSAAESKeyWrap384} {
			c, err := s.Wrap(ctx, "kek", v.ID, a, &pub)
			if errors.Is(err, keywrap.ErrAlgorithm) && a != keywrap.RSAAESKeyWrap {
				t.Logf("NOT TESTED: this store does not wrap by %s", a)
				continue
			}
			must(t, err)
			if got, err := keywrap.Unwrap(a, wrapTo(), c); err != nil || !bytes.Equal(got, k) {
				t.Errorf("%s opens to another key, or not: %v", a, err)
			}
			if len(c) != pub.Size()+40 { // OAEP, then RFC 5649 of 32 bytes
				t.Errorf("%s: %d bytes", a, len(c))
			}
			again, err := s.Wrap(ctx, "kek", v.ID, a, &pub)
			must(t, err)
			if bytes.Equal(c, again) || bytes.Equal(c[pub.Size():], again[pub.Size():]) {
				t.Errorf("%s: two wrappings share a session key", a)
			}
		}
		even := new(big.Int).SetBit(pub.N, 0, 0)
		huge := new(big.Int).SetBit(pub.N, 4096, 1)
		short := new(big.Int).Rsh(pub.N, 1)
		for name, pub := range map[string]*rsa.PublicKey{
			"none": nil, "no modulus": {E: 65537}, "zero": {N: new(big.Int), E: 65537}, "negative": {N: new(big.Int).Neg(pub.N), E: 65537},
			"2047 bits": {N: short.SetBit(short, 0, 1), E: 65537}, "4097 bits": {N: huge, E: 65537}, "even": {N: even, E: 65537},
			"exponent 0": {N: pub.N}, "exponent 1": {N: pub.N, E: 1}, "exponent 3": {N: pub.N, E: 3}, "even exponent": {N: pub.N, E: 65536}, "exponent -1": {N: pub.N, E: -1},
		} {
			if c, err := s.Wrap(ctx, "kek", v.ID, keywrap.RSAAESKeyWrap, pub); !errors.Is(err, keystore.ErrRSA) || c != nil {
				t.Errorf("RSA key, %s: got %x, %v", name, c, err)
			}
		}
	})

	t.Run("rotate", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		first, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		k := key(t, s, "kek", first.ID)
		made := []keystore.Version{first}
		for range 3 { // in one second, mostly
			v, err := s.Rotate(ctx, "kek", policy("b"))
			must(t, err)
			made = append(made, v)
		}
		list, err := s.Versions(ctx, "kek")
		must(t, err)
		if len(list) != 4 {
			t.Fatalf("%d versions", len(list))
		}
		keys := map[string]bool{}
		for i, v := range list {
			if v.ID != made[i].ID || i > 0 && v.Created <= list[i-1].Created {
				t.Errorf("version %d is %+v, was made as %+v", i, v, made[i])
			}
			keys[string(key(t, s, "kek", v.ID))] = true
		}
		if len(keys) != 4 {
			t.Errorf("%d different keys", len(keys))
		}
		if !bytes.Equal(key(t, s, "kek", first.ID), k) {
			t.Error("rotation changed the first version")
		}
		if !bytes.Equal(list[0].Policy, policy("a")) || !bytes.Equal(list[3].Policy, policy("b")) {
			t.Error("versions do not keep their own policy")
		}
	})

	t.Run("disable", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		v, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		k := key(t, s, "kek", v.ID)
		must(t, s.SetEnabled(ctx, "kek", v.ID, false))
		_, err = s.Wrap(ctx, "kek", v.ID, keywrap.RSAAESKeyWrap, &wrapTo().PublicKey)
		want(t, err, keystore.ErrDisabled)
		list, err := s.Versions(ctx, "kek")
		must(t, err)
		if len(list) != 1 || list[0].Enabled {
			t.Errorf("listed %+v", list)
		}
		must(t, s.SetEnabled(ctx, "kek", v.ID, true))
		if !bytes.Equal(key(t, s, "kek", v.ID), k) {
			t.Error("the key changed")
		}
	})

	t.Run("restart", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		a, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		b, err := s.Rotate(ctx, "kek", policy("b"))
		must(t, err)
		must(t, s.SetEnabled(ctx, "kek", a.ID, false))
		k := key(t, s, "kek", b.ID)
		s = open(t)
		list, err := s.Versions(ctx, "kek")
		must(t, err)
		if len(list) != 2 || list[0].ID != a.ID || list[0].Enabled || list[1].ID != b.ID || !list[1].Enabled {
			t.Errorf("listed %+v", list)
		}
		if !bytes.Equal(key(t, s, "kek", b.ID), k) {
			t.Error("the key changed")
		}
	})

	t.Run("together", func(t *testing.T) {
		t.Parallel()
		s, other := open(t), open(t)
		_, err := s.Create(ctx, "kek", policy("a"), false)
		must(t, err)
		var wg sync.WaitGroup
		errs := make([]error, 16)
		for i := range errs {
			wg.Go(func() {
				store := s
				if i%2 == 1 {
					store = other
				}
				_, errs[i] = store.Rotate(ctx, "kek", policy("b"))
			})
		}
		wg.Wait()
		must(t, errors.Join(errs...))
		list, err := s.Versions(ctx, "kek")
		must(t, err)
		if len(list) != 17 || !slices.IsSortedFunc(list, func(a, b keystore.Version) int { return int(a.Created) - int(b.Created) }) {
			t.Errorf("%d versions: %+v", len(list), list)
		}
	})
}
