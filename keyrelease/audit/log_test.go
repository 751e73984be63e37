package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/statefile"
)

func open(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func record(n int) Record {
	return Record{Kind: KindRelease, Outcome: Done, Key: "kek", Version: fmt.Sprint(n)}
}

func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(record(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// written returns a folder whose log has n records and is closed.
func written(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir)
	fill(t, l, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// versions are what [fill] numbered, of all records that hold.
func versions(t testing.TB, dir string) ([]string, error) {
	t.Helper()
	var out []string
	_, beside, err := VerifyFile(dir, nil, nil, func(r *Record) error {
		out = append(out, r.Version)
		return nil
	})
	if beside == nil {
		t.Error("no head beside the log")
	}
	return out, err
}

func wantBreak(t testing.TB, err error, record uint64, check Check) {
	t.Helper()
	var b *BreakError
	if !errors.As(err, &b) || b.Record != record || b.Check != check {
		t.Errorf("got %v, want a break at record %d (%s)", err, record, check)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	key := l.PublicKey()
	fill(t, l, 3)
	if _, err := Open(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("a second writer: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(record(9)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	l = open(t, dir)
	if !l.PublicKey().Equal(key) || l.Removed() != 0 {
		t.Error("another key after a restart, or something was removed")
	}
	fill(t, l, 2)
	got, err := versions(t, dir)
	if err != nil || strings.Join(got, " ") != "0 1 2 0 1" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, name := range []string{FileName, HeadName, KeyName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	const writers, each = 16, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				if err := l.Append(record(w*each + n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := versions(t, dir)
	seen := map[string]bool{}
	for _, v := range got {
		seen[v] = true
	}
	if err != nil || len(got) != writers*each || len(seen) != writers*each {
		t.Errorf("%d records, %d different, %v", len(got), len(seen), err)
	}
}

// What strangers send cannot spoil the log's form.
func TestStrangeText(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	r := record(1)
	r.ClientRequest, r.Message, r.Key = "\xff\xfe<&>\u2028\n\x00\"", strings.Repeat("ä", maxText), strings.Repeat("\xf0\x9f\x98", 4*maxText)
	r.Evidence = &Evidence{Token: "\xc3"}
	for range 2 * maxClauses {
		r.Clauses = append(r.Clauses, "\x80"+strings.Repeat("x", 2*maxText))
	}
	if err := l.Append(r); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1)
	if _, err := versions(t, dir); err != nil {
		t.Error(err)
	}
}

// faults are a disk that fails.
type faults struct {
	disk
	write, sync, truncate error
}

func (f *faults) WriteAt(p []byte, offset int64) (int, error) {
	if f.write == nil {
		return f.disk.WriteAt(p, offset)
	}
	n, err := f.disk.WriteAt(p[:len(p)/2], offset) // half of it got there
	return n, errors.Join(f.write, err)
}

func (f *faults) Sync() error { return errors.Join(f.sync, f.disk.Sync()) }

func (f *faults) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.disk.Truncate(size)
}

// A full disk refuses what it cannot record, and goes on when there is space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := open(t, dir)
	fill(t, l, 1)
	f := &faults{disk: l.file, write: unix.ENOSPC}
	l.file = f
	for range 2 {
		if err := l.Append(record(7)); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
	}
	f.write = unix.EIO
	if err := l.Append(record(8)); err == nil || errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	f.write = nil
	fill(t, l, 1)
	if got, err := versions(t, dir); err != nil || strings.Join(got, " ") != "0 0" {
		t.Errorf("got %v, %v", got, err)
	}
}

// Where it is not known what the disk holds, nothing more is recorded: not even when it
// would work again.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	for name, faulty := range map[string]func(*Log) *faults{
		"sync": func(l *Log) *faults { f := &faults{disk: l.file, sync: unix.EIO}; l.file = f; return f },
		"truncate": func(l *Log) *faults {
			f := &faults{disk: l.file, write: unix.ENOSPC, truncate: unix.EIO}
			l.file = f
			return f
		},
		"head": func(l *Log) *faults { f := &faults{disk: l.head, write: unix.EIO}; l.head = f; return f },
		"head, synced": func(l *Log) *faults {
			f := &faults{disk: l.head, sync: unix.EIO}
			l.head = f
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := open(t, dir)
			fill(t, l, 2)
			f := faulty(l)
			if err := l.Append(record(7)); !errors.Is(err, ErrBroken) {
				t.Errorf("got %v", err)
			}
			f.write, f.sync, f.truncate = nil, nil, nil
			if err := l.Append(record(8)); !errors.Is(err, ErrBroken) {
				t.Errorf("afterwards: %v", err)
			}
			l.Close()
			if name == "head" {
				return // half a head: a person has to look
			}
			fill(t, open(t, dir), 1)
			got, err := versions(t, dir)
			if err != nil || len(got) < 3 || strings.Join(got[:2], " ") != "0 1" || got[len(got)-1] != "0" {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A crash may leave anything behind the last record that was synced, but nothing before.
func TestCrash(t *testing.T) {
	t.Parallel()
	full := written(t, 4)
	log := read(t, full, FileName)
	lines := bytes.SplitAfter(log, []byte("\n"))
	before := written(t, 0)
	head := headAt(t, full, 2) // as it stood when the crash came
	for name, c := range map[string]struct {
		left []byte
		want string
	}{
		"nothing":                       {nil, "0 1"},
		"half a record":                 {lines[2][:len(lines[2])/2], "0 1"},
		"all but the line feed":         {bytes.TrimSpace(lines[2]), "0 1"},
		"a record":                      {lines[2], "0 1 2"},
		"a record and a half":           {join(lines[2], lines[3][:9]), "0 1 2"},
		"two records":                   {join(lines[2], lines[3]), "0 1 2 3"},
		"zeros":                         {make([]byte, 700), "0 1"},
		"zeros, then a whole record":    {join(make([]byte, len(lines[2])-1), []byte("\n"), lines[3]), "0 1"},
		"a record that does not follow": {lines[3], "0 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			write(t, dir, KeyName, read(t, full, KeyName))
			write(t, dir, HeadName, head)
			write(t, dir, FileName, join(lines[0], lines[1], c.left))
			l := open(t, dir)
			if got, err := versions(t, dir); err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("got %v, %v", got, err)
			}
			kept := len(join(lines[:len(strings.Fields(c.want))]...))
			if want := int64(len(lines[0]) + len(lines[1]) + len(c.left) - kept); l.Removed() != want {
				t.Errorf("removed %d, want %d", l.Removed(), want)
			}
			fill(t, l, 1)
			if got, err := versions(t, dir); err != nil || strings.Join(got, " ") != c.want+" 0" {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// headAt is the head file as it was when the log had n records.
func headAt(t testing.TB, dir string, n uint64) []byte {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := Head{Digest: firstPrevious}
	for _, line := range bytes.SplitAfter(read(t, dir, FileName), []byte("\n"))[:n] {
		if _, err := follow(&h, bytes.TrimSpace(line), l.PublicKey()); err != nil {
			t.Fatal(err)
		}
	}
	b, err := encodeHead(h.sign(l.key, nil))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Somebody else's hands on the file end the log, while it runs and at the next start.
func TestChangedUnderTheBroker(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, dir string){
		"cut":      func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, FileName), 10)) },
		"appended": func(t *testing.T, dir string) { write(t, dir, FileName, append(read(t, dir, FileName), 'x')) },
		"removed":  func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, FileName))) },
		"swapped": func(t *testing.T, dir string) {
			same := read(t, dir, FileName)
			check(t, os.Remove(filepath.Join(dir, FileName)))
			write(t, dir, FileName, same)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := open(t, dir)
			fill(t, l, 2)
			change(t, dir)
			for range 2 {
				if err := l.Append(record(7)); !errors.Is(err, ErrChanged) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	other := written(t, 3)
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		want   error
	}{
		"the log is gone":  {func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, FileName))) }, ErrIncomplete},
		"the head is gone": {func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, HeadName))) }, ErrIncomplete},
		"the key is gone":  {func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, KeyName))) }, ErrIncomplete},
		"another's key":    {func(t *testing.T, dir string) { write(t, dir, KeyName, read(t, other, KeyName)) }, ErrHead},
		"another's head":   {func(t *testing.T, dir string) { write(t, dir, HeadName, read(t, other, HeadName)) }, ErrHead},
		"no head":          {func(t *testing.T, dir string) { write(t, dir, HeadName, make([]byte, headSize)) }, ErrHead},
		"another's log":    {func(t *testing.T, dir string) { write(t, dir, FileName, read(t, other, FileName)) }, &BreakError{}},
		"cut in a record": {func(t *testing.T, dir string) {
			log := read(t, dir, FileName)
			write(t, dir, FileName, log[:len(log)-1])
		}, &BreakError{}},
		"cut before a record": {func(t *testing.T, dir string) {
			write(t, dir, FileName, join(bytes.SplitAfter(read(t, dir, FileName), []byte("\n"))[:2]...))
		}, &BreakError{}},
		"the broker's own word in the last one's place": {func(t *testing.T, dir string) {
			key, err := statefile.ReadKey(filepath.Join(dir, KeyName))
			check(t, err)
			lines := bytes.SplitAfter(read(t, dir, FileName), []byte("\n"))
			lines[2] = forge(t, lines[2], key, func(r *Record) { r.Version = "7" })
			write(t, dir, FileName, join(lines...))
		}, &BreakError{}},
		"the last record changed": {func(t *testing.T, dir string) {
			log := read(t, dir, FileName)
			log[len(log)-40] ^= 1
			write(t, dir, FileName, log)
		}, &BreakError{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := written(t, 3)
			c.change(t, dir)
			before, _ := os.ReadFile(filepath.Join(dir, FileName))
			l, err := Open(dir)
			var b *BreakError
			if _, breaks := c.want.(*BreakError); err == nil || breaks && !errors.As(err, &b) || !breaks && !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				l.Close()
			}
			if after, _ := os.ReadFile(filepath.Join(dir, FileName)); !bytes.Equal(before, after) {
				t.Error("the log was changed")
			}
		})
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	l := open(t, t.TempDir())
	big := record(0)
	big.PolicyText = strings.Repeat("p", maxPage/3)
	for range 5 {
		check(t, l.Append(big))
	}
	nonce := bytes.Repeat([]byte{7}, 32)
	var all []byte
	for pages := 0; ; pages++ {
		lines, head, err := l.Page(int64(len(all)), nonce)
		check(t, err)
		if err := head.Verify(); err != nil || !bytes.Equal(head.Nonce, nonce) || head.Sequence != 5 {
			t.Errorf("head %+v, %v", head, err)
		}
		if all = append(all, lines...); len(lines) == 0 {
			if pages < 2 {
				t.Errorf("all in %d pages", pages)
			}
			v, err := Verify(bytes.NewReader(all), l.PublicKey(), []Head{*head}, func(*Record) error { return nil })
			if err != nil || v.Head.Sequence != 5 || v.Unfinished > 0 {
				t.Errorf("got %+v, %v", v, err)
			}
			return
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, b.TempDir())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Append(record(1)); err != nil {
				b.Error(err)
			}
		}
	})
}
