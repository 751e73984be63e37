package stack

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// command is what a part runs, with the state folder as its working directory.
type command struct {
	dir  string
	path string
	args []string
	env  []string // beyond what every part gets
}

// Restarts wait this long, twice as long each time, until a part has run for a while.
const (
	firstWait   = 200 * time.Millisecond
	longestWait = 5 * time.Second
	settled     = 10 * time.Second
	stopGrace   = 5 * time.Second
)

// process keeps one part running until it is stopped.
type process struct {
	part    Part
	spawner *spawner
	log     *logger
	command func() command
	quit    chan struct{} // closed by stop
	done    chan struct{} // closed when the loop ended

	mu      sync.Mutex
	cmd     *exec.Cmd     // the running one, or nil
	ready   uint64        // how often it got ready
	ended   uint64        // how often it ended
	last    string        // last log line
	changed chan struct{} // closed and replaced when one of the above changes
	stopped bool
}

func newProcess(part Part, sp *spawner, log *logger, c func() command) *process {
	p := &process{part: part, spawner: sp, log: log, command: c,
		quit: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{})}
	go p.run()
	return p
}

// run starts the part again and again.
func (p *process) run() {
	defer close(p.done)
	wait := firstWait
	for {
		began := time.Now()
		state := p.once()
		p.update(func() { p.cmd = nil; p.ended++ })
		if time.Since(began) > settled {
			wait = firstWait
		}
		select {
		case <-p.quit:
			return
		default:
		}
		p.log.say(p.part, "ended ("+state+"); again in "+wait.String())
		select {
		case <-p.quit:
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longestWait)
	}
}

// once runs the part to its end and says how it ended.
func (p *process) once() string {
	c := p.command()
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(environment(), c.env...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err.Error()
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err.Error()
	}
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		return "stopped"
	}
	err = p.spawner.start(cmd)
	if err == nil {
		p.cmd = cmd
	}
	p.mu.Unlock()
	if err != nil {
		p.update(func() { p.last = err.Error() })
		return err.Error()
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		p.lines(stdout, func(line string) {
			if strings.HasPrefix(line, "ready ") {
				p.update(func() { p.ready++ })
				return
			}
			p.log.line(p.part, line)
		})
	})
	readers.Go(func() {
		p.lines(stderr, func(line string) {
			p.update(func() { p.last = line })
			p.log.line(p.part, line)
		})
	})
	readers.Wait()
	if err := cmd.Wait(); err != nil {
		return err.Error()
	}
	return "exit status 0"
}

func (p *process) lines(r io.Reader, line func(string)) {
	b := bufio.NewScanner(r)
	b.Buffer(nil, 1<<20)
	for b.Scan() {
		line(b.Text())
	}
	io.Copy(io.Discard, r) // a line past the bound ends the scan, not the part
}

// update changes what mu guards and wakes who waits.
func (p *process) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when ok, called under mu, holds.
func (p *process) wait(ctx context.Context, ok func() bool) error {
	for {
		p.mu.Lock()
		done, changed := ok(), p.changed
		p.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// waitFirst returns when the part is ready for the first time; its end is an error.
func (p *process) waitFirst(ctx context.Context) error {
	if err := p.wait(ctx, func() bool { return p.ready > 0 || p.ended > 0 }); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready == 0 {
		return &PartError{p.part, readable(p.last)}
	}
	return nil
}

// again ends the part and waits until it is ready again.
func (p *process) again(ctx context.Context, signal unix.Signal) error {
	p.mu.Lock()
	ready := p.ready
	p.signal(signal)
	p.mu.Unlock()
	return p.wait(ctx, func() bool { return p.ready > ready })
}

// signal is called with mu held.
func (p *process) signal(s unix.Signal) {
	if p.cmd != nil {
		unix.Kill(-p.cmd.Process.Pid, s) // its whole group; it may have ended just now
	}
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) lastLine() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return readable(p.last)
}

// stop ends the part for good.
func (p *process) stop() {
	p.mu.Lock()
	if !p.stopped {
		p.stopped = true
		close(p.quit)
	}
	p.signal(unix.SIGTERM)
	p.mu.Unlock()
	select {
	case <-p.done:
		return
	case <-time.After(stopGrace):
	}
	p.log.say(p.part, "does not end: killed")
	p.mu.Lock()
	p.signal(unix.SIGKILL)
	p.mu.Unlock()
	<-p.done
}
