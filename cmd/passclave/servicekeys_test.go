package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/passclave/passclave/wire"
)

// The keys of an attestation service come from its own endpoint, over TLS, and from
// nowhere that it points to.
func TestServiceKeys(t *testing.T) {
	t.Parallel()
	const keys = `{"keys":[]}`
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("asked elsewhere")
		w.Write([]byte(keys))
	}))
	defer elsewhere.Close()
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/certs":
			w.Write([]byte(keys))
		case "/moved/certs":
			http.Redirect(w, r, elsewhere.URL+"/certs", http.StatusFound)
		case "/much/certs":
			w.Write(make([]byte, maxServiceKeys+1))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer service.Close()
	for _, issuer := range []string{service.URL, service.URL + "/"} {
		if got, err := serviceKeys(t.Context(), service.Client(), issuer); err != nil || string(got) != keys {
			t.Errorf("%s: %q, %v", issuer, got, err)
		}
	}
	for _, path := range []string{"/moved", "/much", "/nothing"} {
		if _, err := serviceKeys(t.Context(), service.Client(), service.URL+path); wire.CodeOf(err) != wire.CodeUnavailable {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := serviceKeys(t.Context(), http.DefaultClient, service.URL); wire.CodeOf(err) != wire.CodeUnavailable {
		t.Errorf("a certificate of nobody: %v", err)
	}
	plain := httptest.NewServer(service.Config.Handler)
	defer plain.Close()
	if _, err := serviceKeys(t.Context(), plain.Client(), plain.URL); exitCode(err) != exitUsage {
		t.Errorf("without TLS: %v", err)
	}
}
