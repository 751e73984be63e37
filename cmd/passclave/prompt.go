package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/passclave/passclave/client"
)

// secret asks for a secret: one line of file descriptor fd where it is 0 or more,
// else a prompt without echo. twice asks again on a terminal until both are equal.
func (a *app) secret(prompt string, fd int, flag string, twice bool) (string, error) {
	if fd >= 0 {
		return a.readLine(fd, flag)
	}
	in := int(a.stdin.Fd())
	if !term.IsTerminal(in) {
		return "", usagef("there is no terminal to ask on: hand it over with %s", flag)
	}
	a.progress.pause()
	defer a.progress.resume()
	for {
		first, err := a.ask(in, prompt+": ")
		if err != nil || !twice {
			return first, err
		}
		second, err := a.ask(in, "Again: ")
		if err != nil {
			return "", err
		}
		if first == second {
			return first, nil
		}
		fmt.Fprintln(a.stderr, "They differ.")
	}
}

func (a *app) ask(in int, prompt string) (string, error) {
	fmt.Fprint(a.stderr, prompt)
	line, err := term.ReadPassword(in)
	fmt.Fprintln(a.stderr)
	return string(line), err
}

// maxSecret bounds a secret's line, in bytes.
const maxSecret = 1024

// readLine reads one line of a file descriptor byte by byte, so that the next secret
// may stand on its next line; the descriptor stays open for it.
func (a *app) readLine(fd int, flag string) (string, error) {
	f := a.files[fd]
	if f == nil {
		if f = os.NewFile(uintptr(fd), flag); f == nil {
			return "", usagef("%s: not a file descriptor", flag)
		}
		a.files[fd] = f
	}
	var line []byte
	b := make([]byte, 1)
	for len(line) <= maxSecret {
		n, err := f.Read(b)
		switch {
		case n == 1 && b[0] == '\n', errors.Is(err, io.EOF) && len(line) > 0:
			return strings.TrimSuffix(string(line), "\r"), nil
		case n == 1:
			line = append(line, b[0])
		case err != nil:
			return "", usagef("%s: nothing to read there: %v", flag, err)
		}
	}
	return "", usagef("%s: a line of more than %d bytes", flag, maxSecret)
}

func (a *app) pin(prompt string, fresh bool) (string, error) {
	return a.secret(prompt, a.pinFD, "--pin-fd", fresh)
}

// code is the client's CodeFunc.
func (a *app) code(_ context.Context, r client.CodeRequest) (string, error) {
	if r.New {
		return a.secret("New local code for this device's software UV (at least 4 characters)", a.codeFD, "--code-fd", true)
	}
	return a.secret("Local code (software UV)", a.codeFD, "--code-fd", false)
}

// confirm asks for a yes. Without a terminal, and without --yes, the answer is no.
func (a *app) confirm(question string) (bool, error) {
	if a.yes {
		return true, nil
	}
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return false, usagef("%s There is no terminal to ask on: say --yes", question)
	}
	a.progress.pause()
	defer a.progress.resume()
	fmt.Fprint(a.stderr, question+" [y/N] ")
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
