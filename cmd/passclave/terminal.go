package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoAnswer ends a command whose question met the end of its input (Ctrl-D).
var errNoAnswer = errors.New("no answer: the input has ended")

// errLong ends a command that was handed more than a secret.
var errLong = errors.New("the line is too long")

// maxLine bounds a line that is read, in bytes.
const maxLine = 1024

// nextLine reads one line byte by byte, so that the next one stays for who reads next. It
// ends with ctx, too: the read itself cannot be ended, and is left behind.
func nextLine(ctx context.Context, f *os.File) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := readLine(f)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func readLine(f *os.File) (string, error) {
	var text []byte
	b := make([]byte, 1)
	for len(text) <= maxLine {
		n, err := f.Read(b)
		switch {
		case n == 1 && b[0] == '\n', errors.Is(err, io.EOF) && len(text) > 0:
			return strings.TrimSuffix(string(text), "\r"), nil
		case n == 1:
			text = append(text, b[0])
		case errors.Is(err, io.EOF):
			return "", errNoAnswer
		case err != nil:
			return "", err
		}
	}
	return "", errLong
}

// hiding stops a terminal's echo until the function that it returns is called. The
// rest of the line discipline stays as it is: Ctrl-C is a signal, Ctrl-D ends the input.
func hiding(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	was, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	hidden := *was
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setTermios, &hidden); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(fd, setTermios, was) }, nil
}
