package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/passclave/passclave/development/shell"
)

// secrets go to a command by file descriptor, one a line.
type secrets []string

// The person of the story, and what only that person knows.
const (
	user    = "alice"
	pin     = "493827"
	newPIN  = "615243"
	code    = "local code"
	evilPIN = "274916" // what a stranger with alice's login tries
)

// result is what a command did.
type result struct {
	exit int
	out  []byte // its JSON
	err  failure
}

// failure is the JSON of an error.
type failure struct {
	Code         string  `json:"code"`
	Exit         int     `json:"exit"`
	Message      string  `json:"message"`
	AttemptsLeft *uint64 `json:"attempts_left"`
	HostHint     string  `json:"host_hint"`
}

// run runs a command line as the person with a profile types it, and shows it.
func (s *story) run(ctx context.Context, profile string, given secrets, args ...string) (*result, error) {
	s.typed(profile, args)
	return s.quietly(ctx, profile, given, args...)
}

// typed shows a command line, so that it can be copied; one that is the last again is
// not shown again.
func (s *story) typed(profile string, args []string) {
	line := shell.Line(append(append([]string{"passclave"}, s.shown(args)...), "--profile", profile)...)
	if line != s.last {
		fmt.Fprintf(s.options.Out, "   $ %s\n", line)
	}
	s.last = line
}

// quietly runs a command line without showing it.
func (s *story) quietly(ctx context.Context, profile string, given secrets, args ...string) (*result, error) {
	args = append(args, "--profile", profile, "--json")
	cmd := exec.CommandContext(ctx, filepath.Join(s.options.Bin, "passclave"), args...)
	cmd.Env = append(os.Environ(), "PASSCLAVE_HOME="+filepath.Join(s.dir, "profiles"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if given != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if _, err := w.WriteString(strings.Join(given, "\n") + "\n"); err != nil { // fits a pipe
			return nil, err
		}
		w.Close()
		cmd.ExtraFiles = []*os.File{r} // descriptor 3
	}
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return nil, err
	}
	r := &result{exit: cmd.ProcessState.ExitCode(), out: stdout.Bytes()}
	if r.exit != 0 {
		var j struct{ Error failure }
		if err := decode(r.out, &j); err != nil {
			return nil, fmt.Errorf("exit code %d, %w: %s", r.exit, err, stderr.Bytes())
		}
		r.err = j.Error
	}
	return r, nil
}

// shown leaves out what only scripts type, and shortens paths.
func (s *story) shown(args []string) []string {
	var out []string
	for n := 0; n < len(args); n++ {
		switch args[n] {
		case "--pin-fd", "--code-fd":
			n++
		case "--yes":
		default:
			out = append(out, strings.ReplaceAll(args[n], s.dir+"/", ""))
		}
	}
	return out
}

// done runs a command that must succeed, and decodes its JSON into v unless v is nil.
func (s *story) done(ctx context.Context, profile string, given secrets, v any, args ...string) error {
	r, err := s.run(ctx, profile, given, args...)
	if err != nil {
		return err
	}
	if r.exit != 0 {
		return fmt.Errorf("exit code %d, must be 0: %s", r.exit, r.err.Message)
	}
	if v == nil {
		return nil
	}
	return decode(r.out, v)
}

// refused runs a command that must be refused with exactly an exit code and a code.
func (s *story) refused(ctx context.Context, exit int, refusal, profile string, given secrets, args ...string) (*result, error) {
	r, err := s.run(ctx, profile, given, args...)
	if err != nil {
		return nil, err
	}
	if r.exit != exit || r.err.Code != refusal {
		return nil, fmt.Errorf("exit code %d, code %q; must be %d, %q: %s", r.exit, r.err.Code, exit, refusal, r.err.Message)
	}
	s.say("refused: %s, exit code %d", r.err.Message, r.exit)
	return r, nil
}
