//go:build cgo

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/passclave/passclave/development/softhsm/softhsmtest"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

const testPIN = "the PIN of the user"

// token makes a token in SoftHSM and returns the flags with which one process uses it.
func (f files) token(t *testing.T, label string) (process func() []string, pinFile string) {
	t.Helper()
	write := func(name, content string) string {
		path := filepath.Join(f.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	place := softhsmtest.New(t)
	pinFile = write("pin", testPIN+"\n")
	process = func() []string {
		return []string{"-pkcs11-module", place.Library(t), "-pkcs11-token", label, "-pkcs11-pin-file", pinFile}
	}
	var out, log bytes.Buffer
	if code := run(t.Context(), append([]string{"init-token", "-so-pin-file", write("so-pin", "the PIN of the officer")}, process()...), &out, &log); code != 0 {
		t.Fatalf("init-token: %d: %s", code, log.Bytes())
	}
	return process, pinFile
}

// The broker on an HSM: the same service, and no key in the folder.
//
// Not parallel: libraries of SoftHSM may not be initialised at once.
func TestServeHSM(t *testing.T) {
	f := newFiles(t)
	process, pinFile := f.token(t, "served")
	url, stderr, stop := f.start(t, append(process(), "-create", "-policy", f.policy)...)
	first := f.versions(t, url)
	if len(first) != 1 {
		t.Fatalf("versions %v: %s", first, stderr)
	}
	log := stderr.String()
	for _, want := range []string{"SoftHSM", "DEVELOPMENT ONLY", `algorithm=CKM_RSA_AES_KEY_WRAP by="OAEP and`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q: %s", want, log)
		}
	}

	// Beside the running broker, as processes of their own.
	state := []string{"-state", filepath.Join(f.dir, "state"), "-key", "kek"}
	beside := func(command string, more ...string) string {
		t.Helper()
		var stdout, log bytes.Buffer
		args := append(append([]string{command}, state...), more...)
		if code := run(t.Context(), append(args, process()...), &stdout, &log); code != 0 {
			t.Fatalf("%s: %d: %s", command, code, log.Bytes())
		}
		if strings.Contains(log.String(), testPIN) {
			t.Errorf("%s logs the PIN", command)
		}
		return stdout.String()
	}
	second := strings.TrimSpace(beside("rotate"))
	both := f.versions(t, url)
	if len(both) != 2 || both[0] != first[0] || both[1] != second {
		t.Errorf("versions %v after rotating to %s", both, second)
	}
	other := filepath.Join(f.dir, "other.json")
	if err := os.WriteFile(other, releasepolicy.Require("https://127.0.0.1", map[string]any{"c": "d"}), 0o600); err != nil {
		t.Fatal(err)
	}
	beside("set-policy", "-policy", other)
	if got := strings.Fields(beside("versions")); len(got) != 2 || got[0] != both[0] || got[1] != both[1] {
		t.Errorf("versions prints %q, want %q", got, both)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(f.dir, "state", file.FileName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key file: %v", err)
	}

	url, again, stop := f.start(t, process()...)
	if got := f.versions(t, url); len(got) != 2 || got[0] != both[0] {
		t.Errorf("versions %v after a restart", got)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if strings.Contains(stderr.String()+again.String(), testPIN) {
		t.Error("the log has the PIN")
	}

	if err := os.WriteFile(pinFile, []byte("another PIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, refused bytes.Buffer
	if code := run(t.Context(), append(f.serve(), process()...), &stdout, &refused); code != 1 || !strings.Contains(refused.String(), "PIN") || strings.Contains(refused.String(), "another PIN") {
		t.Errorf("with a wrong PIN: %d: %s", code, refused.Bytes())
	}
}

func TestWrongUseOfHSM(t *testing.T) {
	f := newFiles(t)
	process, pinFile := f.token(t, "wrongly used")
	library := process()[1]
	state := filepath.Join(f.dir, "state")
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"no token":          {f.serve("-pkcs11-module", library, "-pkcs11-pin-file", pinFile), 2},
		"no PIN":            {f.serve("-pkcs11-module", library, "-pkcs11-token", "x"), 2},
		"no library":        {f.serve("-pkcs11-token", "x", "-pkcs11-pin-file", pinFile), 2},
		"another token":     {f.serve("-pkcs11-module", library, "-pkcs11-token", "x", "-pkcs11-pin-file", pinFile), 1},
		"not a library":     {f.serve("-pkcs11-module", f.policy, "-pkcs11-token", "x", "-pkcs11-pin-file", pinFile), 1},
		"no PIN file":       {f.serve("-pkcs11-module", library, "-pkcs11-token", "x", "-pkcs11-pin-file", pinFile+"x"), 1},
		"key is missing":    {f.serve(process()...), 1},
		"init-token, twice": {append([]string{"init-token", "-so-pin-file", pinFile}, process()...), 1},
		"init-token, none":  {[]string{"init-token"}, 2},
		"versions, none":    {append([]string{"versions", "-state", state, "-key", "kek"}, process()...), 1},
		"set-policy, file":  {[]string{"set-policy", "-state", state, "-key", "kek", "-policy", f.policy}, 1},
		"set-policy, none":  {append([]string{"set-policy", "-state", state, "-key", "kek"}, process()...), 2},
	} {
		var stdout, stderr bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		if code := run(ctx, c.args, &stdout, &stderr); code != c.code || stdout.Len() > 0 {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, c.code, stderr.Bytes())
		}
		cancel()
	}
}
