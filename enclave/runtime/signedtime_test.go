package runtime

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/wire"
)

// The login of a person at one issuer moves the time by which everybody's certificates
// are judged: another issuer's, and through CertificateTime the key service's.
func TestCertificatesAgeWithLogins(t *testing.T) {
	t.Parallel()
	r := unsealed(t)
	other := newProvider(t)
	fetch := func() error {
		r.issuers.mu.Lock()
		delete(r.issuers.cached, other.Issuer.Issuer)
		r.issuers.mu.Unlock()
		_, err := r.issuers.keys(t.Context(), &other.Issuer, false)
		return err
	}
	if d := time.Since(r.CertificateTime()).Abs(); d > time.Minute {
		t.Fatalf("%s off before any login", d)
	}
	if err := fetch(); err != nil {
		t.Fatal(err)
	}

	h := dial(t, r)
	expired := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) // the provider's certificate ends in 2084
	h.login(expired.Unix(), wire.CodeLogin, "another subject")
	if !r.CertificateTime().Before(expired) {
		t.Fatal("a login that was refused moved the time")
	}
	h.login(expired.Unix(), "", "alice")
	h.login(expired.Unix()-1000, "", "alice")
	if at := r.CertificateTime(); !at.Equal(expired) {
		t.Fatalf("certificates are judged by %s, want %s", at, expired)
	}
	if err := fetch(); err == nil {
		t.Fatal("a certificate that had expired by the newest signed time was accepted")
	}
}

// login asks for a ticket, for alice's account, with an ID token of a subject. The
// issuer's keys are at hand.
func (h *host) login(iat int64, want wire.Code, subject string) {
	h.t.Helper()
	issuer := &h.r.configuration.Issuers[0]
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	cached := h.r.issuers.of(issuer.Issuer)
	cached.keys, cached.fetched = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}}, h.r.now()

	point, err := key.PublicKey.Bytes()
	must(err)
	challenge := h.r.core.Load().Challenge(h.r.now())
	claims, err := json.Marshal(map[string]any{
		"iss": issuer.Issuer, "sub": subject, "aud": issuer.ClientIDs[0], "iat": iat, "nonce": wire.LoginNonce(point, challenge),
	})
	must(err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	must(err)
	jws, err := signer.Sign(claims)
	must(err)
	token, err := jws.CompactSerialize()
	must(err)

	_, public, _ := h.r.ring.current()
	seal, err := wire.KEM().NewPublicKey(public)
	must(err)
	account := issuer.AccountID("alice")
	sealer, err := wire.NewSealer(seal, wire.Header{Account: account})
	must(err)
	body := wire.Marshal(wire.Body{
		Device: wire.NewDeviceID(account, point), Request: wire.RequestID{8}, Challenge: challenge,
		Login:    &wire.Login{Token: token, Challenge: challenge},
		Commands: []wire.Command{wire.NewCommand(wire.CommandTicket, wire.Ticket{DeviceKey: point})},
	})
	message, err := wire.TranscriptMessage(wire.RoleDevice, sealer.Binding(), body)
	must(err)
	digest := sha256.Sum256(message)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	must(err)
	envelope, err := sealer.Seal(wire.Marshal(wire.Request{Body: body, DeviceSignature: signature}))
	must(err)
	reply, err := h.forward(envelope)
	must(err)
	got := answered(h.t, sealer, reply)
	if got.Error == nil && want == "" || got.Error != nil && got.Error.Code == want {
		return
	}
	h.t.Fatalf("answer %+v, want %q", got, want)
}
