package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/development/stack"
)

// binFolder is where the other binaries are: beside this one.
func binFolder() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return filepath.Dir(self), nil
}

// addresses is the JSON of up, printed when the service is ready.
type addresses struct {
	Simulation bool   `json:"simulation"`
	State      string `json:"state"`
	Founded    bool   `json:"founded"`
	Platform   string `json:"platform"`
	Service    string `json:"service"`
	Issuer     string `json:"issuer"`
	Broker     string `json:"broker"`
	RP         string `json:"rp"`
	Policy     string `json:"policy"`
}

// readyWithin is how long a service may take to get its KEK.
const readyWithin = 30 * time.Second

func (a *app) upCommand() *cobra.Command {
	var state, listen, platform string
	c := &cobra.Command{
		Use:   "up",
		Short: "Run a whole service in simulation",
		Long: `Starts a whole service on this machine, in SIMULATION: simulated TEE, key broker, enclave, host,
a development issuer that lets anyone log in as anyone, and a demo relying party. It watches them
and starts again what ends. Ctrl-C stops all.

Everything is kept in one folder; the next start goes on where this one ends, also after a
rebuild. What is simulated (--platform) is decided by the first start. A folder whose database
has lost its key-encryption key is refused.

Simulation proves nothing about hardware: whoever is root on this machine, or can read the state
folder, can read all. It is for trying, developing and testing.`,
		Example: `  passclave up
  passclave up --state /tmp/try --listen 127.0.0.1:9000
  passclave up --state /tmp/tdx --platform tdx`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.up(c.Context(), state, listen, attestation.Platform(platform))
		},
	}
	c.Flags().StringVar(&state, "state", "./state", "`folder` that keeps everything")
	c.Flags().StringVar(&listen, "listen", "", "the host's `address` (default: that of the last start, at first 127.0.0.1:8780 or a free port)")
	c.Flags().StringVar(&platform, "platform", "", "what the first start simulates: sev-snp, tdx or sgx, a `name` (default sev-snp)")
	return c
}

func (a *app) up(ctx context.Context, state, listen string, platform attestation.Platform) error {
	bin, err := binFolder()
	if err != nil {
		return err
	}
	s, err := stack.Start(ctx, stack.Options{Dir: state, Bin: bin, Listen: listen, Founding: stack.Founding{Platform: platform}, Log: a.stderr, Color: a.terminal})
	if ctx.Err() != nil {
		return nil // Ctrl-C
	}
	if err != nil {
		return err
	}
	defer s.Stop()
	wait, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := s.WaitReady(wait); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C
		}
		a.warn("The service does not get ready, and goes on trying: %v", err)
	}
	out := addresses{
		Simulation: true, State: s.Dir, Founded: s.Founded, Platform: string(s.Platform), Service: s.URL, Issuer: s.IssuerURL,
		Broker: s.BrokerURL, RP: s.RPURL, Policy: s.PolicyFile,
	}
	if err := a.print(out, func(w io.Writer) { printAddresses(w, out) }); err != nil {
		return err
	}
	<-ctx.Done()
	a.warn("stopping")
	return nil
}

func printAddresses(w io.Writer, s addresses) {
	began := "goes on"
	if s.Founded {
		began = "was founded"
	}
	self := shortest(os.Args[0])
	policy := shortest(s.Policy)
	fmt.Fprintf(w, `
Passclave runs in SIMULATION of %s: it proves nothing about hardware, and protects from nobody with root here.

  service        %s
  issuer         %s   (development: anyone logs in as anyone)
  key broker     %s   (development: the KEK lies in a file)
  relying party  %s
  state          %s   (%s)
  trust policy   %s   (waives the measurement: "development")

Type next, in another terminal (the PIN and the local codes are yours to choose):

  %[9]s enroll %[2]s --policy %[8]s --user alice --profile laptop
  %[9]s passkey create --rp %[5]s --user alice --profile laptop
  %[9]s passkey sign-in --rp %[5]s --profile laptop

  %[9]s join %[2]s --policy %[8]s --user alice --profile phone
  %[9]s passkey sign-in --rp %[5]s --profile phone

  %[9]s history --profile laptop
  %[9]s verify --profile laptop

Ctrl-C stops everything; the state stays.

`, s.Platform, s.Service, s.Issuer, s.Broker, s.RP, s.State, began, policy, self)
}

// shortest returns path as it is shortest to type from here.
func shortest(path string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	if relative, err := filepath.Rel(here, path); err == nil && len(relative) < len(path) {
		return relative
	}
	return path
}
