package file

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/keyrelease/releasetest"
)

var testPolicy = releasepolicy.Require("https://authority.test", map[string]any{"claim": "a"})

func TestConformance(t *testing.T) {
	t.Parallel()
	var dirs sync.Map
	releasetest.TestStore(t, func(t *testing.T) keystore.Store {
		dir, _ := dirs.LoadOrStore(t.Name(), t.TempDir())
		s, err := Open(dir.(string))
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func newStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(context.Background(), "kek", testPolicy); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFileMode(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	info, err := os.Stat(s.path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if err := os.Chmod(s.path(), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.dir); !errors.Is(err, ErrMode) {
		t.Errorf("open: got %v, want ErrMode", err)
	}
	if _, err := s.Versions(context.Background(), "kek"); !errors.Is(err, ErrMode) {
		t.Errorf("list: got %v, want ErrMode", err)
	}
}

// Nothing is left beside the key file and its lock, also when a change fails.
func TestNoLeftovers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.Create(context.Background(), "kek", testPolicy)
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// While one process changes the file no other gets the lock.
// All versions of a key get the other policy, keys stay, and nothing else changes.
func TestSetPolicy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	policy := func(value string) []byte {
		return releasepolicy.Require("https://127.0.0.1:1", map[string]any{"claim": value})
	}
	if err := s.SetPolicy(ctx, "kek", policy("b")); !errors.Is(err, keystore.ErrNotFound) {
		t.Fatal(err)
	}
	for _, name := range []string{"kek", "other"} {
		if _, err := s.Create(ctx, name, policy("a")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Rotate(ctx, "kek", policy("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPolicy(ctx, "kek", []byte("{}")); !errors.Is(err, keystore.ErrPolicy) {
		t.Fatal(err)
	}
	before, _ := s.Versions(ctx, "kek")
	if err := s.SetPolicy(ctx, "kek", policy("b")); err != nil {
		t.Fatal(err)
	}
	after, _ := s.Versions(ctx, "kek")
	for i, v := range after {
		if string(before[i].Policy) != string(policy("a")) || string(v.Policy) != string(policy("b")) || v.ID != before[i].ID {
			t.Errorf("version %d: %+v, %+v", i, before[i], v)
		}
	}
	if other, _ := s.Versions(ctx, "other"); string(other[0].Policy) != string(policy("a")) {
		t.Error("another key's policy changed")
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	err := s.change(func(*keyFile) error {
		lock, err := os.OpenFile(s.path()+".lock", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("got %v, want EWOULDBLOCK", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCorrupt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	good, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(*keyFile)) []byte {
		k, err := parse(good)
		if err != nil {
			t.Fatal(err)
		}
		f(k)
		b, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := parse(edit(func(*keyFile) {})); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty":           {},
		"truncated":       good[:len(good)/2],
		"trailing":        append(bytes.Clone(good), "{}"...),
		"other format":    edit(func(f *keyFile) { f.Format = 2 }),
		"no keys":         edit(func(f *keyFile) { f.Keys = nil }),
		"no versions":     edit(func(f *keyFile) { f.Keys["kek"] = []key{} }),
		"short key":       edit(func(f *keyFile) { f.Keys["kek"][0].Key = make([]byte, 31) }),
		"bad name":        edit(func(f *keyFile) { f.Keys["a/b"] = f.Keys["kek"] }),
		"bad version":     edit(func(f *keyFile) { f.Keys["kek"][0].ID = "../x" }),
		"no policy":       edit(func(f *keyFile) { f.Keys["kek"][0].Policy = nil }),
		"order":           edit(func(f *keyFile) { f.Keys["kek"] = append(f.Keys["kek"], f.Keys["kek"][0]) }),
		"member twice":    bytes.Replace(good, []byte(`"format": 1,`), []byte(`"format": 1, "format": 1,`), 1),
		"a member's case": bytes.Replace(good, []byte(`"format"`), []byte(`"Format"`), 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, FileName), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"notice":"","keys":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := parse(data); err != nil && err != ErrCorrupt {
			t.Fatal(err)
		}
	})
}
