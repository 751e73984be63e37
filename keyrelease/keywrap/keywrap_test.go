package keywrap

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// RFC 5649, section 6.
func TestPaddedVectors(t *testing.T) {
	t.Parallel()
	kek := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	for name, c := range map[string]struct{ key, wrap string }{
		"20 octets": {"c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		"7 octets":  {"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := WrapPadded(kek, unhex(t, c.key)); !bytes.Equal(got, unhex(t, c.wrap)) {
				t.Errorf("wrap: got %x, want %s", got, c.wrap)
			}
			got, err := UnwrapPadded(kek, unhex(t, c.wrap))
			if err != nil || !bytes.Equal(got, unhex(t, c.key)) {
				t.Errorf("unwrap: got %x, %v, want %s", got, err, c.key)
			}
		})
	}
}

func TestPaddedRoundTrip(t *testing.T) {
	t.Parallel()
	kek := bytes.Repeat([]byte{7}, 32)
	for n := 1; n <= 70; n++ {
		plain := make([]byte, n)
		rand.Read(plain)
		c := WrapPadded(kek, plain)
		if want := 8 + (n+7)/8*8; len(c) != want {
			t.Fatalf("%d bytes wrap to %d, want %d", n, len(c), want)
		}
		if got, err := UnwrapPadded(kek, c); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: got %x, %v, want %x", n, got, err, plain)
		}
	}
}

// forge wraps blocks under an initial value of its own choice, so that each of
// the three checks can be the only one that fails.
func forge(kek []byte, iv [8]byte, plain []byte) []byte {
	block, err := aes.NewCipher(kek)
	if err != nil {
		panic(err)
	}
	out := append(iv[:], plain...)
	n := len(plain) / 8
	if n == 1 {
		block.Encrypt(out, out)
		return out
	}
	var b [16]byte
	copy(b[:8], out)
	for t := range 6 * n {
		copy(b[8:], out[8*(t%n+1):])
		block.Encrypt(b[:], b[:])
		copy(out[8*(t%n+1):][:8], b[8:])
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(t+1))
	}
	copy(out, b[:8])
	return out
}

func TestPaddedRefusals(t *testing.T) {
	t.Parallel()
	kek := bytes.Repeat([]byte{7}, 32)
	iv := func(c uint32, length uint32) (v [8]byte) {
		binary.BigEndian.PutUint32(v[:], c)
		binary.BigEndian.PutUint32(v[4:], length)
		return v
	}
	key32 := bytes.Repeat([]byte{1}, 32)
	padded := append(bytes.Repeat([]byte{1}, 29), 0, 0, 0)
	// The forger itself is right: what it makes by the rules opens.
	for _, good := range [][]byte{forge(kek, iv(icv, 32), key32), forge(kek, iv(icv, 29), padded)} {
		if _, err := UnwrapPadded(kek, good); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string][]byte{
		"other constant":        forge(kek, iv(0xA6A6A6A6, 32), key32),
		"length one too long":   forge(kek, iv(icv, 33), key32),
		"length a block short":  forge(kek, iv(icv, 24), padded),
		"length zero":           forge(kek, iv(icv, 0), make([]byte, 8)),
		"length negative":       forge(kek, iv(icv, 0x80000020), key32),
		"length huge":           forge(kek, iv(icv, 0xffffffff), key32),
		"padding not zero":      forge(kek, iv(icv, 29), append(bytes.Repeat([]byte{1}, 29), 0, 0, 1)),
		"padding first byte":    forge(kek, iv(icv, 29), append(bytes.Repeat([]byte{1}, 29), 1, 0, 0)),
		"one block, padding":    forge(kek, iv(icv, 7), []byte{1, 2, 3, 4, 5, 6, 7, 8}),
		"RFC 3394, not padded":  forge(kek, [8]byte{0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6}, key32),
		"empty":                 {},
		"one block":             make([]byte, 8),
		"not a multiple of 8":   make([]byte, 41),
		"over the upper length": make([]byte, maxWrapped+8),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := UnwrapPadded(kek, c); !errors.Is(err, ErrUnwrap) {
				t.Errorf("got %x, %v, want ErrUnwrap", got, err)
			}
		})
	}
	if _, err := UnwrapPadded(kek[:31], forge(kek, iv(icv, 32), key32)); !errors.Is(err, ErrUnwrap) {
		t.Errorf("key of 31 bytes: got %v, want ErrUnwrap", err)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{9}, 32)
	for _, a := range []Algorithm{RSAAESKeyWrap, RSAAESKeyWrap256, RSAAESKeyWrap384} {
		c, err := Wrap(a, &testKey().PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Unwrap(a, testKey(), c); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%s: got %x, %v", a, got, err)
		}
		for _, b := range []Algorithm{RSAAESKeyWrap, RSAAESKeyWrap256, RSAAESKeyWrap384} {
			if _, err := Unwrap(b, testKey(), c); (err == nil) != (a == b) {
				t.Errorf("wrapped by %s, opened by %s: %v", a, b, err)
			}
		}
	}
	if _, err := Wrap("RSA_AES_KEY_WRAP_512", &testKey().PublicKey, key); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("got %v, want ErrAlgorithm", err)
	}
	if _, err := Unwrap("", testKey(), make([]byte, 400)); !errors.Is(err, ErrAlgorithm) {
		t.Errorf("got %v, want ErrAlgorithm", err)
	}
}

// Whatever is cut, added or flipped, the error is the same.
func TestUnwrapOneError(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{9}, 32)
	c, err := Wrap(RSAAESKeyWrap256, &testKey().PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, c []byte) {
		t.Helper()
		if got, err := Unwrap(RSAAESKeyWrap256, testKey(), c); err != ErrUnwrap || got != nil {
			t.Errorf("%s: got %x, %v, want ErrUnwrap", name, got, err)
		}
	}
	for _, n := range []int{0, 1, 16, 255, 256, 264, 271, 272, len(c) - 8, len(c) - 1} {
		refused("cut", c[:n])
	}
	refused("extended by a byte", append(bytes.Clone(c), 0))
	refused("extended by a block", append(bytes.Clone(c), make([]byte, 8)...))
	for i := 256; i < len(c); i++ {
		f := bytes.Clone(c)
		f[i] ^= 1 << (i % 8)
		refused("flipped in the key wrap", f)
	}
	for _, i := range []int{0, 1, 100, 255} {
		f := bytes.Clone(c)
		f[i] ^= 1
		refused("flipped in OAEP", f)
	}
	// A session key of another size than AES-256 is not taken, though AES would.
	short, err := rsa.EncryptOAEP(mustHash(RSAAESKeyWrap256), rand.Reader, &testKey().PublicKey, make([]byte, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	refused("AES-128 session key", append(short, WrapPadded(make([]byte, 16), key)...))
}
