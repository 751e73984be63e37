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
	"github.com/passclave/passclave/development/shell"
	"github.com/passclave/passclave/development/stack"
	"github.com/passclave/passclave/policy"
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
	Simulation bool     `json:"simulation"`
	State      string   `json:"state"`
	Founded    bool     `json:"founded"`
	Genesis    uint64   `json:"genesis,omitempty"` // of the ledger, where this start founded the next one
	Platform   string   `json:"platform"`
	Service    string   `json:"service"`
	Issuer     string   `json:"issuer"`
	Broker     string   `json:"broker"`
	Keys       string   `json:"keys"` // where the KEK is: file or softhsm
	RP         string   `json:"rp"`
	Policy     string   `json:"policy"`
	Warnings   []string `json:"warnings"` // what the trust policy waives, and what else to know of it
}

// readyWithin is how long a service may take to get its KEK.
const readyWithin = 30 * time.Second

func (a *app) upCommand() *cobra.Command {
	var state, listen, platform, ledger, keys string
	var nextGenesis bool
	c := &cobra.Command{
		Use:        "up",
		SuggestFor: []string{"run", "start", "serve"},
		Short:      "Run a whole service in simulation",
		Long: `Starts a whole service on this machine, in SIMULATION: simulated TEE, key broker, enclave, host,
a development issuer that lets anyone log in as anyone, and a demo relying party. It watches them
and starts again what ends. Ctrl-C stops all.

Everything is kept in one folder; the next start goes on where this one ends, also after a
rebuild. What is simulated (--platform) and where the key-encryption key is (--keys: in a file, or
in SoftHSM, reached as an HSM is) is decided by the first start. A folder whose database has lost its
key-encryption key is refused.

With an endorsed ledger the endorsers stop with the rest, and what they remembered is gone. A start
then refuses, unless --next-genesis says that the database is the newest that there is. Every account
is discontinued by that: it answers nothing until a majority of its devices confirmed, with
"passclave confirm", that what the service has is what they remember.

Simulation proves nothing about hardware: whoever is root on this machine, or can read the state
folder, can read all. It is for trying, developing and testing.`,
		Example: `  passclave up
  passclave up --state /tmp/try --listen 127.0.0.1:9000
  passclave up --state /tmp/tdx --platform tdx
  passclave up --state /tmp/hsm --keys softhsm
  passclave up --state /tmp/endorsed --next-genesis`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.up(c.Context(), stack.Options{Dir: state, Listen: listen, NextGenesis: nextGenesis, Founding: stack.Founding{Platform: attestation.Platform(platform), Ledger: ledger, Keys: keys}})
		},
	}
	c.Flags().StringVar(&state, "state", "./state", "`folder` that keeps everything")
	c.Flags().StringVar(&listen, "listen", "", "the host's `address` (default: that of the last start, at first 127.0.0.1:8780 or a free port)")
	c.Flags().StringVar(&platform, "platform", "", "`name` of what the first start simulates: sev-snp, tdx or sgx (default sev-snp)")
	c.Flags().StringVar(&ledger, "ledger", "", "`name` of what the first start founds: local, or endorsed, with three endorsers (default local)")
	c.Flags().StringVar(&keys, "keys", "", "`name` of where the first start puts the key-encryption key: file, or softhsm (default file)")
	c.Flags().BoolVar(&nextGenesis, "next-genesis", false, "found the next genesis of an endorsed ledger whose endorsers were all stopped: discontinues every account until its devices confirm it")
	return c
}

func (a *app) up(ctx context.Context, o stack.Options) error {
	var err error
	if o.Bin, err = binFolder(); err != nil {
		return err
	}
	o.Log, o.Color = a.stderr, a.terminal
	s, err := stack.Start(ctx, o)
	if ctx.Err() != nil {
		if s != nil {
			s.Stop()
		}
		a.stopped(o.Dir)
		return nil // Ctrl-C
	}
	if err != nil {
		return err
	}
	defer a.stopped(s.Dir)
	defer s.Stop()
	wait, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := s.WaitReady(wait); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C
		}
		a.warn("The service does not get ready, and goes on trying: %v", err)
	}
	waived, err := waivedBy(s.PolicyFile)
	if err != nil {
		return err
	}
	out := addresses{
		Simulation: true, State: s.Dir, Founded: s.Founded, Genesis: s.Genesis, Platform: string(s.Platform), Service: s.URL, Issuer: s.IssuerURL,
		Broker: s.BrokerURL, Keys: s.Keys, RP: s.RPURL, Policy: s.PolicyFile, Warnings: waived,
	}
	if err := a.print(out, func(w io.Writer) { printAddresses(w, out) }); err != nil {
		return err
	}
	<-ctx.Done()
	a.warn("stopping")
	return nil
}

func (a *app) stopped(state string) { a.warn("stopped; state kept in %s", state) }

// waivedBy says what there is to know of a trust policy: each thing that it waives.
func waivedBy(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	out := []string{}
	for _, w := range policy.Warnings(nil, p) {
		out = append(out, w.String())
	}
	return out, nil
}

// firstSteps are what to type after a founding: the whole story. nextSteps are for a
// service that goes on, whose people have their profiles already.
const (
	firstSteps = ` (the PIN and the local codes are yours to choose):

  %[1]s enroll %[2]s --policy %[3]s --user alice --profile laptop
  %[1]s passkey create --rp %[4]s --user alice --profile laptop
  %[1]s passkey sign-in --rp %[4]s --profile laptop

  %[1]s join %[2]s --policy %[3]s --user alice --profile phone
  %[1]s passkey sign-in --rp %[4]s --profile phone
  %[1]s passkey list --profile phone

  %[1]s device revoke phone --profile laptop
  %[1]s status --profile phone
  %[1]s history --profile laptop
  %[1]s verify --profile laptop
`
	nextSteps = `, as a device that is in already (--profile is its name):

  %[1]s sync --profile laptop
  %[1]s passkey list --profile laptop
  %[1]s passkey sign-in --rp %[4]s --profile laptop
  %[1]s device list --profile laptop
  %[1]s status --profile laptop
  %[1]s verify --profile laptop

or as a new one:

  %[1]s enroll %[2]s --policy %[3]s --user bob --profile bobs-laptop
  %[1]s join %[2]s --policy %[3]s --user alice --profile phone
`
	genesisSteps = `.

EVERY ACCOUNT IS DISCONTINUED: the endorsers that remembered which entry is the newest are gone, and
nobody but the devices can tell whether the database is an old copy. Until more than half of an account's
devices confirmed it, it answers nothing. On each, with the trust policy that names the new genesis:

  %[1]s confirm --policy %[3]s --profile laptop
  %[1]s confirm --policy %[3]s --profile phone

and on those that were not needed for that, once:

  %[1]s policy pin %[3]s --profile tablet
`
)

// keyPlaces say where the KEK is.
var keyPlaces = map[string]string{stack.KeysFile: "a file", stack.KeysSoftHSM: "a token of SoftHSM, which is a file too"}

func printAddresses(w io.Writer, s addresses) {
	began, steps := "goes on", nextSteps
	switch {
	case s.Founded:
		began, steps = "was founded", firstSteps
	case s.Genesis > 0:
		began, steps = fmt.Sprintf("ledger: genesis %d", s.Genesis), genesisSteps
	}
	fmt.Fprintf(w, `
Passclave runs in SIMULATION of %s: it proves nothing about hardware, and protects from nobody with root here.

  service        %s
  issuer         %s   (development: anyone logs in as anyone)
  key broker     %s   (development: the KEK lies in %s, and both operators' keys beside it)
  relying party  %s
  state          %s   (%s)
  trust policy   %s
`, s.Platform, s.Service, s.Issuer, s.Broker, keyPlaces[s.Keys], s.RP, s.State, began, s.Policy)
	for _, text := range s.Warnings {
		fmt.Fprintf(w, "                 ! %s\n", text)
	}
	fmt.Fprintf(w, "\nType next, in another terminal"+steps, shortest(os.Args[0]), s.Service, shell.Quote(s.Policy), s.RP)
	fmt.Fprint(w, "\nCtrl-C stops everything; the state stays.\n\n")
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
