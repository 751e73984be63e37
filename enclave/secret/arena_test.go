package secret_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/enclave/secret"
)

// What Harden takes cannot be had back, so the test runs in a process of its own.
func TestHarden(t *testing.T) {
	if os.Getenv("PASSCLAVE_TEST_HARDENED") != "" {
		hardened(t)
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestHarden$")
	child.Env = append(os.Environ(), "PASSCLAVE_TEST_HARDENED=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func hardened(t *testing.T) {
	const others = 4
	started, end := make(chan bool), make(chan bool)
	defer close(end)
	for range others {
		go func() {
			runtime.LockOSThread() // a thread of its own, there before Harden
			started <- true
			<-end
		}()
	}
	for range others {
		<-started
	}
	if err := secret.Harden(false); err != nil {
		t.Fatal(err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core files of %d, %d bytes, %v", core.Cur, core.Max, err)
	}
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) <= others {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, thread := range threads {
		if status, err := os.ReadFile(thread); err != nil || !bytes.Contains(status, []byte("NoNewPrivs:\t1\n")) {
			t.Errorf("%s may get new privileges, %v", thread, err)
		}
	}
}
