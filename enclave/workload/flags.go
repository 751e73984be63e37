// Package workload is what every measured process does before it serves: it opens the
// TEE that it runs in, closes itself for others, and gives the file system away.
//
// Its flags and environment are the host's, and hostile: they choose where things are,
// and nothing that is accepted. What an argument could weaken (the simulation in place
// of hardware) shows in the evidence, which names the root.
package workload

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave/secret"
)

// Flags say who makes reports: the simulation or, by one of its interfaces, hardware.
type Flags struct {
	Simulated, Kind string
	Collateral      bool
}

// Register adds the flags to a command line.
func (f *Flags) Register(s *flag.FlagSet) {
	s.StringVar(&f.Simulated, "simtee", "", "the simulated TEE: unix:PATH")
	s.StringVar(&f.Kind, "tee", "", "the interface to the hardware: auto, tsm, sev-guest, sev or agent")
	s.BoolVar(&f.Collateral, "collateral", false, "staple revocation lists and Intel's collateral too, fetched from AMD and Intel")
}

// TEE makes reports, with all that goes with them.
type TEE struct {
	attestation.Maker
	Name      string
	Simulated bool
	Context   bool     // ACI's security context is stapled
	folders   []string // what the interface needs of the file system while it runs
}

// Begin opens the TEE, closes the process for others and reads the measured configuration's
// file, in this order. getenv is what [Environment] kept.
func Begin(ctx context.Context, log *slog.Logger, f Flags, config string, getenv func(string) string) (*TEE, []byte, error) {
	tee, err := Open(ctx, log, f, getenv)
	if err != nil {
		return nil, nil, err
	}
	if err := Harden(f); err != nil {
		return nil, nil, err
	}
	if config, err = ConfigurationFile(config); err != nil {
		return nil, nil, err
	}
	file, err := os.ReadFile(config)
	return tee, file, err
}

// Confine takes the file system away, for good, and says what protects the process.
func (t *TEE) Confine(log *slog.Logger) error {
	if err := confine(t.folders...); err != nil {
		return err
	}
	warnUnconfined(log)
	if t.Simulated {
		log.Warn("SIMULATION: no hardware protects this process", "erases", secret.Erases)
	} else {
		log.Info("reports by", "interface", t.Name, "security_context", t.Context, "erases", secret.Erases)
	}
	return nil
}

// Listen listens at unix:PATH, which it takes from a process that ended, or at
// tcp:HOST:PORT.
func Listen(address string) (net.Listener, error) {
	network, rest, ok := strings.Cut(address, ":")
	switch {
	case ok && network == "unix":
		if err := os.Remove(rest); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		listener, err := net.Listen("unix", rest)
		if err != nil {
			return nil, err
		}
		return listener, os.Chmod(rest, 0o600)
	case ok && network == "tcp":
		return net.Listen("tcp", rest)
	}
	return nil, fmt.Errorf("-listen %q is neither unix:PATH nor tcp:HOST:PORT", address)
}
