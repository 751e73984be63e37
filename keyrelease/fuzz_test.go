package keyrelease

import (
	"testing"
	"time"
)

// What a vault signs is not trusted before its checks, nor what somebody else
// signs: neither may panic, and what passes is for the wanted version.
func FuzzOpenJWS(f *testing.F) {
	roots, err := pool(trusted().pem())
	if err != nil {
		f.Fatal(err)
	}
	priv := rsaOfTEE()
	want := expected{host: "127.0.0.1", roots: roots, now: time.Now(), kid: "k", enc: wrapping, nonce: "n"}
	payload := `{"request":{"enc":"RSA_AES_KEY_WRAP_256","kid":"k","nonce":"n"},"response":{"key":{"attributes":{},"key":{"kid":"k","kty":"oct-HSM","key_hsm":"e30"}}}}`
	if _, err := readPayload([]byte(payload), want); err != nil {
		f.Fatal(err)
	}
	f.Add(payload, "eyJhbGciOiJSUzI1NiJ9.e30.AAAA")
	f.Add(`{}`, "eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, payload, compact string) {
		if _, err := openJWS(compact, want); err == nil {
			t.Fatal("a signature was forged")
		}
		k, err := readPayload([]byte(payload), want)
		if err != nil {
			return
		}
		if k.Request.KID != "k" || k.Response.Key.Key.KID != "k" {
			t.Fatal("another version passed")
		}
		if _, err := unwrap(k, testKey, wrapping, priv); err == nil {
			t.Fatal("a key came out of nothing")
		}
	})
}
