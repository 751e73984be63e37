package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/passclave/passclave/client"
)

// fromPipe returns an app and a descriptor from which text can be read.
func fromPipe(t *testing.T, text string) (*app, descriptor) {
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
	return newApp(r, io.Discard, os.Stderr), descriptor{name: "pin-fd", file: r}
}

// Two secrets may come by one descriptor: each takes one line and not a byte more.
func TestSecretsByDescriptor(t *testing.T) {
	t.Parallel()
	a, from := fromPipe(t, "493827\r\nlocal code\n\nlast")
	anything := func(string) error { return nil }
	for _, want := range []string{"493827", "local code", "", "last"} {
		got, err := a.newSecret(t.Context(), "", "", from, anything)
		if err != nil || got != want {
			t.Errorf("%q, %v; must be %q", got, err, want)
		}
	}
	var usage *usageError
	if _, err := a.secret(t.Context(), "", from); !errors.As(err, &usage) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSecretTooLong(t *testing.T) {
	t.Parallel()
	a, from := fromPipe(t, strings.Repeat("a", maxLine+1)+"\n")
	var usage *usageError
	if _, err := a.secret(t.Context(), "", from); !errors.As(err, &usage) {
		t.Errorf("%v", err)
	}
}

// What a script hands over is judged as what a person types, once.
func TestNewSecretByDescriptorIsChecked(t *testing.T) {
	t.Parallel()
	a, from := fromPipe(t, "123456\n493827\n")
	a.pinFD = from
	var refused *client.PINError
	if _, err := a.newPIN(t.Context(), "PIN"); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}

// A wait for a secret that never comes ends with the command.
func TestSecretInterrupted(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // which also ends the read
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&interruption{syscall.SIGTERM})
	_, err = newApp(r, io.Discard, os.Stderr).secret(ctx, "", descriptor{name: "pin-fd", file: r})
	if exitCode(err) != 143 || toJSON(err).Code != "interrupted" {
		t.Errorf("%v, exit code %d", err, exitCode(err))
	}
}

// Only what was handed over is read: not a file of this process, which a number that
// was not handed over may come to name.
func TestDescriptorHandedOver(t *testing.T) {
	t.Parallel()
	own, err := os.Open(os.DevNull) // closed at exec, as all that Go opens
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	closed := "4096"
	for _, text := range []string{"", "-1", "x", "70000", closed, strconv.Itoa(int(own.Fd()))} {
		d := descriptor{name: "pin-fd", files: map[int]*os.File{}}
		if err := d.Set(text); err == nil || d.file != nil {
			t.Errorf("%q is taken", text)
		}
	}
	d := descriptor{name: "pin-fd", files: map[int]*os.File{}}
	if err := d.Set("0"); err != nil || d.file == nil {
		t.Error(err)
	}
}

// Without a terminal nobody is asked: a secret is wrong use, a question needs --yes.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	a, _ := fromPipe(t, "y\n")
	var usage *usageError
	if _, err := a.pin(t.Context(), "PIN"); !errors.As(err, &usage) {
		t.Errorf("secret: %v", err)
	}
	if yes, err := a.confirm(t.Context(), "Really?"); yes || !errors.As(err, &usage) {
		t.Errorf("question: %v, %v", yes, err)
	}
	a.yes = true
	if yes, err := a.confirm(t.Context(), "Really?"); !yes || err != nil {
		t.Errorf("with --yes: %v, %v", yes, err)
	}
}

// What names the flag to use names one that the command has.
func TestDescriptorNames(t *testing.T) {
	t.Parallel()
	a := newApp(os.Stdin, io.Discard, os.Stderr)
	a.rootCommand()
	if a.pinFD.name != "pin-fd" || a.codeFD.name != "code-fd" || a.passphraseFD.name != "passphrase-fd" {
		t.Errorf("%q, %q, %q", a.pinFD.name, a.codeFD.name, a.passphraseFD.name)
	}
}
