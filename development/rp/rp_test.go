package rp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/client/webauthn"
	"github.com/passclave/passclave/development/rp"
	"github.com/passclave/passclave/enclave/passkey"
	"github.com/passclave/passclave/wire"
)

const origin = "http://localhost:8080"

func start(t *testing.T, folder string) string {
	t.Helper()
	handler, err := rp.New(rp.Config{RPID: "localhost", Origin: origin, Folder: folder, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// post returns the answer's body, or its refusal.
func post(t *testing.T, url, body string) ([]byte, error) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode == http.StatusOK {
		return answer, nil
	}
	var r rp.Refusal
	if err := json.Unmarshal(answer, &r); err != nil || response.StatusCode != http.StatusBadRequest {
		t.Fatalf("status %d: %s", response.StatusCode, answer)
	}
	return nil, &r
}

func refused(t *testing.T, err error, what string) {
	t.Helper()
	var r *rp.Refusal
	if !errors.As(err, &r) || r.Refused != what {
		t.Errorf("got %v, want a refusal of %q", err, what)
	}
}

// held is a passkey as enclave and device hold it together.
type held struct {
	secret   *passkey.Secret
	metadata *wire.Metadata
}

func register(t *testing.T, url, user string) (*held, []byte, error) {
	t.Helper()
	options, err := post(t, url+"/register/begin", `{"user":"`+user+`"}`)
	if err != nil {
		return nil, nil, err
	}
	c, err := webauthn.NewCreation(origin, options)
	if err != nil {
		t.Fatal(err)
	}
	command := c.Command(1_800_000_000, false)
	s, m, err := passkey.New(&command)
	if err != nil {
		t.Fatal(err)
	}
	object, err := s.AttestationObject(m.CredentialID, true)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Response(&wire.CreateResult{CredentialID: m.CredentialID, AttestationObject: object})
	if err != nil {
		t.Fatal(err)
	}
	_, err = post(t, url+"/register/finish", string(response))
	return &held{s, m}, response, err
}

// signIn returns the response that was sent, too, so that it can be sent again.
func (h *held) signIn(t *testing.T, url, begin string) (*rp.Result, []byte, error) {
	t.Helper()
	options, err := post(t, url+"/sign-in/begin", begin)
	if err != nil {
		return nil, nil, err
	}
	r, err := webauthn.NewRequest(origin, options)
	if err != nil {
		t.Fatal(err)
	}
	command := r.Command(wire.Handle{}, h.metadata)
	a, err := h.secret.Assert(command.RPID, command.ClientDataHash, true)
	if err != nil {
		t.Fatal(err)
	}
	response, err := r.Response(h.metadata, &wire.AssertResult{AuthenticatorData: a.AuthenticatorData, Signature: a.Signature}, false)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := post(t, url+"/sign-in/finish", string(response))
	if err != nil {
		return nil, response, err
	}
	var result rp.Result
	if err := json.Unmarshal(answer, &result); err != nil {
		t.Fatal(err)
	}
	return &result, response, nil
}

// The whole of client, enclave and relying party, also over a restart of the latter.
func TestSignIn(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	url := start(t, folder)
	alice, _, err := register(t, url, "alice")
	if err != nil {
		t.Fatal(err)
	}
	bob, _, err := register(t, url, "bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{url, start(t, folder)} {
		for _, begin := range []string{`{}`, `{"user":"alice"}`} {
			got, _, err := alice.signIn(t, at, begin)
			if err != nil || got.User != "alice" || !got.UserVerified || !got.BackupEligible || !got.BackedUp {
				t.Errorf("%s: %+v, %v", begin, got, err)
			}
		}
		if got, _, err := bob.signIn(t, at, `{}`); err != nil || got.User != "bob" {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	url := start(t, t.TempDir())
	alice, registration, err := register(t, url, "alice")
	if err != nil {
		t.Fatal(err)
	}
	_, err = post(t, url+"/register/finish", string(registration))
	refused(t, err, "challenge")

	_, response, err := alice.signIn(t, url, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = post(t, url+"/sign-in/finish", string(response))
	refused(t, err, "challenge")
	_, err = post(t, url+"/sign-in/begin", `{"user":"carol"}`)
	refused(t, err, "user")
	if _, err := post(t, url+"/register/begin", `{"user":"dave"}`); err != nil {
		t.Fatal(err)
	}
	_, err = post(t, url+"/sign-in/begin", `{"user":"dave"}`) // he never finished
	refused(t, err, "user")
	for body, what := range map[string]string{``: "body", `[`: "body", `{"user":1}`: "body", `{"user":""}`: "user", `{"user":"<b>"}`: "user"} {
		_, err = post(t, url+"/register/begin", body)
		refused(t, err, what)
	}
	for _, path := range []string{"/register/finish", "/sign-in/finish"} {
		_, err = post(t, url+path, `{}`)
		refused(t, err, "invalid_request")
	}

	// A good assertion by a key that was never registered, under alice's credential ID.
	forger, _, err := passkey.New(&wire.Create{RPID: "localhost", UserHandle: alice.metadata.UserHandle, UserName: "alice", Algorithms: []int64{passkey.ES256}})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = (&held{forger, alice.metadata}).signIn(t, url, `{}`)
	refused(t, err, "invalid_signature")

	unknown := *alice.metadata
	unknown.CredentialID = bytes.Repeat([]byte{1}, 32)
	_, _, err = (&held{alice.secret, &unknown}).signIn(t, url, `{}`)
	refused(t, err, "credential")
}

// An account's own passkeys are excluded when it registers another.
func TestExcludes(t *testing.T) {
	t.Parallel()
	url := start(t, t.TempDir())
	alice, _, err := register(t, url, "alice")
	if err != nil {
		t.Fatal(err)
	}
	options, err := post(t, url+"/register/begin", `{"user":"alice"}`)
	if err != nil {
		t.Fatal(err)
	}
	c, err := webauthn.NewCreation(origin, options)
	if err != nil {
		t.Fatal(err)
	}
	if e := c.Command(0, false).Exclude; len(e) != 1 || !bytes.Equal(e[0], alice.metadata.CredentialID) {
		t.Errorf("excluded %x", e)
	}
}

func TestOtherSitesMayNotPost(t *testing.T) {
	t.Parallel()
	url := start(t, t.TempDir())
	request, err := http.NewRequest("POST", url+"/register/begin", strings.NewReader(`{"user":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "accounts.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	for name, c := range map[string]rp.Config{
		"a broken store": {RPID: "localhost", Origin: origin, Folder: folder, Log: log},
		"no RP ID":       {Origin: origin, Folder: t.TempDir(), Log: log},
		"no origin":      {RPID: "localhost", Folder: t.TempDir(), Log: log},
		"no folder":      {RPID: "localhost", Origin: origin, Log: log},
		"no log":         {RPID: "localhost", Origin: origin, Folder: t.TempDir()},
	} {
		if _, err := rp.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
