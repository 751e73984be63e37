package main

import (
	"errors"
	"io"
	"os"
	"testing"
)

// Whatever text a service gets into an error or a warning, the terminal obeys none of
// it: escape sequences in 7 and 8 bits, lines overwritten, text turned around.
func TestTerminalIsNotObeyed(t *testing.T) {
	t.Parallel()
	const evil = "\x1b[2J\x1b]0;owned\aaccepted\r\u009b2K\u202etxt\x9b\x7f\nsecond line"
	const harmless = "�[2J�]0;owned�accepted��2K�txt��\nsecond line"
	for name, c := range map[string]struct {
		print func(a *app)
		want  string
	}{
		"fail":       {func(a *app) { a.fail(errors.New(evil)) }, "passclave: " + harmless + "\n"},
		"fail usage": {func(a *app) { a.fail(usagef("%s", evil)) }, "passclave: " + harmless + "\n"},
		"warn":       {func(a *app) { a.warn("the sync failed: %v", errors.New(evil)) }, "the sync failed: " + harmless + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c.print(newApp(os.Stdin, io.Discard, w))
			w.Close()
			got, err := io.ReadAll(r)
			if err != nil || string(got) != c.want {
				t.Errorf("%q, %v; must be %q", got, err, c.want)
			}
		})
	}
}
