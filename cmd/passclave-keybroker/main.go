// Command passclave-keybroker is the key service for those without Azure: it
// verifies evidence, evaluates release policies and hands out wrapped keys, in
// Azure's wire format. See docs/keyrelease.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: passclave-keybroker -state DIR KEYS -tls-cert FILE -tls-key FILE -key NAME [flags]
       passclave-keybroker rotate     -state DIR KEYS -key NAME [-policy FILE]
       passclave-keybroker versions   -state DIR KEYS -key NAME
       passclave-keybroker set-policy -state DIR KEYS -key NAME -policy FILE
       passclave-keybroker init-token -pkcs11-module FILE -pkcs11-token LABEL -pkcs11-pin-file FILE -so-pin-file FILE

Serves attestation and key release. KEYS say which HSM has the keys:
-pkcs11-module FILE -pkcs11-token LABEL -pkcs11-pin-file FILE. Without them they lie in a file,
for DEVELOPMENT ONLY. Commands beside a broker that runs, on its folder, are seen by it at once.
`

// commands are what the first argument may name, instead of serving.
var commands = map[string]func(ctx context.Context, args []string, log *slog.Logger, stdout, stderr io.Writer) error{
	"rotate": rotate, "versions": versions, "set-policy": setPolicy, "init-token": initToken,
}

// Exit codes: 0 stopped by a signal, 1 failed, 2 wrong use.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// errUse is returned for wrong flags, which have been explained already.
var errUse = errors.New("wrong use")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	command := serve
	if len(args) > 0 && commands[args[0]] != nil {
		command, args = commands[args[0]], args[1:]
	}
	err := command(ctx, args, log, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUse):
		return 2
	}
	log.Error("stopped", "error", err)
	return 1
}

// flags returns a flag set that prints to stderr and never exits.
func flags(stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("passclave-keybroker", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	return f
}

// parse reads args and demands the flags named.
func parse(f *flag.FlagSet, args []string, stderr io.Writer, required ...string) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUse
	}
	for _, name := range required {
		if f.Lookup(name).Value.String() == "" {
			fmt.Fprintf(stderr, "passclave-keybroker: -%s is required\n", name)
			return errUse
		}
	}
	if f.NArg() > 0 {
		fmt.Fprintf(stderr, "passclave-keybroker: unexpected argument %q\n", f.Arg(0))
		return errUse
	}
	return nil
}
