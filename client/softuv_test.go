package client

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/passclave/passclave/wire"
)

func TestSealedUV(t *testing.T) {
	t.Parallel()
	s, unlocked, err := sealUV("right", cheap)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.unlock("wrong"); !errors.Is(err, ErrWrongCode) {
		t.Errorf("wrong code: %v", err)
	}
	again, err := s.unlock("right")
	if err != nil || !bytes.Equal(again.key.Public(), unlocked.key.Public()) {
		t.Errorf("right code: %v", err)
	}
	for name, change := range map[string]func(*sealedUV){
		"public key": func(s *sealedUV) { s.Public = bytes.Repeat([]byte{4}, 65) },
		"salt":       func(s *sealedUV) { s.Salt = make([]byte, 16) },
		"cost":       func(s *sealedUV) { s.Cost.Time++ },
	} {
		changed := *s
		change(&changed)
		if _, err := changed.unlock("right"); !errors.Is(err, ErrWrongCode) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func TestWrongCodeSendsNothing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d := f.enrolled()
	f.sent = nil
	d.options.Code = func(context.Context, CodeRequest) (string, error) { return "wrong", nil }
	if _, err := d.Create(t.Context(), site("a.test", "a")); !errors.Is(err, ErrWrongCode) {
		t.Error(err)
	}
	d.options.Code = nil
	if _, err := d.Create(t.Context(), site("a.test", "a")); !errors.Is(err, ErrNoCode) {
		t.Error(err)
	}
	if len(f.sent) != 0 {
		t.Errorf("sent %v", f.sent)
	}
	if s := d.Status(); !s.SoftwareUV || !s.SoftwareKeys {
		t.Errorf("status hides software keys: %+v", s)
	}
}

// externalUV stands for a UV key in hardware.
type externalUV struct{ *unlockedUV }

func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	keys, err := newSoftwareKeys()
	if err != nil {
		t.Fatal(err)
	}
	_, uv, err := sealUV("", cheap)
	if err != nil {
		t.Fatal(err)
	}
	o := f.options(&MemoryStorage{}, "alice")
	o.Code = nil
	o.UV = externalUV{uv}
	if o.DeviceKey, o.EncryptionKey, err = keys.open(); err != nil {
		t.Fatal(err)
	}
	d, err := New(t.Context(), "http://service.test", nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Enrol(t.Context(), "laptop", testPIN); err != nil {
		t.Fatal(err)
	}
	create(t, d, "a.test", "a")
	if p := d.p; p.Keys != nil || p.UV != nil {
		t.Error("private keys in the profile of a device that has them elsewhere")
	}
	if s := d.Status(); s.SoftwareUV || s.SoftwareKeys {
		t.Errorf("%+v", s)
	}
	o.DeviceKey = nil
	if _, err := Open(t.Context(), o); wire.CodeOf(err) != wire.CodeArgument {
		t.Errorf("opened without its key: %v", err)
	}
}

// The local code alone stands between the profile's file and the UV key.
func TestTrivialCode(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	d, stranger := f.enrolled(), f.device()
	f.sent = nil
	var refused *CodeError
	for _, code := range []string{"", "abc", "ä€", "    ", "1111", "1234", "dcba"} {
		if err := CheckCode(code); !errors.As(err, &refused) {
			t.Errorf("%q: %v", code, err)
		}
		answer := func(_ context.Context, r CodeRequest) (string, error) {
			if r.New {
				return code, nil
			}
			return testCode, nil
		}
		stranger.options.Code, d.options.Code = answer, answer
		if _, err := stranger.Join(t.Context(), "phone", testPIN); !errors.As(err, &refused) {
			t.Errorf("join with %q: %v", code, err)
		}
		if err := d.ReplaceUV(t.Context(), nil); !errors.As(err, &refused) {
			t.Errorf("replaced by %q: %v", code, err)
		}
	}
	if len(f.sent) != 0 || stranger.p.UV != nil || d.p.NextUV != nil {
		t.Errorf("sent %v, or a key sealed by it", f.sent)
	}
	for _, code := range []string{testCode, "2947", "größe"} {
		if err := CheckCode(code); err != nil {
			t.Errorf("%q: %v", code, err)
		}
	}
}
