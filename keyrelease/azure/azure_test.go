package azure

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"string nonce":    {`{"target":"t","nonce":"n"}`, true},
		"number nonce":    {`{"target":"t","nonce":12345}`, true},
		"unknown member":  {`{"target":"t","nonce":"n","later":1}`, true},
		"no nonce":        {`{"target":"t","nonce":null}`, true},
		"fraction nonce":  {`{"target":"t","nonce":1.5}`, false},
		"object nonce":    {`{"target":"t","nonce":{}}`, false},
		"double member":   {`{"target":"t","target":"u"}`, false},
		"wrong type":      {`{"target":1}`, false},
		"truncated":       {`{"target":"t"`, false},
		"trailing":        {`{"target":"t"}{}`, false},
		"nested too deep": {`{"later":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r ReleaseRequest
			if err := Decode([]byte(c.body), &r); (err == nil) != c.ok || (err != nil && !errors.Is(err, ErrMalformed)) {
				t.Errorf("got %v", err)
			}
		})
	}
	var other ReleaseRequest
	if err := Decode([]byte(`{"TARGET":"t"}`), &other); err != nil || other.Target != "" {
		t.Errorf("a name in other case was taken: %+v, %v", other, err)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`"_w"`: "\xff", `"_w=="`: "\xff", `""`: ""} {
		var b Bytes
		if err := Decode([]byte(text), &b); err != nil || string(b) != want {
			t.Errorf("%s: got %x, %v", text, []byte(b), err)
		}
	}
	for _, text := range []string{`"/w"`, `"_x"`, `"_"`, `"_ w"`} { // other alphabet, loose bits, too short, a space
		var b Bytes
		if err := Decode([]byte(text), &b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", text, err)
		}
	}
	if out, err := json.Marshal(Bytes{0xff}); err != nil || string(out) != `"_w"` {
		t.Errorf("got %s, %v", out, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"target":"t","enc":"RSA_AES_KEY_WRAP_256","nonce":7}`))
	f.Add([]byte(`{"value":[{"kid":"k","attributes":{"enabled":true,"created":1}}],"nextLink":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{new(AttestRequest), new(AttestTDXRequest), new(AttestOpenEnclaveRequest), new(SNPReport), new(KeyList), new(ReleaseRequest), new(ReleasedKey), new(KeyHSM)} {
			if err := Decode(data, v); err != nil && err != ErrMalformed {
				t.Fatal(err)
			}
		}
	})
}
