//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/passclave/passclave/development/softhsm/softhsmtest"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keywrap"
)

// A token that is taken away is unavailable, and no key of it is "not found"; back again,
// it serves at the next call.
func TestTokenGoesAndComesBack(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	before := kek(t, s, v.ID)
	away := filepath.Join(t.TempDir(), "token")
	for range 2 {
		if err := os.Rename(k.folder, away); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			f.later()
			for call, err := range map[string]error{
				"Versions":   second(s.Versions(t.Context(), "kek")),
				"Wrap":       second(s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey)),
				"Create":     second(s.Create(t.Context(), "other", policy("a"), false)),
				"Rotate":     second(s.Rotate(t.Context(), "kek", policy("a"))),
				"SetEnabled": s.SetEnabled(t.Context(), "kek", v.ID, false),
			} {
				if !errors.Is(err, keystore.ErrUnavailable) {
					t.Errorf("%s without the token: %v", call, err)
				}
			}
		}
		if err := os.Rename(away, k.folder); err != nil {
			t.Fatal(err)
		}
		f.later()
		if kek(t, s, v.ID) != before {
			t.Error("another key")
		}
		if all, err := s.Versions(t.Context(), "kek"); err != nil || len(all) != 1 || !all[0].Enabled {
			t.Errorf("%+v, %v", all, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// What ends sessions behind the store's back is found out, and nobody notices.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	k, first, v := made(t)
	s, f := k.openFaulty(t)
	before := kek(t, s, v.ID)
	other := p11.New(f.library) // the same library: the same state
	slot, _, err := findToken(other, k.label)
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func() error{
		"sessions closed":   func() error { return other.CloseAllSessions(slot) },
		"library finalised": other.Finalize,
		"logged out": func() error {
			h, err := other.OpenSession(slot, p11.CKF_SERIAL_SESSION)
			return errors.Join(err, other.Logout(h))
		},
	} {
		for call, try := range map[string]func() error{
			"Versions": func() error {
				all, err := s.Versions(t.Context(), "kek")
				if err == nil && len(all) != 1 {
					return fmt.Errorf("%d versions", len(all))
				}
				return err
			},
			"Wrap": func() error {
				if kek(t, s, v.ID) != before {
					return errors.New("another key")
				}
				return nil
			},
			"Versions of a key that was never read": func() error {
				name := rand.Text()
				if _, err := first.Create(t.Context(), name, policy("a"), false); err != nil {
					return err
				}
				return second(s.Versions(t.Context(), name))
			},
			"SetPolicy": func() error { return s.SetPolicy(t.Context(), "kek", v.ID, policy(name)) },
		} {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			f.later()
			if err := try(); err != nil {
				t.Errorf("%s, then %s: %v", name, call, err)
			}
		}
	}
}

// Another token in the same slot is not the token.
func TestAnotherToken(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	s, f := k.openFaulty(t)
	if _, err := s.Versions(t.Context(), "kek"); !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	f.later()
	f.set(func() { f.info = func(i *p11.TokenInfo) { i.Label = "another" } })
	if _, err := s.Versions(t.Context(), "kek"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Create(t.Context(), "kek", policy("a"), false); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// Processes that start at once all find the token, which each login rewrites in SoftHSM.
func TestStartTogether(t *testing.T) {
	t.Parallel()
	k, _, _ := made(t)
	all := make([]*process, 8)
	for i := range all {
		all[i] = k.process(t)
	}
	for _, p := range all {
		if list, err := p.Versions(t.Context(), "kek"); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
	}
}

// Whatever an HSM calls its loss, a read is tried once more after a new login.
func TestLossByAnyName(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	for _, code := range []p11.Error{
		p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED, p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED, p11.CKR_TOKEN_NOT_PRESENT,
		p11.CKR_TOKEN_NOT_RECOGNIZED, p11.CKR_SLOT_ID_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_SESSION_HANDLE_INVALID,
		p11.CKR_USER_NOT_LOGGED_IN, p11.CKR_CRYPTOKI_NOT_INITIALIZED, p11.CKR_VENDOR_DEFINED + 7,
	} {
		for _, call := range []string{"FindObjectsInit", "GetAttributeValue", "GenerateKey", "CreateObject", "WrapKey"} {
			f.later()
			logins := f.logins.Load()
			f.set(func() { f.before = failing(call, code) })
			kek(t, s, v.ID)
			if f.logins.Load() != logins+1 {
				t.Errorf("%v at %s: no new login", code, call)
			}
		}
	}
	// What says nothing of the connection ends the call, and not the connection.
	logins := f.logins.Load()
	f.later()
	f.set(func() { f.before = failing("WrapKey", p11.Error(p11.CKR_KEY_UNEXTRACTABLE)) })
	_, err := s.Wrap(t.Context(), "kek", v.ID, keywrap.RSAAESKeyWrap, &testRSA().PublicKey)
	if !isCode(err, p11.CKR_KEY_UNEXTRACTABLE) || errors.Is(err, keystore.ErrUnavailable) || f.logins.Load() != logins {
		t.Errorf("got %v, and %d logins", err, f.logins.Load()-logins)
	}
}

// A token that fails at every call is not worn out by logins: one, and then a pause.
func TestConnectPauses(t *testing.T) {
	t.Parallel()
	k, _, _ := made(t)
	s, f := k.openFaulty(t)
	f.later()
	f.set(func() {
		f.before = func(call string) error {
			if call == "FindObjectsInit" {
				return p11.Error(p11.CKR_DEVICE_ERROR)
			}
			return nil
		}
	})
	before := f.starts.Load()
	for range 20 {
		if _, err := s.Versions(t.Context(), "kek"); !errors.Is(err, keystore.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := f.starts.Load() - before; n != 1 {
		t.Errorf("%d logins at once", n)
	}
	f.heal()
	f.later()
	if _, err := s.Versions(t.Context(), "kek"); err != nil {
		t.Error(err)
	}
}

// All sessions in use: the next caller waits as long as its context lets it.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	s, f := k.openFaulty(t)
	inside, goOn := make(chan struct{}, maxSessions), make(chan struct{})
	f.set(func() {
		f.before = func(call string) error {
			if call == "GenerateKey" {
				inside <- struct{}{}
				<-goOn
			}
			return nil
		}
	})
	var wg sync.WaitGroup
	keys := make([]string, maxSessions)
	for i := range keys {
		wg.Go(func() { keys[i] = kek(t, s, v.ID) })
	}
	for range maxSessions {
		<-inside
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := s.Versions(ctx, "kek"); !errors.Is(err, keystore.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.heal()
	close(goOn)
	wg.Wait()
	if len(slices.Compact(keys)) != 1 {
		t.Error("keys differ")
	}
	kek(t, s, v.ID)
}

// A token with few sessions is used with those.
func TestFewSessions(t *testing.T) {
	t.Parallel()
	k, _, v := made(t)
	f := k.newFaulty(t)
	opened := 0
	f.before = func(call string) error {
		if call == "OpenSession" {
			if opened++; opened > 2 {
				return p11.Error(p11.CKR_SESSION_COUNT)
			}
		}
		return nil
	}
	s, err := f.open(k.config())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kek(t, s, v.ID)
	if n := cap(s.connection.sessions); len(s.connection.sessions) != 2 {
		t.Errorf("%d of %d sessions", len(s.connection.sessions), n)
	}
}

// A wrong PIN is tried once, not once a start: tokens lock themselves after a few.
func TestWrongPIN(t *testing.T) {
	t.Parallel()
	k, _, _ := made(t)
	wrong := k.config()
	wrong.PIN = PIN{"another PIN"}
	var log bytes.Buffer
	wrong.Log = slog.New(slog.NewTextHandler(&log, nil))
	f := k.newFaulty(t)
	_, err := f.open(wrong)
	if !errors.Is(err, ErrPIN) || f.logins.Load() != 1 {
		t.Errorf("got %v after %d logins", err, f.logins.Load())
	}
	if text := fmt.Sprintf("%v %+v %#v %v", err, wrong, wrong, log.String()); strings.Contains(text, "another PIN") {
		t.Errorf("the PIN is shown: %s", text)
	}
	for _, c := range []Config{wrong, k.config()} {
		if _, err := f.open(c); !errors.Is(err, ErrPINCount) || f.logins.Load() != 1 {
			t.Errorf("at the next start: %v after %d logins", err, f.logins.Load())
		}
	}
	// Somebody logs in by another tool.
	tool := k.newFaulty(t)
	if err := tool.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer tool.Finalize()
	slot, _, err := findToken(tool, k.label)
	if err != nil {
		t.Fatal(err)
	}
	h, err := tool.OpenSession(slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := tool.Login(h, p11.CKU_USER, testUser); err != nil {
		t.Fatal(err)
	}
	s, f := k.openFaulty(t)
	if _, err := s.Versions(t.Context(), "kek"); err != nil {
		t.Fatal(err)
	}

	// The PIN is changed under a store that runs; its token is lost then.
	if err := tool.SetPIN(h, testUser, "a new PIN"); err != nil {
		t.Fatal(err)
	}
	logins := f.logins.Load()
	f.set(func() { f.before = failing("FindObjectsInit", p11.Error(p11.CKR_DEVICE_REMOVED)) })
	for range 5 {
		f.later()
		if _, err := s.Versions(t.Context(), "kek"); !errors.Is(err, ErrPIN) {
			t.Errorf("got %v", err)
		}
		f.set(func() { f.info = func(i *p11.TokenInfo) { i.Flags &^= p11.CKF_USER_PIN_COUNT_LOW } }) // of a token that does not tell
	}
	if n := f.logins.Load() - logins; n != 1 {
		t.Errorf("%d logins", n)
	}
}

// A token that would lock itself at the next wrong PIN, or has, is let alone.
func TestPINCount(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	f := k.newFaulty(t)
	for _, flag := range []uint{p11.CKF_USER_PIN_COUNT_LOW, p11.CKF_USER_PIN_FINAL_TRY, p11.CKF_USER_PIN_LOCKED} {
		f.set(func() { f.info = func(i *p11.TokenInfo) { i.Flags |= flag } })
		if _, err := f.open(k.config()); !errors.Is(err, ErrPINCount) {
			t.Errorf("flag %#x: %v", flag, err)
		}
	}
	if n := f.logins.Load(); n != 0 {
		t.Errorf("%d logins", n)
	}
	f.heal()
	s, err := f.open(k.config())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	library := k.place.Library(t)
	softhsmtest.Initializing.Lock()
	defer softhsmtest.Initializing.Unlock()
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		module, token string
		want          error
	}{
		"no file":           {library + "x", k.label, ErrModule},
		"no library":        {text, k.label, ErrModule},
		"no such token":     {library, k.label + "x", ErrToken},
		"an empty slot's":   {library, "", ErrToken},
		"beginning of name": {library, k.label[:5], ErrToken},
	} {
		config := k.config()
		config.Module, config.Token = c.module, c.token
		if _, err := Open(config); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := InitToken(library, k.label, PIN{testOfficer}, PIN{testUser}); !errors.Is(err, ErrToken) {
		t.Errorf("a second token of one name: %v", err)
	}
}
