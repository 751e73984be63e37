package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/passclave/passclave/client"
)

// descriptor is a flag's value: a file descriptor to read a secret from. Only one that
// was handed over is taken, and the flag is checked before the command opens anything:
// the number of one that was not would soon be that of a file of the command's own.
type descriptor struct {
	name  string
	file  *os.File         // nil: not given
	files map[int]*os.File // of all such flags: two may name one descriptor
}

// Set implements pflag.Value.
func (d *descriptor) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errors.New("not the number of a file descriptor")
	}
	// Whatever this process opened itself is to be closed at exec; what was handed over is not.
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return errors.New("nothing was handed over there: that file descriptor is not open")
	}
	fd := int(n)
	if d.files[fd] == nil {
		d.files[fd] = os.NewFile(uintptr(fd), text)
	}
	d.file = d.files[fd]
	return nil
}

// String implements pflag.Value; help shows no default.
func (d *descriptor) String() string {
	if d.file == nil {
		return ""
	}
	return d.file.Name()
}

// Type implements pflag.Value.
func (d *descriptor) Type() string { return "descriptor" }

// secret asks for a secret: one line of from where it was given, else a prompt without
// echo.
func (a *app) secret(ctx context.Context, prompt string, from descriptor) (string, error) {
	if from.file != nil {
		text, err := nextLine(ctx, from.file)
		if err != nil && ctx.Err() == nil {
			return "", usagef("--%s: %v", from.name, err)
		}
		return text, err
	}
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return "", usagef("there is no terminal to ask on: hand it over with --%s", from.name)
	}
	a.progress.pause()
	defer a.progress.resume()
	return a.ask(ctx, prompt+": ")
}

// newSecret is [app.secret] for one that is chosen now, and must pass check. On a
// terminal it asks until one does and is typed twice; rule says first what is wanted.
func (a *app) newSecret(ctx context.Context, prompt, rule string, from descriptor, check func(string) error) (string, error) {
	if from.file == nil && term.IsTerminal(int(a.stdin.Fd())) {
		a.warn("%s: %s.", prompt, rule)
	}
	for {
		first, err := a.secret(ctx, prompt, from)
		if err != nil {
			return "", err
		}
		err = check(first)
		if from.file != nil {
			return first, err
		}
		if err != nil {
			a.warn("%v.", err)
			continue
		}
		second, err := a.secret(ctx, "Again", from)
		if err != nil || first == second {
			return first, err
		}
		a.warn("They differ.")
	}
}

// ask asks on the terminal, without echo.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	restore, err := hiding(a.stdin)
	if err != nil {
		return "", err
	}
	defer restore()
	fmt.Fprint(a.stderr, prompt)
	defer fmt.Fprintln(a.stderr) // the person's own newline was not shown
	return nextLine(ctx, a.stdin)
}

const (
	pinRule        = "any text of four characters or more, or six digits or more; no runs, no repetitions, none of the common ones"
	codeRule       = "four characters or more, no runs and no repetitions"
	passphraseRule = "12 bytes or more; whoever gets the backup can try guesses"
)

// newPIN asks for a PIN that is set now, pin for one that is there.
func (a *app) newPIN(ctx context.Context, prompt string) (string, error) {
	return a.newSecret(ctx, prompt, pinRule, a.pinFD, client.CheckPIN)
}

func (a *app) pin(ctx context.Context, prompt string) (string, error) {
	return a.secret(ctx, prompt, a.pinFD)
}

// code is the client's CodeFunc.
func (a *app) code(ctx context.Context, r client.CodeRequest) (string, error) {
	if r.New {
		return a.newSecret(ctx, "New local code for this device's software UV", codeRule, a.codeFD, client.CheckCode)
	}
	return a.secret(ctx, "Local code (software UV)", a.codeFD)
}

// confirm asks for a yes. Without a terminal, and without --yes, it is an error.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	if a.yes {
		return true, nil
	}
	if !term.IsTerminal(int(a.stdin.Fd())) {
		return false, usagef("%s There is no terminal to ask on: say --yes", question)
	}
	a.progress.pause()
	defer a.progress.resume()
	fmt.Fprint(a.stderr, question+" [y/N] ")
	answer, err := nextLine(ctx, a.stdin)
	if err != nil {
		fmt.Fprintln(a.stderr)
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
