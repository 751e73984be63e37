//go:build unix && !linux

package stack

import "syscall"

// attributes: without Linux's death signal, parts outlive this process when it is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
