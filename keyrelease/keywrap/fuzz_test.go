package keywrap

import (
	"bytes"
	"hash"
	"testing"
)

func mustHash(a Algorithm) hash.Hash {
	h, err := a.Hash()
	if err != nil {
		panic(err)
	}
	return h.New()
}

// What opens wraps again to the same bytes: the encoding is not malleable.
func FuzzUnwrapPadded(f *testing.F) {
	kek := bytes.Repeat([]byte{7}, 32)
	for _, n := range []int{1, 8, 9, 32, 1200} {
		seed := WrapPadded(kek, bytes.Repeat([]byte{1}, n))
		if _, err := UnwrapPadded(kek, seed); err != nil {
			f.Fatal(err)
		}
		f.Add(kek, seed)
	}
	f.Fuzz(func(t *testing.T, kek, c []byte) {
		p, err := UnwrapPadded(kek, c)
		if err != nil {
			if err != ErrUnwrap || p != nil {
				t.Fatalf("got %x, %v", p, err)
			}
			return
		}
		if !bytes.Equal(WrapPadded(kek, p), c) {
			t.Fatal("accepted what wrapping does not make")
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	seed, err := Wrap(RSAAESKeyWrap256, &testKey().PublicKey, make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(RSAAESKeyWrap256), seed)
	f.Add(string(RSAAESKeyWrap), seed[:300])
	f.Fuzz(func(t *testing.T, a string, c []byte) {
		if p, err := Unwrap(Algorithm(a), testKey(), c); err != nil && p != nil {
			t.Fatal("a key beside an error")
		}
	})
}
