package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/term"
)

// app is one run of the command line: what the flags said, and where to print.
type app struct {
	stdin    *os.File
	stdout   io.Writer
	stderr   *os.File
	terminal bool // stderr is one: progress and colours are welcome

	// Flags of all commands.
	profile string
	json    bool

	// Flags of some commands.
	pinFD, codeFD descriptor
	passphraseFD  descriptor // of a backup
	user          string     // at the development issuer
	noBrowser     bool
	yes           bool

	loginWithin time.Duration    // the constant, but for tests
	makers      makers           // the real ones, but for tests
	now         func() time.Time // the clock, but for tests
	progress    *progress        // nil where nothing is under way
	exit        int              // with errReported
	wrongHelp   error            // help was asked for a command that is not there
}

func newApp(stdin *os.File, stdout io.Writer, stderr *os.File) *app {
	files := map[int]*os.File{}
	return &app{
		stdin: stdin, stdout: stdout, stderr: stderr, terminal: term.IsTerminal(int(stderr.Fd())),
		pinFD: descriptor{files: files}, codeFD: descriptor{files: files}, passphraseFD: descriptor{files: files}, loginWithin: loginWithin,
		makers: realMakers(), now: time.Now,
	}
}

// fail prints an error: JSON on stdout with --json, else a sentence on stderr.
func (a *app) fail(err error) {
	a.progress.stop()
	if a.json {
		a.printJSON(struct {
			Error jsonError `json:"error"`
		}{toJSON(err)})
		return
	}
	fmt.Fprintln(a.stderr, "passclave: "+printableLines(explain(err)))
}

// print prints v as JSON with --json, and otherwise what human writes.
func (a *app) print(v any, human func(w io.Writer)) error {
	a.progress.stop()
	if a.json {
		return a.printJSON(v)
	}
	human(a.stdout)
	return nil
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// warn prints lines for people on stderr, harmless whoever their text comes from.
func (a *app) warn(format string, args ...any) {
	a.progress.pause()
	fmt.Fprintln(a.stderr, printableLines(fmt.Sprintf(format, args...)))
}

// defaultProfile is what --profile means where it is not given.
const defaultProfile = "default"

var profileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// profilesFolder is where profiles live: $PASSCLAVE_HOME, else
// $XDG_CONFIG_HOME/passclave, else ~/.config/passclave.
func profilesFolder() (string, error) {
	if home := os.Getenv("PASSCLAVE_HOME"); home != "" {
		return home, nil
	}
	config, err := os.UserConfigDir()
	return filepath.Join(config, "passclave"), err
}

// profileFolder is where the chosen profile lives, in [profilesFolder].
func (a *app) profileFolder() (string, error) {
	if !profileName.MatchString(a.profile) {
		return "", usagef("--profile %q: a name has 1 to 64 letters, digits and . _ -", a.profile)
	}
	home, err := profilesFolder()
	if err != nil {
		return "", fmt.Errorf("where profiles live: %w; set PASSCLAVE_HOME", err)
	}
	return filepath.Join(home, a.profile), nil
}
