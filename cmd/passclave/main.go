// Command passclave is everything a person types: passkeys, devices and PIN,
// checking the service, and running one.
//
// Commands print for people on stdout, or one JSON document with --json; questions,
// progress and warnings go to stderr. How a command ended is its exit code, see
// [exitCode]; scripts compare that, or the "code" of the JSON error, never a text.
// Secrets come from a prompt without echo or from a file descriptor (--pin-fd,
// --code-fd), never from an argument or the environment.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(mainCode()) }

// mainCode is main up to its exit code.
func mainCode() int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// untilSignal returns a context that ends, with an [interruption] as its cause, at the
// first Ctrl-C or SIGTERM. Later ones change nothing: what runs is stopped in order.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	came := make(chan os.Signal, 1)
	signal.Notify(came, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-came:
			cancel(&interruption{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(came)
		cancel(nil)
	}
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin *os.File, stdout io.Writer, stderr *os.File) int {
	return newApp(stdin, stdout, stderr).run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := interrupted(ctx, root.ExecuteContext(ctx))
	if err == nil {
		err = a.wrongHelp
	}
	if errors.Is(err, errReported) {
		return a.exit
	}
	if err != nil {
		a.fail(err)
	}
	return exitCode(err)
}
