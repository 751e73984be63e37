//go:build unix

package client

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What a save that was killed left behind holds keys: the next opening removes it.
func TestFileStorageRemovesScraps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"profile.new-123", "records.new-9", "profile"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("keys"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenFileStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 { // profile and lock
		t.Errorf("%v, %v", files, err)
	}
	if b, err := s.Load(t.Context(), ItemProfile); err != nil || string(b) != "keys" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFileStorage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "profile")
	s, err := OpenFileStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), ItemProfile); !errors.Is(err, ErrNoProfile) {
		t.Errorf("empty: %v", err)
	}
	for _, v := range []string{"one", "two"} {
		if err := s.Save(t.Context(), ItemProfile, []byte(v)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Load(t.Context(), ItemProfile); err != nil || string(got) != v {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for name, want := range map[string]os.FileMode{".": 0o700, "profile": 0o600, "lock": 0o600} {
		i, err := os.Stat(filepath.Join(dir, name))
		if err != nil || i.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, i.Mode(), err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	if _, err := OpenFileStorage(dir); !errors.Is(err, ErrProfileInUse) {
		t.Errorf("a second process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenFileStorage(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	// A failed write leaves the old value and nothing else.
	if os.Getuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if err := again.Save(t.Context(), ItemProfile, []byte("three")); err == nil {
			t.Error("saved into a folder that cannot be written")
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := again.Load(t.Context(), ItemProfile); err != nil || string(got) != "two" {
		t.Errorf("got %q, %v", got, err)
	}
}
