package e2e

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/client"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/host/store"
	"github.com/passclave/passclave/host/store/sqlite"
	"github.com/passclave/passclave/ledger"
	"github.com/passclave/passclave/wire"
)

// smallDisk is a file system of a few pages, where the test may make one.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("a full disk needs a disk of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full disk refuses changes by their code, loses nothing, gives no guess away, and
// is over when there is space again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	s := newService(t, options{folder: filepath.Join(disk, "host")})
	laptop := s.enrolled("alice")
	made, err := laptop.Create(t.Context(), site("before"))
	if err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	f.Close()
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	acknowledged := uint64(1)
	for err = nil; err == nil && acknowledged < 100; {
		if _, err = laptop.Create(t.Context(), site("until it is full")); err == nil {
			acknowledged++
		}
	}
	wantCode(t, err, wire.CodeStorageFull)
	if err := laptop.PINSet(t.Context(), newPIN); wire.CodeOf(err) != wire.CodeStorageFull {
		t.Fatal(err)
	}
	_, err = s.newDevice("alice").Join(t.Context(), "thief", wrongPIN)
	wantCode(t, err, wire.CodeStorageFull) // not judged: it could not be counted
	if _, err := laptop.Assert(t.Context(), client.AssertRequest{Handle: made.Handle}); err != nil {
		t.Fatal("signing needs no space: ", err)
	}
	answer, err := http.Get(s.url + "/readyz")
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable {
		t.Fatal("ready with a full disk", err)
	}
	answer.Body.Close()

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.Create(t.Context(), site("after")); err != nil {
		t.Fatal(err)
	}
	laptop.sync()
	if l, err := laptop.List(t.Context()); err != nil || uint64(len(l.Passkeys)) != acknowledged+1 {
		t.Fatalf("%d passkeys, %d were acknowledged: %v", len(l.Passkeys), acknowledged+1, err)
	}
	if n := laptop.counted()[ledger.KindReserve]; n != 0 {
		t.Fatalf("%d attempts", n)
	}
	s.joined("alice", "phone", pin)
	s.whole(1)
}

// An enclave without the KEK, or with another one, opens nothing, says which, and
// damages nothing.
func TestOtherKEK(t *testing.T) {
	t.Parallel()
	s := newService(t, options{})
	laptop := s.enrolled("alice")
	right := s.keks

	s.keks = nil
	s.restart()
	_, err := laptop.Sync(t.Context())
	wantCode(t, err, wire.CodeUnsealedAnswer)
	var host *client.HostError
	if !errors.As(err, &host) || host.Hint != wire.CodeSealed {
		t.Fatalf("without a KEK: %v", err)
	}

	s.keks = []enclave.KEK{newKEK("v1")}
	s.restart()
	_, err = laptop.Sync(t.Context())
	wantCode(t, err, wire.CodeEntry) // the ledger's keys are not those that the device pinned
	_, err = s.newDevice("alice").Join(t.Context(), "phone", pin)
	wantCode(t, err, wire.CodeEntry) // nor those that signed the account's entries
	_, err = s.newDevice("alice").Enrol(t.Context(), "phone", pin)
	wantCode(t, err, wire.CodeEntry)

	// A successor beside the right one is welcome.
	s.keks = append(right, newKEK("v2"))
	s.restart()
	laptop.sync()
	s.joined("alice", "phone", pin)
	s.whole(1)
}

// One process uses a folder, and a folder without its KEK is refused, with the reason.
func TestFolder(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	laptop := s.enrolled("alice")
	o := stack.Options{Dir: s.dir, Bin: bin(t), Log: s.log}
	if _, err := stack.Start(t.Context(), o); !errors.Is(err, stack.ErrInUse) {
		t.Fatalf("a second stack: %v", err)
	}
	if _, err := sqlite.Open(s.folder); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("the database: %v", err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin(t), "passclave-host"),
		"-state", s.folder, "-enclave", "unix:"+s.stack.EnclaveSocket(), "-listen", "127.0.0.1:0").Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || len(out) != 0 {
		t.Fatalf("a second host: %v, %q", err, out)
	}
	laptop.sync()
	s.stack.Stop()

	keys := filepath.Join(s.dir, "broker/keys.json")
	content, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(keys); err != nil {
		t.Fatal(err)
	}
	var refused *stack.RefusedError
	if _, err := stack.Start(t.Context(), o); !errors.As(err, &refused) {
		t.Fatalf("without the KEK: %v", err)
	}
	if err := os.WriteFile(keys, content, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := stack.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.stack = again
	t.Cleanup(again.Stop)
	s.ready()
	laptop.sync()
	s.whole(1)
}
