//go:build !sgx

package workload

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/attestation/guest"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/keyrelease"
)

// check demands either the simulation or hardware.
func (f Flags) check() error {
	switch {
	case f.Simulated == "" && f.Kind == "":
		return errors.New("no TEE: -tee names the hardware's interface, -simtee the simulation's socket")
	case f.Simulated != "" && (f.Kind != "" || f.Collateral):
		return errors.New("-simtee is for the simulation alone: leave -tee and -collateral out")
	}
	return nil
}

// reportInterface is one way to the hardware.
type reportInterface struct {
	name    string
	open    func(context.Context) (attestation.Maker, error)
	folders []string
}

// interfaces are all of them, in the order in which auto looks for them: the newest
// first, the one that others answer for last.
var interfaces = []reportInterface{
	{"tsm", func(context.Context) (attestation.Maker, error) { return maker(guest.NewTSM()) }, []string{configfsi.TsmPrefix + "/report"}},
	{"sev-guest", func(context.Context) (attestation.Maker, error) { return maker(guest.NewSEVGuest()) }, nil},
	{"sev", func(context.Context) (attestation.Maker, error) { return maker(guest.NewSEV()) }, nil},
	{"agent", func(ctx context.Context) (attestation.Maker, error) {
		a, err := guest.NewAgent(guest.AgentAddress)
		if err != nil {
			return nil, err
		}
		return a, a.Probe(ctx)
	}, nil},
}

// maker keeps a nil pointer from becoming a maker.
func maker[M attestation.Maker](m M, err error) (attestation.Maker, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// choose opens the interface of a name, or the first that the machine has. It never
// falls back to the simulation.
func choose(ctx context.Context, kind string, list []reportInterface) (*TEE, error) {
	errs := []error{fmt.Errorf("-tee %s: no interface to a TEE", kind)}
	for _, i := range list {
		if kind != "auto" && kind != i.name {
			continue
		}
		m, err := i.open(ctx)
		if err == nil {
			return &TEE{Maker: m, Name: i.name, folders: i.folders}, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", i.name, err))
	}
	return nil, errors.Join(errs...)
}

// Open opens the TEE that this process runs in.
func Open(ctx context.Context, log *slog.Logger, f Flags, getenv func(string) string) (*TEE, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return openTEE(ctx, log, f, interfaces, os.DirFS("/"), getenv)
}

// Harden closes the process for others. The simulated TEE measures /proc/PID/exe, which
// the kernel hides, for a process that is not dumpable, from everybody but root.
func Harden(f Flags) error { return secret.Harden(f.Simulated != "" && os.Geteuid() != 0) }

// ConfigurationFile returns the measured configuration's file: the one that was named.
func ConfigurationFile(named string) (string, error) { return named, nil }

// openTEE opens what the flags say. Hardware's reports get what the host of ACI gives
// with them, and the certificates that are missing or do not fit from AMD, on ACI from
// Azure's cache first.
func openTEE(ctx context.Context, log *slog.Logger, f Flags, list []reportInterface, root fs.FS, getenv func(string) string) (*TEE, error) {
	if f.Simulated != "" {
		return &TEE{Maker: simtee.NewClient(f.Simulated), Name: "simulation", Simulated: true}, nil
	}
	t, err := choose(ctx, f.Kind, list)
	if err != nil {
		return nil, err
	}
	sources := []collateral.Source{collateral.AMD(collateral.AMDBase)}
	switch c, err := aci.Running(root, getenv); {
	case err == nil:
		t.Maker, t.Context = &stapled{t.Maker, c}, true
		sources = append([]collateral.Source{collateral.Azure(collateral.AzureBase)}, sources...)
	case !errors.Is(err, aci.ErrNone):
		return nil, fmt.Errorf("security context: %w", err)
	}
	client, err := webClient()
	if err != nil {
		return nil, err
	}
	t.Maker = &collateral.Maker{TEE: t.Maker, Completer: collateral.New(collateral.Options{
		HTTP: client, Sources: sources, Intel: []collateral.IntelSource{collateral.Intel()}, Log: log,
		Store:      collateral.Memory(), // the file system is taken away
		Revocation: f.Collateral, TCB: f.Collateral,
	})}
	return t, nil
}

// stapled adds ACI's security context to a report.
type stapled struct {
	attestation.Maker
	context *aci.Context
}

func (s *stapled) Make(ctx context.Context, reportData [64]byte) (*attestation.Bundle, error) {
	b, err := s.Maker.Make(ctx, reportData)
	if err != nil {
		return nil, err
	}
	if len(s.context.HostAMD) > 0 {
		// The host's own are with their TCB; two chains would be one too many to keep right.
		b.Certificates = nil
	}
	s.context.Complete(b)
	return b, nil
}

// Environment keeps what ACI's host says before the environment is cleared.
func Environment(getenv func(string) string) func(string) string {
	kept := map[string]string{}
	for _, name := range []string{aci.EnvFolder, aci.EnvPolicy, aci.EnvReferenceInfo, aci.EnvHostAMD} {
		kept[name] = getenv(name)
	}
	return func(name string) string { return kept[name] }
}

// webClient trusts the roots that are compiled in.
func webClient() (*http.Client, error) {
	roots, err := keyrelease.WebRoots()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute,
		},
	}, nil
}
