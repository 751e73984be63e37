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
	if _, err := s.Create(context.Background(), "kek", testPolicy, false); err != nil {
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
	s.Create(context.Background(), "kek", testPolicy, false)
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// While one process changes the file no other gets the lock.
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
	for _, format := range []int{1, 2} {
		if f, err := parse(edit(func(f *keyFile) { f.Format = format })); err != nil || f.Format != 2 {
			t.Fatal(err)
		}
	}
	for name, data := range map[string][]byte{
		"empty":        {},
		"truncated":    good[:len(good)/2],
		"trailing":     append(bytes.Clone(good), "{}"...),
		"other format": edit(func(f *keyFile) { f.Format = 3 }),
		"no keys":      edit(func(f *keyFile) { f.Keys = nil }),
		"no versions":  edit(func(f *keyFile) { f.Keys["kek"] = []key{} }),
		"short key":    edit(func(f *keyFile) { f.Keys["kek"][0].Key = make([]byte, 31) }),
		"bad name":     edit(func(f *keyFile) { f.Keys["a/b"] = f.Keys["kek"] }),
		"bad version":  edit(func(f *keyFile) { f.Keys["kek"][0].ID = "../x" }),
		"no policy":    edit(func(f *keyFile) { f.Keys["kek"][0].Policy = nil }),
		"order":        edit(func(f *keyFile) { f.Keys["kek"] = append(f.Keys["kek"], f.Keys["kek"][0]) }),
		"half immutable": edit(func(f *keyFile) {
			second := f.Keys["kek"][0]
			second.Created, second.Immutable = second.Created+1, true
			f.Keys["kek"] = append(f.Keys["kek"], second)
		}),
		"member twice":    bytes.Replace(good, []byte(`"format": 2,`), []byte(`"format": 2, "format": 2,`), 1),
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
