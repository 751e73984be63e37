package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time that a process has used so far, in user and kernel mode,
// all its threads: the kernel's account of it, to the nanosecond
// (clock_getcpuclockid(3); /proc/PID/stat has the same in ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|scheduler, &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}

// ownCPU is cpuTime of this process.
func ownCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err) // the clock is there on every Linux
	}
	return time.Duration(t.Nano())
}

// own measures what one of n calls of f costs this process, in microseconds.
func own(n int, f func()) float64 {
	before := ownCPU()
	for range n {
		f()
	}
	return microseconds(ownCPU()-before) / float64(n)
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
