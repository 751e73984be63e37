package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/keyrelease/keystore/file"
)

// typist is a person at a terminal at which one command runs.
type typist struct {
	t            *testing.T
	master, side *os.File
	cmd          *exec.Cmd

	mu    sync.Mutex
	shown bytes.Buffer // what the terminal shows, from what was last waited for on
	came  chan struct{}
}

// atTerminal runs passclave on a terminal of its own, in a folder with the policies and
// keys of [TestScripts].
func atTerminal(t *testing.T, dir string, args ...string) *typist {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &typist{t: t, master: master, side: side, came: make(chan struct{}, 1)}
	go p.read()
	p.cmd = exec.Command("passclave", args...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), "PASSCLAVE_HOME="+filepath.Join(dir, "profiles"))
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = side, side, side
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		side.Close()
		master.Close()
	})
	return p
}

func (p *typist) read() {
	b := make([]byte, 4096)
	for {
		n, err := p.master.Read(b)
		p.mu.Lock()
		p.shown.Write(b[:n])
		p.mu.Unlock()
		select {
		case p.came <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// sees waits for a text, and returns all that was shown up to it.
func (p *typist) sees(text string) string {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		p.mu.Lock()
		before, after, found := bytes.Cut(p.shown.Bytes(), []byte(text))
		if found {
			up := string(before)
			rest := bytes.Clone(after)
			p.shown.Reset()
			p.shown.Write(rest)
			p.mu.Unlock()
			return up
		}
		shown := p.shown.String()
		p.mu.Unlock()
		select {
		case <-p.came:
		case <-late:
			p.t.Fatalf("does not show %q but %q", text, shown)
		}
	}
}

// types types: a prompt is shown after the echo went off.
func (p *typist) types(text string) {
	p.t.Helper()
	if _, err := p.master.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the command's end, and checks that the terminal is as it was.
func (p *typist) ends(code int) {
	p.t.Helper()
	var ended *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &ended) {
		p.t.Fatal(err)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, not %d", got, code)
	}
	state, err := unix.IoctlGetTermios(int(p.side.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		p.t.Errorf("the terminal is left without echo (%v)", err)
	}
}

// withKeys is a folder with what scripts have, and a service's key in ./state.
func withKeys(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(writePolicies(dir), writeKeys(dir), os.Mkdir(filepath.Join(dir, "state"), 0o700),
		os.Rename(filepath.Join(dir, "keys"), filepath.Join(dir, "state", "broker"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A prompt ends as people expect: by Ctrl-C, Ctrl-D and SIGTERM.
func TestPromptsEnd(t *testing.T) {
	t.Parallel()
	dir := withKeys(t)
	backup := []string{"keys", "backup", "-o", "out", "--state", "state"}
	made := exec.Command("passclave", "enroll", "http://127.0.0.1:1", "--policy", "policy.json")
	made.Dir, made.Env = dir, append(os.Environ(), "PASSCLAVE_HOME="+filepath.Join(dir, "profiles"))
	made.Run() // nobody answers there, but the profile is made
	pin := []string{"join", "--policy", "weaker.json"}
	for name, c := range map[string]struct {
		args   []string
		prompt string
		end    func(*typist)
		code   int
	}{
		"a secret, Ctrl-C":    {backup, "passphrase of the backup: ", func(p *typist) { p.types("half\x03") }, 130},
		"a secret, Ctrl-D":    {backup, "passphrase of the backup: ", func(p *typist) { p.types("\x04") }, 1},
		"a secret, SIGTERM":   {backup, "passphrase of the backup: ", func(p *typist) { p.cmd.Process.Signal(syscall.SIGTERM) }, 143},
		"a question, Ctrl-C":  {append(pin, "--profile", "c"), "[y/N] ", func(p *typist) { p.types("\x03") }, 130},
		"a question, Ctrl-D":  {append(pin, "--profile", "d"), "[y/N] ", func(p *typist) { p.types("\x04") }, 1},
		"a question, SIGTERM": {append(pin, "--profile", "t"), "[y/N] ", func(p *typist) { p.cmd.Process.Signal(syscall.SIGTERM) }, 143},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.args[0] == "join" { // each its own profile: one command at a time uses one
				home := filepath.Join(dir, "profiles")
				if err := os.CopyFS(filepath.Join(home, c.args[len(c.args)-1]), os.DirFS(filepath.Join(home, "default"))); err != nil {
					t.Fatal(err)
				}
			}
			p := atTerminal(t, dir, c.args...)
			p.sees(c.prompt)
			c.end(p)
			p.ends(c.code)
		})
	}
}

// A trivial secret is refused before it is typed again, and another one asked for.
func TestNewSecretAtTerminal(t *testing.T) {
	t.Parallel()
	dir := withKeys(t)
	p := atTerminal(t, dir, "keys", "backup", "-o", "out", "--state", "state")
	p.sees(passphraseRule)
	p.sees("of the backup: ")
	p.types("short\n")
	if said := p.sees("of the backup: "); !strings.Contains(said, file.ErrWeakPassphrase.Error()) || strings.Contains(said, "Again") {
		t.Errorf("says %q", said)
	}
	p.types("a long passphrase\n")
	p.sees("Again: ")
	p.types("another passphrase\n")
	p.sees("They differ.")
	p.sees("of the backup: ")
	p.types("a long passphrase\n")
	p.sees("Again: ")
	p.types("a long passphrase\n")
	if said := p.sees("under your passphrase"); strings.Contains(said, "a long") {
		t.Errorf("the secret is shown: %q", said)
	}
	p.ends(0)
}
