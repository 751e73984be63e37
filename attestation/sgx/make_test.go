package sgx_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// `make sgx` says what it needs where EGo's toolchain is absent, broken or too old, and
// never falls back to another.
func TestMakeSGX(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version string // what ego-go says; empty: there is none
		fails   bool
	}{
		"absent":    {"", true},
		"too old":   {"go1.25.6", true},
		"too old 0": {"go0.99", true},
		"no Go":     {"devel", true},
		"enough":    {"go1.26", false},
		"newer":     {"go1.27rc1", false},
		"EGo's":     {"go1.26.1-ego", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ego := filepath.Join(dir, "ego-go")
			if c.version != "" {
				// Says its version, and writes down with what it was asked to build.
				script := "#!/bin/sh\nif [ \"$1\" = env ]; then echo " + c.version + "; else echo \"$GOTOOLCHAIN $CGO_ENABLED $*\" > " + dir + "/built; fi\n"
				if err := os.WriteFile(ego, []byte(script), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			run := exec.CommandContext(t.Context(), "build/sgx", filepath.Join(dir, "out"))
			run.Dir = "../.."
			run.Env = append(os.Environ(), "EGO_GO="+ego)
			out, err := run.CombinedOutput()
			built, readErr := os.ReadFile(filepath.Join(dir, "built"))
			var exit *exec.ExitError
			switch {
			case c.fails:
				if !errors.As(err, &exit) || !strings.Contains(string(out), "needs an ego-go with Go 1.26 or newer") || readErr == nil {
					t.Errorf("%v, built %q: %s", err, built, out)
				}
			case err != nil || !strings.HasPrefix(string(built), "local 1 build ") || !strings.Contains(string(built), "-tags sgx"):
				t.Errorf("%v, built %q: %s", err, built, out)
			}
		})
	}
}
