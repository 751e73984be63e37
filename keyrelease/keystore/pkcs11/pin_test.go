package pkcs11

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadPIN(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", maxPIN)
	for name, c := range map[string]struct {
		content string
		mode    fs.FileMode
		want    string // empty: refused
	}{
		"line":             {"12345678\n", 0o600, "12345678"},
		"no end of line":   {"1234 5678", 0o600, "1234 5678"},
		"line of Windows":  {"12345678\r\n", 0o400, "12345678"},
		"longest":          {long + "\n", 0o600, long},
		"too long":         {long + "1\n", 0o600, ""},
		"endless":          {strings.Repeat("1", 1<<16), 0o600, ""},
		"empty":            {"", 0o600, ""},
		"empty line":       {"\n", 0o600, ""},
		"two lines":        {"1234\n5678\n", 0o600, ""},
		"a zero byte":      {"1234\x005678", 0o600, ""},
		"read by a group":  {"12345678", 0o640, ""},
		"read by everyone": {"12345678", 0o604, ""},
	} {
		path := filepath.Join(t.TempDir(), "pin")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPIN(path)
		if (err == nil) != (c.want != "") || got.text != c.want || err != nil && !errors.Is(err, ErrPINFile) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "1234") {
			t.Errorf("%s: the error shows it: %v", name, err)
		}
	}
	if _, err := ReadPIN(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrPINFile) || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.WriteString("from a pipe\n")
	w.Close()
	if got, err := ReadPIN(fmt.Sprintf("/dev/fd/%d", r.Fd())); err != nil || got.text != "from a pipe" {
		t.Error(err)
	}
}

func TestPINDoesNotPrint(t *testing.T) {
	t.Parallel()
	p := PIN{"the secret"}
	c := Config{PIN: p}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "pin", p, "config", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "pin", p, "config", c)
	if text := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", p, p, p, p, c, c, c) + log.String(); strings.Contains(text, "secret") {
		t.Error(text)
	}
}
