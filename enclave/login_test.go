package enclave

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/wire"
)

func TestLoginsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.device("alice").enrol(pin)
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	claim := func(name string, v any) func(*login) { return func(l *login) { l.claims[name] = v } }
	for name, test := range map[string]struct {
		attack func(*login)
		want   wire.Code
	}{
		"sub in capitals":       {func(l *login) { l.claims["sub"], l.claims["SUB"] = "mallory", "alice" }, wire.CodeLogin},
		"sub in other letters":  {func(l *login) { l.claims["sub"], l.claims["\u017fub"] = "mallory", "alice" }, wire.CodeLogin},
		"nonce in capitals":     {func(l *login) { l.claims["Nonce"] = l.claims["nonce"]; l.claims["nonce"] = "x" }, wire.CodeLogin},
		"other issuer":          {claim("iss", "https://evil.example"), wire.CodeLogin},
		"other audience":        {claim("aud", "shop"), wire.CodeLogin},
		"two audiences":         {claim("aud", []string{"passclave", "shop"}), wire.CodeLogin},
		"other party":           {claim("azp", "shop"), wire.CodeLogin},
		"other nonce":           {claim("nonce", "x"), wire.CodeLogin},
		"other subject":         {claim("sub", "mallory"), wire.CodeLogin},
		"no subject":            {claim("sub", ""), wire.CodeLogin},
		"no iat":                {func(l *login) { delete(l.claims, "iat") }, wire.CodeLogin},
		"other key":             {func(l *login) { l.key = other }, wire.CodeLogin},
		"unknown key ID":        {func(l *login) { l.kid = "2" }, wire.CodeLogin},
		"HS256, the public key": {func(l *login) { l.alg, l.key = jose.HS256, point(w.issuer) }, wire.CodeLogin},
		"old challenge":         {func(l *login) { l.age = loginAge + time.Second }, wire.CodeChallenge},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.device("alice")
			_, err := p.send(p.ticketAsk(p.login(test.attack)))
			wantCode(t, err, test.want)
		})
	}
	t.Run("none", func(t *testing.T) {
		p := w.device("alice")
		_, err := p.send(p.ticketAsk(nil))
		wantCode(t, err, wire.CodeLoginRequired)
	})
	t.Run("another device's", func(t *testing.T) {
		p, thief := w.device("alice"), w.device("alice")
		_, err := thief.send(thief.ticketAsk(p.login()))
		wantCode(t, err, wire.CodeLogin)
	})
	t.Run("alg none", func(t *testing.T) {
		p := w.device("alice")
		l := p.login()
		l.Token = "eyJhbGciOiJub25lIn0." + l.Token[len(l.Token)/3:] + "."
		_, err := p.send(p.ticketAsk(l))
		wantCode(t, err, wire.CodeLogin)
	})
}

// A person who authenticates after the token was issued has not been seen by it.
func TestFreshLogin(t *testing.T) {
	t.Parallel()
	for since, fresh := range map[int64]bool{0: true, freshLogin: true, freshLogin + 1: false, -1: false, -freshLogin: false} {
		w := newWorld(t)
		p := w.device("alice").enrol(pin)
		_, err := p.change(p.pinSetAsk(t, "564738", p.login(func(l *login) { l.claims["auth_time"] = w.iat - since })))
		if want := map[bool]wire.Code{false: wire.CodeLoginStale}[fresh]; wire.CodeOf(err) != want {
			t.Errorf("authenticated %d seconds before iat: %v", since, err)
		}
	}
}

// A key of the issuer counts only as what it is published for: a public key, for
// signatures, of this algorithm. Others under the same ID are passed over.
func TestIssuersKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.jwks.Keys[0]
	other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, spoil := range map[string]func(*jose.JSONWebKey){
		"for encryption":    func(k *jose.JSONWebKey) { k.Use = "enc" },
		"another algorithm": func(k *jose.JSONWebKey) { k.Algorithm = "ES384" },
		"a private key":     func(k *jose.JSONWebKey) { k.Key = w.issuer },
	} {
		t.Run(name, func(t *testing.T) {
			bad, foreign := good, good
			spoil(&bad)
			login := func(keys ...jose.JSONWebKey) error {
				w.jwks = &jose.JSONWebKeySet{Keys: keys}
				p := w.device("alice")
				_, err := p.send(p.ticketAsk(p.login()))
				return err
			}
			wantCode(t, login(bad), wire.CodeLogin)
			if foreign.Key = other.Public(); name == "a private key" {
				foreign.Key = other
			}
			spoil(&foreign)
			if err := login(foreign, good); err != nil {
				t.Fatalf("not passed over: %v", err)
			}
		})
	}
}

func TestLongToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.device("alice")
	long := func(n int) error {
		_, err := p.send(p.ticketAsk(p.login(func(l *login) { l.claims["x"] = strings.Repeat("x", n) })))
		return err
	}
	wantCode(t, long(maxToken), wire.CodeTooLarge)
	if err := long(maxToken / 2); err != nil {
		t.Fatal(err)
	}
}
