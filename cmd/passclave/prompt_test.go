package main

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// fromPipe returns an app and a descriptor from which text can be read.
func fromPipe(t *testing.T, text string) (*app, int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	go func() {
		io.WriteString(w, text)
		w.Close()
	}()
	a := newApp(r, io.Discard, os.Stderr)
	a.files[int(r.Fd())] = r
	return a, int(r.Fd())
}

// Two secrets may come by one descriptor: each takes one line and not a byte more.
func TestSecretsByDescriptor(t *testing.T) {
	t.Parallel()
	a, fd := fromPipe(t, "493827\r\nlocal code\n\nlast")
	for _, want := range []string{"493827", "local code", "", "last"} {
		got, err := a.secret("", fd, "--pin-fd", true)
		if err != nil || got != want {
			t.Errorf("%q, %v; must be %q", got, err, want)
		}
	}
	var usage *usageError
	if _, err := a.secret("", fd, "--pin-fd", false); !errors.As(err, &usage) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSecretTooLong(t *testing.T) {
	t.Parallel()
	a, fd := fromPipe(t, strings.Repeat("a", maxSecret+1)+"\n")
	var usage *usageError
	if _, err := a.secret("", fd, "--pin-fd", false); !errors.As(err, &usage) {
		t.Errorf("%v", err)
	}
}

// Without a terminal nobody is asked: a secret is wrong use, a question needs --yes.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	a, _ := fromPipe(t, "y\n")
	var usage *usageError
	if _, err := a.secret("PIN", -1, "--pin-fd", false); !errors.As(err, &usage) {
		t.Errorf("secret: %v", err)
	}
	if yes, err := a.confirm("Really?"); yes || !errors.As(err, &usage) {
		t.Errorf("question: %v, %v", yes, err)
	}
	a.yes = true
	if yes, err := a.confirm("Really?"); !yes || err != nil {
		t.Errorf("with --yes: %v, %v", yes, err)
	}
}
