// Command passclave-enclave is the workload that runs inside the TEE. It listens
// for its host, gets the KEK from the key service by its evidence, and answers
// sealed requests.
//
// It reads its flags and, of the environment, nothing but where ACI's host has put the
// security context, which it hands out and does not believe: the environment belongs to
// the host, and it is cleared before anything else runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/runtime"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/wire"
)

func main() {
	aciEnv := environment(os.Getenv)
	os.Clearenv()
	listen := flag.String("listen", "", "where the host dials: unix:PATH or tcp:HOST:PORT")
	config := flag.String("config", "", "the measured configuration's file")
	var t teeFlags
	flag.StringVar(&t.simulated, "simtee", "", "the simulated TEE: unix:PATH")
	flag.StringVar(&t.kind, "tee", "", "the interface to the hardware: auto, tsm, sev-guest, sev or agent")
	flag.BoolVar(&t.collateral, "collateral", false, "staple revocation lists and Intel's collateral too, fetched from AMD and Intel")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log, *listen, *config, t, aciEnv); err != nil {
		log.Error("enclave stops", "reason", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, listen, config string, flags teeFlags, aciEnv func(string) string) error {
	if err := flags.check(); err != nil {
		return err
	}
	// The simulated TEE measures /proc/PID/exe, which the kernel hides, for a process
	// that is not dumpable, from everybody but root.
	if err := secret.Harden(flags.simulated != "" && os.Geteuid() != 0); err != nil {
		return err
	}
	file, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	hardware, err := openTEE(ctx, log, flags, interfaces, os.DirFS("/"), aciEnv)
	if err != nil {
		return err
	}
	evidence := func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error) {
		return attestation.Make(ctx, hardware, runtimeData, file, time.Now())
	}
	r, err := runtime.New(runtime.Options{Configuration: file, Evidence: evidence, Log: log})
	if err != nil {
		return err
	}
	configuration, err := wire.ParseConfiguration(file)
	if err != nil {
		return err
	}
	listener, err := listenOn(listen)
	if err != nil {
		return err
	}
	if err := confine(hardware.folders...); err != nil {
		return err
	}
	if flags.simulated != "" {
		log.Warn("SIMULATION: no hardware protects this process", "erases", secret.Erases)
	} else {
		log.Info("reports by", "interface", hardware.name, "security_context", hardware.context, "erases", secret.Erases)
	}
	fmt.Println("ready", listen)

	go unseal(ctx, log, r, &keyrelease.Client{
		Service: configuration.KeyService, Config: wire.ConfigurationHash(file),
		Evidence: evidence, RSA: keyrelease.GenerateRSA(),
	})
	return r.Serve(ctx, listener)
}

func listenOn(address string) (net.Listener, error) {
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

// Between two tries to get the KEK, and between two looks for newer versions.
const (
	firstWait = 100 * time.Millisecond
	longest   = 10 * time.Second
	lookAgain = 5 * time.Minute
)

// unseal gets the KEK, for as long as it takes, and later its newer versions.
func unseal(ctx context.Context, log *slog.Logger, r *runtime.Runtime, client *keyrelease.Client) {
	wait, backOff, held := firstWait, firstWait, ""
	for {
		started := time.Now()
		versions, err := release(ctx, client)
		if err == nil && versions.names() != held {
			if err = r.Unseal(versions); err == nil {
				held = versions.names()
				log.Info("unsealed", "versions", len(versions), "took", time.Since(started).Round(time.Millisecond))
			}
		}
		for _, k := range versions {
			clear(k.Key)
		}
		wait = lookAgain
		if err != nil {
			log.Warn("no KEK from the key service", "reason", err)
			r.Sealed(err.Error())
			wait = backOff
			backOff = min(2*backOff, longest)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// keks are all versions of the KEK, oldest first.
type keks []enclave.KEK

func (k keks) names() string {
	var names []string
	for _, version := range k {
		names = append(names, version.Version)
	}
	return strings.Join(names, " ")
}

func release(ctx context.Context, client *keyrelease.Client) (keks, error) {
	released, err := client.Release(ctx)
	if err != nil {
		return nil, err
	}
	versions := make(keks, len(released))
	for i, k := range released {
		versions[i] = enclave.KEK{Version: k.Version, Key: k.Key}
	}
	return versions, nil
}
