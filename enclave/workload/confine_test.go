//go:build !sgx

package workload

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Landlock cannot be taken back, so the test runs in a process of its own.
func TestConfine(t *testing.T) {
	if dir := os.Getenv("PASSCLAVE_TEST_CONFINED"); dir != "" {
		confined(t, dir)
		return
	}
	// landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1)
	if errno != 0 {
		version = 0
	}
	if got := kernelsLandlock(); got != int(version) {
		t.Errorf("the kernel's Landlock has version %d, not %d", version, got)
	}
	if errno != 0 {
		t.Skip("SKIPPED: this kernel has no Landlock")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	// As configfs-tsm has them; the kernel fills a new folder, the test has one ready.
	reports := filepath.Join(dir, "report", "ready")
	if err := os.MkdirAll(reports, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(reports, "inblob"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestConfine$")
	child.Env = append(os.Environ(), "PASSCLAVE_TEST_CONFINED="+dir)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// What a kernel leaves open is told.
func TestUnconfined(t *testing.T) {
	t.Parallel()
	for version, told := range map[int]bool{-1: true, 0: true, 1: true, landlockVersion - 1: true, landlockVersion: false, landlockVersion + 4: false} {
		if left := unconfined(version); (left != "") != told {
			t.Errorf("version %d: %q", version, left)
		}
	}
}

func confined(t *testing.T, dir string) {
	file := filepath.Join(dir, "file")
	if _, err := os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	reports := filepath.Join(dir, "report")
	inblob := filepath.Join(reports, "ready", "inblob")
	if err := confine(reports); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"read":                        func() error { _, err := os.ReadFile(file); return err },
		"write":                       func() error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o600) },
		"remove":                      func() error { return os.Remove(file) },
		"list":                        func() error { _, err := os.ReadDir("/"); return err },
		"place a file beside reports": func() error { return os.WriteFile(filepath.Join(reports, "new"), nil, 0o600) },
		"link a report":               func() error { return os.Symlink(file, filepath.Join(reports, "link")) },
		"remove a report's file":      func() error { return os.Remove(inblob) },
		"run":                         func() error { return exec.Command("/bin/true").Run() },
	} {
		if err := try(); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
	entry, err := os.MkdirTemp(reports, "entry-")
	if err == nil {
		err = os.Remove(entry)
	}
	if err != nil {
		t.Errorf("a report's folder: %v", err)
	}
	if err := os.WriteFile(inblob, []byte("data"), 0o220); err != nil {
		t.Errorf("a report's file: %v", err)
	}
	if data, err := os.ReadFile(inblob); err != nil || string(data) != "data" {
		t.Errorf("a report's file: %q, %v", data, err)
	}
	if _, err := os.ReadFile("/etc/hosts"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("names cannot be resolved: %v", err)
	}
}
