//go:build unix && !linux

package postgres

import "syscall"

// attributes: without Linux's death signal, the server outlives this process when it is killed.
func attributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: as}
}

func stayOnThread() (done func()) { return func() {} }

// childrenOf: PostgreSQL's processes end by themselves when the first of them is gone.
func childrenOf(int) []int { return nil }
