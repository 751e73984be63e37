// Package secret keeps secrets out of swap, core dumps and stale memory as far as
// Go allows it.
//
// Long-lived secrets (KEKs, the boot key) lie in one [Arena]: locked, left out of
// core dumps. Transient ones run inside [Do]. Go's heap as such is not locked:
// HPKE private keys and what lives for one request lie there; docs/threat-model.md
// names all of it.
package secret

import (
	"fmt"
	"sync"

	allthreads "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Arena is a fixed piece of locked memory outside Go's heap. Nothing in it is ever freed.
type Arena struct {
	mu   sync.Mutex
	free []byte
}

// NewArena maps size bytes that are locked in memory and left out of core dumps.
func NewArena(size int) (*Arena, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mapping the secrets' arena: %w", err)
	}
	if err := unix.Mlock(b); err != nil {
		return nil, fmt.Errorf("locking the secrets' arena: %w", err)
	}
	if err := unix.Madvise(b, unix.MADV_DONTDUMP); err != nil {
		return nil, fmt.Errorf("leaving the secrets' arena out of core dumps: %w", err)
	}
	return &Arena{free: b}, nil
}

// Hold copies s into the arena, clears s, and returns the copy.
func (a *Arena) Hold(s []byte) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(s) > len(a.free) {
		return nil, fmt.Errorf("the secrets' arena is full")
	}
	held := a.free[:len(s):len(s)]
	a.free = a.free[len(s):]
	copy(held, s)
	clear(s)
	return held, nil
}

// Harden takes from the process what it never needs: core files, new privileges by
// execve (on all threads), and, unless dumpable, being traced or looked into through
// /proc by its own user.
func Harden(dumpable bool) error {
	if !dumpable {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
		}
	}
	// Privileges are a thread's, and Go has started several by now.
	if err := allthreads.AllThreadsPrctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_NO_NEW_PRIVS: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("RLIMIT_CORE: %w", err)
	}
	return nil
}
