package broker

import (
	"context"
	"crypto/rsa"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/azure"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
)

// hsm is a store whose OAEP has SHA-1 alone, and that goes away.
type hsm struct {
	keystore.Store
	away atomic.Int32 // that many calls find it away
}

var errTokenGone = errors.New("CKR_DEVICE_REMOVED at slot 5")

func (s *hsm) gone() error {
	if s.away.Add(-1) >= 0 {
		return errors.Join(keystore.ErrUnavailable, errTokenGone)
	}
	return nil
}

func (s *hsm) Versions(ctx context.Context, name string) ([]keystore.Version, error) {
	if err := s.gone(); err != nil {
		return nil, err
	}
	return s.Store.Versions(ctx, name)
}

func (s *hsm) Wrap(ctx context.Context, name, id string, a keywrap.Algorithm, pub *rsa.PublicKey) ([]byte, error) {
	if err := s.gone(); err != nil {
		return nil, err
	}
	if a != keywrap.RSAAESKeyWrap {
		return nil, keywrap.ErrAlgorithm
	}
	return s.Store.Wrap(ctx, name, id, a, pub)
}

func newHSM(t *testing.T) (*harness, *hsm) {
	t.Helper()
	s := &hsm{}
	h := newHarness(t, func(c *Config) { s.Store, c.Store = c.Store, s })
	return h, s
}

// The client gets its keys from an HSM that lacks what it asks for first.
func TestAlgorithmThatTheHSMLacks(t *testing.T) {
	t.Parallel()
	h, _ := newHSM(t)
	version := h.create(t, h.strict())
	body := `{"target":"` + h.token(t, good) + `","enc":"RSA_AES_KEY_WRAP_256"}`
	if status, code := h.post(t, "/keys/"+keyName+"/"+version+"/release?api-version=7.4", body); status != 400 || code != azure.CodeEnc {
		t.Errorf("got %d %s", status, code)
	}
	if keks, err := h.client(good).Release(t.Context()); err != nil || len(keks) != 1 {
		t.Errorf("got %v, %v", keks, err)
	}
	// Who is not let in learns nothing of the HSM.
	bad := guest{measurement: 0x33, hostData: good.hostData}
	body = `{"target":"` + h.token(t, bad) + `","enc":"RSA_AES_KEY_WRAP_256"}`
	if status, code := h.post(t, "/keys/"+keyName+"/"+version+"/release?api-version=7.4", body); status != 403 || code != "Forbidden" {
		t.Errorf("got %d %s", status, code)
	}
}

// An HSM that is away for a moment costs a release that moment, and is no secret of the
// HSM's to whoever asks.
func TestHSMIsAway(t *testing.T) {
	t.Parallel()
	h, s := newHSM(t)
	h.create(t, h.strict())
	s.away.Store(1)
	res, err := h.http.Get(h.url + "/keys/" + keyName + "/versions?api-version=7.4")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %s", res.Status)
	}
	s.away.Store(2)
	if keks, err := h.client(good).Release(t.Context()); err != nil || len(keks) != 1 {
		t.Errorf("got %v, %v", keks, err)
	}
	s.away.Store(1000)
	client := h.client(good)
	_, err = client.Release(t.Context())
	var e *keyrelease.Error
	if !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || strings.Contains(e.Message, "CKR_") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(string(h.log.Bytes()), errTokenGone.Error()) {
		t.Error("the log does not say why")
	}
}
