// Command passclave-simtee is the simulated TEE: it holds the keys of a simulated
// root, measures whoever asks for a report, and signs it in the real format of SEV-SNP,
// TDX or SGX.
// SIMULATION: its evidence protects nothing. See docs/attestation.md.
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
	"slices"
	"syscall"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/machine"
)

const usage = `usage: passclave-simtee [-platform NAME] -state DIR -socket PATH -host-data FILE
       passclave-simtee root [-platform NAME] -state DIR
       passclave-simtee measure [-platform NAME] FILE

SIMULATION of a TEE. The first form serves reports; "root" makes the keys where
there are none and prints the path of the root certificate that verifiers have to
trust by name; "measure" prints the measurement of a binary in hex. The platform is
sev-snp, tdx or sgx.
`

// Exit codes: 0 stopped by a signal, 1 failed, 2 wrong use.
func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// errUse is returned for wrong use, which has been explained already.
var errUse = errors.New("wrong use")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	command := serve
	if len(args) > 0 {
		switch args[0] {
		case "root":
			command, args = root, args[1:]
		case "measure":
			command, args = measure, args[1:]
		}
	}
	err := command(ctx, args, log, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUse):
		return 2
	}
	log.Error("stopped", "error", err)
	return 1
}

// parse reads flags, all of which are required, and exactly want more arguments.
func parse(f *flag.FlagSet, args []string, stderr io.Writer, want int) error {
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUse
	}
	missing := f.NArg() != want
	f.VisitAll(func(one *flag.Flag) { missing = missing || one.Value.String() == "" })
	if missing {
		f.Usage()
		return errUse
	}
	return nil
}

// measure prints the measurement that the simulation has for a binary.
func measure(_ context.Context, args []string, _ *slog.Logger, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("measure", flag.ContinueOnError)
	p := platformFlag(f)
	if err := parse(f, args, stderr, 1); err != nil {
		return err
	}
	m, err := machine.Measure(f.Arg(0))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%x\n", m.Of(*p))
	return err
}

// platformFlag adds the flag for the platform, which is one that can be simulated.
func platformFlag(f *flag.FlagSet) *attestation.Platform {
	p := attestation.PlatformSEVSNP
	f.TextVar((*platformText)(&p), "platform", platformText(p), "what to simulate: sev-snp, tdx or sgx, a `name`")
	return &p
}

type platformText attestation.Platform

func (p platformText) MarshalText() ([]byte, error) { return []byte(p), nil }

func (p *platformText) UnmarshalText(text []byte) error {
	if !slices.Contains(machine.Platforms(), attestation.Platform(text)) {
		return machine.ErrPlatform
	}
	*p = platformText(text)
	return nil
}
