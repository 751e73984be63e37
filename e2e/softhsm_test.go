package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/development/softhsm"
	"github.com/passclave/passclave/development/stack"
)

// needSoftHSM skips a test where there is no SoftHSM, or no C compiler to build a broker
// that can use it; in CI that is an error.
func needSoftHSM(t *testing.T) {
	t.Helper()
	library, err := softhsm.Find()
	if err == nil {
		_, err = exec.LookPath("gcc")
	}
	switch {
	case err != nil && os.Getenv("CI") == "":
		t.Skipf("NOT TESTED: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Logf("%s", library)
}

// newSoftHSM starts a service whose KEK is in SoftHSM. signs has its one passkey sign.
func newSoftHSM(t *testing.T) (s *service, signs func()) {
	t.Helper()
	needSoftHSM(t)
	s = newStackFounded(t, func(f *stack.Founding) { f.Keys = stack.KeysSoftHSM })
	laptop := s.enrolled("alice")
	made, err := laptop.Create(t.Context(), site("in the HSM"))
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		t.Helper()
		if _, err := laptop.Assert(t.Context(), client.AssertRequest{Handle: made.Handle}); err != nil {
			t.Fatal(err)
		}
	}
}

// The KEK in an HSM: the same service. The HSM goes away and comes back, the broker and
// the enclave restart, the KEK rotates: nothing needs a hand.
func TestSoftHSM(t *testing.T) {
	t.Parallel()
	s, signs := newSoftHSM(t)

	// No key lies in the folder in the clear, and the PIN is in nobody's command line or log.
	if _, err := os.Stat(filepath.Join(s.dir, "broker/keys.json")); !os.IsNotExist(err) {
		t.Errorf("a key file: %v", err)
	}
	pinPath := filepath.Join(s.dir, "broker/pin")
	info, err := os.Stat(pinPath)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	tokenPIN, err := os.ReadFile(pinPath)
	if err != nil {
		t.Fatal(err)
	}
	tokenPIN = bytes.TrimSpace(tokenPIN)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.stack.PID(stack.Broker)))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(line, tokenPIN) || !bytes.Contains(line, []byte("-pkcs11-pin-file")) {
		t.Errorf("the broker's command line: %q", line)
	}

	// Gone while an enclave starts: the enclave waits, and has its keys when the token is back.
	tokens, away := filepath.Join(s.dir, "broker/tokens"), filepath.Join(s.dir, "run/away")
	if err := os.Rename(tokens, away); err != nil {
		t.Fatal(err)
	}
	restarted := s.kill(stack.Enclave)
	restarted()
	s.logged(t, "CKR_GENERAL_ERROR")
	if err := s.stack.Ready(t.Context()); err == nil {
		t.Error("ready without the HSM")
	}
	if err := os.Rename(away, tokens); err != nil {
		t.Fatal(err)
	}
	s.ready()
	signs()

	// A new version, made beside the running broker, is released with the old one.
	rotate := exec.CommandContext(t.Context(), filepath.Join(bin(t), "passclave-keybroker"), "rotate", "-state", "broker", "-key", "passclave-kek",
		"-pkcs11-module", library(t), "-pkcs11-token", "passclave", "-pkcs11-pin-file", "broker/pin")
	rotate.Dir, rotate.Env = s.dir, append(os.Environ(), softhsm.Variable+"="+filepath.Join(s.dir, "broker/softhsm2.conf"))
	if out, err := rotate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, part := range []stack.Part{stack.Broker, stack.Enclave} {
		s.kill(part)()
	}
	s.ready()
	signs()
	if bytes.Contains(s.log.bytes(), tokenPIN) {
		t.Error("the PIN is in a log")
	}
	s.stack.Stop()

	// The folder goes on where it was founded, and nowhere without its token.
	start := func(keys string) error {
		o := s.founded
		o.Founding.Keys = keys
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		again, err := stack.Start(ctx, o)
		if err == nil {
			s.stack = again
		}
		return err
	}
	var refused *stack.RefusedError
	if err := start(stack.KeysFile); !errors.As(err, &refused) {
		t.Errorf("with a key file: %v", err)
	}
	if err := os.Rename(tokens, away); err != nil {
		t.Fatal(err)
	}
	if err := start(""); !errors.As(err, &refused) {
		t.Errorf("without its token: %v", err)
	}
	if err := errors.Join(os.RemoveAll(tokens), os.Rename(away, tokens)); err != nil {
		t.Fatal(err)
	}
	if err := start(""); err != nil {
		t.Fatal(err)
	}
	if s.stack.Keys != stack.KeysSoftHSM {
		t.Errorf("keys in %q", s.stack.Keys)
	}
	s.ready()
	signs()
}

func library(t *testing.T) string {
	t.Helper()
	path, err := softhsm.Find()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// logged waits until a part has logged a text.
func (s *service) logged(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !bytes.Contains(s.log.bytes(), []byte(text)) {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("%q was not logged", text)
		}
	}
}
