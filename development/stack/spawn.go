package stack

import (
	"os"
	"os/exec"
	"runtime"
)

// spawner starts all processes from one thread that lives as long as they do: the
// kernel ties a child's death signal to the thread that made it, not to the process.
type spawner struct {
	requests chan spawn
}

type spawn struct {
	cmd    *exec.Cmd
	result chan error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan spawn)}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for r := range s.requests {
			r.result <- r.cmd.Start()
		}
	}()
	return s
}

// start starts cmd in a process group of its own, so that a terminal's Ctrl-C
// reaches this process alone, and so that it dies with this process.
func (s *spawner) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = attributes()
	r := spawn{cmd, make(chan error, 1)}
	s.requests <- r
	return <-r.result
}

// close ends the thread; all processes must have ended.
func (s *spawner) close() { close(s.requests) }

// environment is all that parts get of this process's environment; the last two
// matter to binaries built with the race detector, or for coverage.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GORACE", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
