package keyrelease

import (
	"bytes"
	"errors"
	"testing"
)

// A vault whose HSM has OAEP with SHA-1 alone says so, and is asked for that: once
// refused, for all versions.
func TestFallback(t *testing.T) {
	t.Parallel()
	v := newVault(t, "v1", "v2", "v3")
	v.lacks = map[string]string{"RSA_AES_KEY_WRAP_256": "EncNotSupported"}
	keks, err := v.client().Release(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keks {
		if k.Version != v.versions[i] || !bytes.Equal(k.Key, v.keys[k.Version]) {
			t.Errorf("version %s", k)
		}
	}
	if n := v.asked("/release"); len(keks) != 3 || n != 4 {
		t.Errorf("%d keys by %d requests", len(keks), n)
	}
}

// Nothing but that refusal makes the client ask for another wrapping, and none is taken
// that it did not ask for.
func TestNoFallback(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lacks  map[string]string
		change func(string, *answer)
		reason Reason
		asked  int
	}{
		"another refusal":    {map[string]string{"RSA_AES_KEY_WRAP_256": "BadParameter"}, nil, ReasonService, 1},
		"no wrapping at all": {map[string]string{"RSA_AES_KEY_WRAP_256": "EncNotSupported", "CKM_RSA_AES_KEY_WRAP": "EncNotSupported"}, nil, ReasonService, 2},
		"another than asked": {map[string]string{"RSA_AES_KEY_WRAP_256": "EncNotSupported"}, func(_ string, a *answer) { a.enc = "RSA_AES_KEY_WRAP_256" }, ReasonAnswer, 2},
		"not refused":        {map[string]string{}, func(_ string, a *answer) { a.enc = "CKM_RSA_AES_KEY_WRAP" }, ReasonAnswer, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t, "v1")
			v.lacks, v.change = c.lacks, c.change
			_, err := v.client().Release(t.Context())
			if !errors.Is(err, &Error{Reason: c.reason}) || v.asked("/release") != c.asked {
				t.Errorf("%v after %d requests", err, v.asked("/release"))
			}
		})
	}
}
