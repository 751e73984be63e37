// Package demo tells the story of Passclave: a whole service in simulation in a
// temporary folder, used through the real command line and the real HTTP API, then
// attacked. Each step says what is shown, why it matters, and what must come of it;
// results are compared by exit code, by the code of a refusal and by values, never by
// text. The story fails at the first step that has not exactly its result.
//
// The package owns the temporary folder and every process it starts.
package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/passclave/passclave/development/evilhost"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/wire"
)

// Options say where the binaries are and where the story goes.
type Options struct {
	Bin   string    // folder of the binaries
	Out   io.Writer // the story
	Log   io.Writer // logs of all parts; nil discards them
	Color bool

	Ledger string // wire.BackendLocal (also where empty) or wire.BackendEndorsed, with more to tell
	Keys   string // stack.KeysFile (also where empty) or stack.KeysSoftHSM
}

// steps are those of the story that is told.
func (o *Options) steps() []step {
	if o.Ledger != wire.BackendEndorsed {
		return steps
	}
	// Two endorsers gone are the end of a genesis, and so of the story.
	all := slices.Clone(steps)
	last := len(endorsedSteps) - 1
	at := slices.IndexFunc(all, func(x step) bool { return x.name == rebuilt })
	return append(slices.Insert(all, at, endorsedSteps[:last]...), endorsedSteps[last])
}

// StepError is a step that had another result than it must have.
type StepError struct {
	Step int
	Name string
	Err  error
}

func (e *StepError) Error() string {
	return fmt.Sprintf("step %d (%s): %v", e.Step, e.Name, e.Err)
}

func (e *StepError) Unwrap() error { return e.Err }

// story is one telling.
type story struct {
	options Options
	dir     string // temporary: state/ and profiles/
	stack   *stack.Stack
	evil    *evilhost.Proxy
	endEvil func()
	step    int
	last    string // the command line shown last

	passkey    string // ID and credential ID of the first passkey
	credential string
	release    []byte // the KEK's release policy
}

// step is one act of the story.
type step struct {
	name string // what is shown
	why  string // why it matters
	run  func(*story, context.Context) error
}

// Run tells the story. [StepError]: a step had another result than it must have.
func Run(ctx context.Context, o Options) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "passclave-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.Ledger == wire.BackendEndorsed && os.Geteuid() == 0 {
		// Root's PostgreSQL runs as another user, who must be able to pass.
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	s := &story{options: o, dir: dir}
	defer s.down()
	fmt.Fprintf(o.Out, "Passclave, told step by step, in SIMULATION: no hardware protects what you see here.\n")
	steps := o.steps()
	for _, x := range steps {
		s.step++
		s.last = ""
		fmt.Fprintf(o.Out, "\n%s\n   %s\n", s.bold(fmt.Sprintf("%2d. %s", s.step, x.name)), x.why)
		if err := x.run(s, ctx); ctx.Err() != nil {
			return context.Cause(ctx) // whatever it did to the step
		} else if err != nil {
			return &StepError{s.step, x.name, err}
		}
	}
	took := time.Since(began)
	s.down()
	fmt.Fprintf(o.Out, "\nAll %d steps had exactly the result they must have, in %.1f s (%.1f s of CPU time).\n",
		len(steps), took.Seconds(), cpuTime().Seconds())
	return nil
}

// cpuTime is what this process and those that it waited for used.
func cpuTime() time.Duration {
	var all time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return all
}

func (s *story) bold(text string) string {
	if s.options.Color {
		return "\x1b[1m" + text + "\x1b[0m"
	}
	return text
}

// say tells what came of something.
func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.options.Out, "   → "+format+"\n", args...)
}

const evilSocket = "run/evil.sock"

// up starts the service with the lying proxy, honest so far, between host and enclave.
func (s *story) up(ctx context.Context) error {
	state := filepath.Join(s.dir, "state")
	if err := os.MkdirAll(filepath.Join(state, filepath.Dir(evilSocket)), 0o700); err != nil {
		return err
	}
	var err error
	// Paths of sockets are short: the temporary folder is.
	if s.evil, err = evilhost.Listen(filepath.Join(state, evilSocket), filepath.Join(state, "run/enclave.sock")); err != nil {
		return err
	}
	evilCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.evil.Serve(evilCtx) }()
	s.endEvil = func() { cancel(); <-ended }
	if s.stack != nil {
		return first(s.stack.StartParts(ctx, stack.Parts...), s.ready(ctx))
	}
	s.stack, err = stack.Start(ctx, stack.Options{
		Dir: state, Bin: s.options.Bin, Log: s.options.Log, HostDials: evilSocket,
		Founding: stack.Founding{Strict: true, AnyPorts: true, Ledger: s.options.Ledger, Keys: s.options.Keys},
	})
	if err != nil {
		return err
	}
	return s.ready(ctx)
}

func (s *story) ready(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return s.stack.WaitReady(wait)
}

// down stops everything.
func (s *story) down() {
	if s.stack != nil {
		s.stack.Stop()
		s.stack = nil
	}
	if s.endEvil != nil {
		s.endEvil()
		s.endEvil = nil
	}
}

// mismatch is a value that is not what it must be.
func mismatch(what string, got, want any) error {
	return fmt.Errorf("%s: got %v, must be %v", what, got, want)
}

func must[T comparable](what string, got, want T) error {
	if got != want {
		return mismatch(what, got, want)
	}
	return nil
}

// first returns the first error of several.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// decode reads a command's JSON.
func decode(out []byte, v any) error {
	if err := json.Unmarshal(out, v); err != nil {
		return fmt.Errorf("the command's JSON: %w", err)
	}
	return nil
}
