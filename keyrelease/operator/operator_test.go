package operator

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/wire"
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicOf(k ed25519.PrivateKey) wire.Base64 { return wire.Base64(k.Public().(ed25519.PublicKey)) }

func TestParse(t *testing.T) {
	t.Parallel()
	a, b := publicOf(newKey(t)), publicOf(newKey(t))
	file := func(operators ...Operator) string {
		data, err := Encode(operators)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	good := file(Operator{"alice", a}, Operator{"bob", b})
	if got, err := Parse([]byte(good)); err != nil || len(got) != 2 || got[1].Name != "bob" || string(got[1].Key) != string(b) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for name, data := range map[string]string{
		"nothing":        "",
		"nobody":         file(),
		"key twice":      file(Operator{"alice", a}, Operator{"bob", a}),
		"name twice":     file(Operator{"alice", a}, Operator{"alice", b}),
		"no name":        file(Operator{"", a}),
		"strange name":   file(Operator{"al\x1bice", a}),
		"long name":      file(Operator{strings.Repeat("a", 65), a}),
		"short key":      file(Operator{"alice", a[1:]}),
		"version":        strings.Replace(good, `"version": 1`, `"version": 2`, 1),
		"another member": strings.Replace(good, `"version": 1`, `"version": 1, "threshold": 1`, 1),
		"behind it":      good + "{}",
		"member twice":   strings.Replace(good, `"name": "bob"`, `"name": "bob", "name": "bob"`, 1),
	} {
		if _, err := Parse([]byte(data)); !errors.Is(err, ErrOperators) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"operators":[{"name":"a","key":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Encode(got)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := Parse(again); err != nil || len(same) != len(got) {
			t.Errorf("got %+v, %v", same, err)
		}
	})
}

// A head of an audit log that is not an answer to this question may be an old one.
func TestStaleHead(t *testing.T) {
	t.Parallel()
	log, err := audit.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	if err := log.Append(audit.Record{}); err != nil {
		t.Fatal(err)
	}
	asked := []byte("this question's challenge, of any kind!!")
	var nonce []byte
	var forge func(*Audit)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == Path+"/challenge" {
			json.NewEncoder(w).Encode(Challenge{asked})
			return
		}
		lines, head, err := log.Page(0, nonce)
		if err != nil {
			t.Error(err)
		}
		answer := Audit{lines, *head}
		forge(&answer)
		json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c, err := NewClient(server.URL, roots, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]struct {
		nonce []byte
		forge func(*Audit)
		want  error
	}{
		"good":             {asked, func(*Audit) {}, nil},
		"another question": {[]byte("another"), func(*Audit) {}, ErrStaleHead},
		"not signed":       {asked, func(a *Audit) { a.Head.Sequence++ }, ErrStaleHead},
	} {
		nonce, forge = q.nonce, q.forge
		if _, _, err := c.Audit(t.Context()); !errors.Is(err, q.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// What is cut is handed on: its head shows it.
	nonce, forge = asked, func(a *Audit) { a.Lines = nil }
	lines, head, err := c.Audit(t.Context())
	if err != nil || len(lines) != 0 || head.Sequence != 1 {
		t.Errorf("got %d bytes, %+v, %v", len(lines), head, err)
	}
}

func TestNewClientRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "broker", "http://127.0.0.1", "https://127.0.0.1/", "https://127.0.0.1?a", "https://u@127.0.0.1"} {
		if _, err := NewClient(url, nil, newKey(t)); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
}
