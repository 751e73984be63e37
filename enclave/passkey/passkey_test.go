package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/passclave/passclave/wire"
)

func create() *wire.Create {
	return &wire.Create{
		RPID:       "shop.example",
		RPName:     "Shop",
		UserHandle: []byte("user-1"),
		UserName:   "alice",
		Algorithms: []int64{-8, ES256, -257},
		Created:    1_800_000_000,
	}
}

// fixed returns a passkey whose private scalar is 1, so that its public point is
// the generator of P-256, which the standard prints.
func fixed() *Secret {
	return &Secret{
		Algorithm:    ES256,
		Key:          append(make([]byte, 31), 1),
		PRFWithUV:    bytes.Repeat([]byte{0xaa}, 32),
		PRFWithoutUV: bytes.Repeat([]byte{0xbb}, 32),
		RPIDHash:     sha256.Sum256([]byte("shop.example")),
	}
}

// refusedArgument fails unless err is CodeArgument about exactly this argument.
func refusedArgument(t *testing.T, err error, argument string) {
	t.Helper()
	var a *ArgumentError
	if wire.CodeOf(err) != wire.CodeArgument || !errors.As(err, &a) || a.Argument != argument {
		t.Errorf("got %v, want a refusal of %s", err, argument)
	}
}

func refusedCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if got := wire.CodeOf(err); got != code {
		t.Errorf("got %q (%v), want %q", got, err, code)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	c := create()
	c.NoUVNeeded = true
	s, m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Algorithm != ES256 || m.Algorithm != ES256 {
		t.Errorf("algorithms %d, %d", s.Algorithm, m.Algorithm)
	}
	if !s.NoUVNeeded || !m.NoUVNeeded {
		t.Error("no UV needed was lost")
	}
	if len(m.CredentialID) != CredentialIDSize || bytes.Equal(s.PRFWithUV, s.PRFWithoutUV) {
		t.Error("credential ID or PRF secrets are not random")
	}
	if s.RPIDHash != sha256.Sum256([]byte("shop.example")) {
		t.Error("bound to another RP ID")
	}
	again, err := ParseSecret(s.Encode())
	if err != nil || !bytes.Equal(again.Encode(), s.Encode()) {
		t.Errorf("secret does not survive encoding: %v", err)
	}
	if _, other, _ := New(c); bytes.Equal(other.CredentialID, m.CredentialID) || bytes.Equal(other.PublicKey, m.PublicKey) {
		t.Error("two passkeys share credential ID or key")
	}
}

// A replay needs nothing but the same randomness. Not parallel: the randomness is global.
func TestNewReplays(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	first, _, err := New(create())
	if err != nil {
		t.Fatal(err)
	}
	cryptotest.SetGlobalRandom(t, 1)
	second, _, err := New(create())
	if err != nil || !bytes.Equal(first.Encode(), second.Encode()) {
		t.Errorf("another passkey from the same randomness: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63) + "."
	for _, c := range []struct {
		argument string
		change   func(*wire.Create)
	}{
		{"rp_id", func(c *wire.Create) { c.RPID = "" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "https://shop.example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "Shop.example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "shop.example." }},
		{"rp_id", func(c *wire.Create) { c.RPID = ".example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "-shop.example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "shop-.example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "sh_p.example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "bücher.example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "127.0.0.1" }},
		{"rp_id", func(c *wire.Create) { c.RPID = "[::1]" }},
		{"rp_id", func(c *wire.Create) { c.RPID = strings.Repeat("a", 64) + ".example" }},
		{"rp_id", func(c *wire.Create) { c.RPID = strings.Repeat(long, 4)[:254] }},
		{"user_handle", func(c *wire.Create) { c.UserHandle = nil }},
		{"user_handle", func(c *wire.Create) { c.UserHandle = make([]byte, 65) }},
		{"algorithms", func(c *wire.Create) { c.Algorithms = nil }},
		{"algorithms", func(c *wire.Create) { c.Algorithms = []int64{-257} }},
		{"algorithms", func(c *wire.Create) { c.Algorithms = append(make([]int64, 32), ES256) }},
		{"rp_name", func(c *wire.Create) { c.RPName = strings.Repeat("n", 257) }},
		{"user_name", func(c *wire.Create) { c.UserName = strings.Repeat("n", 257) }},
		{"user_name", func(c *wire.Create) { c.UserName = "\xff" }},
		{"display_name", func(c *wire.Create) { c.DisplayName = strings.Repeat("n", 257) }},
	} {
		arguments := create()
		c.change(arguments)
		_, _, err := New(arguments)
		refusedArgument(t, err, c.argument)
	}
	for _, rpID := range []string{"localhost", "a.b.c.example", "xn--bcher-kva.example", "1.example", strings.Repeat(long, 4)[:253]} {
		arguments := create()
		arguments.RPID = rpID
		arguments.UserHandle = make([]byte, 64)
		arguments.UserName = strings.Repeat("n", 256)
		if _, _, err := New(arguments); err != nil {
			t.Errorf("%s: %v", rpID, err)
		}
	}
}

func TestLabel(t *testing.T) {
	t.Parallel()
	if err := CheckLabel(strings.Repeat("é", 128)); err != nil {
		t.Error(err)
	}
	refusedArgument(t, CheckLabel(strings.Repeat("é", 129)), "label")
	refusedArgument(t, CheckLabel("\xc3"), "label")
}

// Zero and the group's order are no private scalars: they are drawn again.
func TestKeyByRejection(t *testing.T) {
	t.Parallel()
	order := elliptic.P256().Params().N.Bytes()
	one := append(make([]byte, 31), 1)
	draws := [][]byte{make([]byte, 32), order, one}
	key := newES256Key(func(n int) []byte {
		next := draws[0]
		draws = draws[1:]
		return next[:n]
	})
	if !bytes.Equal(key, one) || len(draws) != 0 {
		t.Errorf("key %x after %d draws", key, 3-len(draws))
	}
}

// The bytes that relying parties see. They change only with a reason.
func TestGolden(t *testing.T) {
	t.Parallel()
	s := fixed()
	const (
		generatorX = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
		generatorY = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
		coseKey    = "a5010203262001215820" + generatorX + "225820" + generatorY
	)
	hash := sha256.Sum256([]byte("shop.example"))
	prefix := hex.EncodeToString(hash[:])
	attested := "00000000" + "bab60fe8c1454ada9456e77d3016b260" + "0004" + "01020304" + coseKey
	object := func(length, authData string) string {
		return "a363666d74646e6f6e656761747453746d74a068617574684461746158" + length + authData
	}
	for _, c := range []struct {
		name, want string
		make       func() ([]byte, error)
	}{
		{"create, verified", object("88", prefix+"5d"+attested), func() ([]byte, error) {
			return s.AttestationObject([]byte{1, 2, 3, 4}, true)
		}},
		{"create, not verified", object("88", prefix+"59"+attested), func() ([]byte, error) {
			return s.AttestationObject([]byte{1, 2, 3, 4}, false)
		}},
		{"get, verified", prefix + "1d" + "00000000", func() ([]byte, error) {
			a, err := s.Assert("shop.example", wire.Digest{}, true)
			return a.AuthenticatorData, err
		}},
		{"get, not verified", prefix + "19" + "00000000", func() ([]byte, error) {
			lax := fixed()
			lax.NoUVNeeded = true
			a, err := lax.Assert("shop.example", wire.Digest{}, false)
			return a.AuthenticatorData, err
		}},
	} {
		got, err := c.make()
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s: %v\n got %x\nwant %s", c.name, err, got, c.want)
		}
	}
}

func TestAssert(t *testing.T) {
	t.Parallel()
	s := fixed()
	clientDataHash := sha256.Sum256([]byte("client data"))
	a, err := s.Assert("shop.example", clientDataHash, true)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), s.Key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(append(bytes.Clone(a.AuthenticatorData), clientDataHash[:]...))
	if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], a.Signature) {
		t.Error("signature does not verify")
	}
	_, err = s.Assert("shop2.example", clientDataHash, true)
	refusedArgument(t, err, "rp_id")
	_, err = s.Assert("shop.example", clientDataHash, false)
	refusedCode(t, err, wire.CodeUVRequired)
}

func TestPRF(t *testing.T) {
	t.Parallel()
	s := fixed()
	in := wire.PRF{First: wire.Digest{1}, Second: &wire.Digest{2}}
	mac := func(key []byte, d wire.Digest) []byte {
		h := hmac.New(sha256.New, key)
		h.Write(d[:])
		return h.Sum(nil)
	}
	out, err := s.EvaluatePRF(in, true)
	if err != nil || !bytes.Equal(out.First, mac(s.PRFWithUV, in.First)) || !bytes.Equal(out.Second, mac(s.PRFWithUV, *in.Second)) {
		t.Errorf("with user verification: %v", err)
	}
	_, err = s.EvaluatePRF(in, false)
	refusedCode(t, err, wire.CodeUVRequired)

	s.NoUVNeeded = true
	out, err = s.EvaluatePRF(wire.PRF{First: in.First}, false)
	if err != nil || !bytes.Equal(out.First, mac(s.PRFWithoutUV, in.First)) || out.Second != nil {
		t.Errorf("without user verification: %v", err)
	}
}

func TestLargeBlob(t *testing.T) {
	t.Parallel()
	s := fixed()
	refusedCode(t, s.SetLargeBlob(make([]byte, wire.MaxBlob+1), true), wire.CodeLimit)
	refusedCode(t, s.SetLargeBlob([]byte("x"), false), wire.CodeUVRequired)
	if err := s.SetLargeBlob(make([]byte, wire.MaxBlob), true); err != nil {
		t.Error(err)
	}
	if len(s.Encode()) > wire.MaxRecordSize/2+1024 {
		t.Errorf("a full secret part has %d bytes", len(s.Encode()))
	}
	blob, err := s.ReadLargeBlob(true)
	if err != nil || len(blob) != wire.MaxBlob {
		t.Errorf("%d bytes, %v", len(blob), err)
	}
	_, err = s.ReadLargeBlob(false)
	refusedCode(t, err, wire.CodeUVRequired)
}

func TestParseSecretRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Secret){
		"algorithm":        func(s *Secret) { s.Algorithm = -257 },
		"short key":        func(s *Secret) { s.Key = s.Key[1:] },
		"PRF with UV":      func(s *Secret) { s.PRFWithUV = nil },
		"PRF without UV":   func(s *Secret) { s.PRFWithoutUV = s.PRFWithoutUV[:31] },
		"large large blob": func(s *Secret) { s.LargeBlob = make([]byte, wire.MaxBlob+1) },
	} {
		s := fixed()
		change(s)
		_, err := ParseSecret(s.Encode())
		if wire.CodeOf(err) != wire.CodeMalformed {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := ParseSecret(append(fixed().Encode(), 0))
	refusedCode(t, err, wire.CodeMalformed)

	zero := fixed()
	zero.Key = make([]byte, 32)
	_, err = zero.Assert("shop.example", wire.Digest{}, true)
	refusedCode(t, err, wire.CodeInternal)
}

func FuzzParseSecret(f *testing.F) {
	full := fixed()
	full.NoUVNeeded, full.LargeBlob = true, []byte("blob")
	for _, seed := range []*Secret{fixed(), full} {
		if _, err := ParseSecret(seed.Encode()); err != nil {
			f.Fatal(err)
		}
		f.Add(seed.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSecret(data)
		if err != nil {
			refusedCode(t, err, wire.CodeMalformed)
			return
		}
		if !bytes.Equal(s.Encode(), data) {
			t.Error("accepted another encoding than its own")
		}
		if _, err := s.Assert("shop.example", wire.Digest{}, true); err == nil && s.RPIDHash != fixed().RPIDHash {
			t.Error("signed for another RP")
		}
	})
}

func BenchmarkAssert(b *testing.B) {
	s := fixed()
	for b.Loop() {
		if _, err := s.Assert("shop.example", wire.Digest{}, true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignFloor(b *testing.B) {
	key, _ := fixed().privateKey()
	digest := make([]byte, 32)
	for b.Loop() {
		if _, err := ecdsa.SignASN1(nil, key, digest); err != nil {
			b.Fatal(err)
		}
	}
}
