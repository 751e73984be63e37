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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, stdin *os.File, stdout io.Writer, stderr *os.File) int {
	a := newApp(stdin, stdout, stderr)
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if errors.Is(err, errReported) {
		return a.exit
	}
	if err != nil {
		a.fail(err)
	}
	return exitCode(err)
}
