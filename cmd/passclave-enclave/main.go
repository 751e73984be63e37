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
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave"
	"github.com/passclave/passclave/enclave/runtime"
	"github.com/passclave/passclave/enclave/secret"
	"github.com/passclave/passclave/enclave/workload"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/imds"
	"github.com/passclave/passclave/wire"
)

// ballast is bytes of the heap that are held and never touched, for the reason that
// the host has: they take no memory, and the collector, which waits until the heap
// has doubled, runs less often while little lives in it.
const ballast = 32 << 20

func main() {
	aciEnv := workload.Environment(os.Getenv)
	os.Clearenv()
	if !secret.Erases {
		// Where a collection erases what held secrets, it stays frequent.
		defer goruntime.KeepAlive(make([]byte, ballast))
	}
	listen := flag.String("listen", "", "where the host dials: unix:PATH or tcp:HOST:PORT")
	config := flag.String("config", "", "the measured configuration's file")
	var t workload.Flags
	t.Register(flag.CommandLine)
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log, *listen, *config, t, aciEnv); err != nil {
		log.Error("enclave stops", "reason", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, listen, config string, flags workload.Flags, aciEnv func(string) string) error {
	maker, file, err := workload.Begin(ctx, log, flags, config, aciEnv)
	if err != nil {
		return err
	}
	evidence := func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error) {
		return attestation.Make(ctx, maker, runtimeData, file, time.Now())
	}
	r, err := runtime.New(runtime.Options{Configuration: file, Evidence: evidence, Log: log})
	if err != nil {
		return err
	}
	configuration, err := wire.ParseConfiguration(file)
	if err != nil {
		return err
	}
	listener, err := workload.Listen(listen)
	if err != nil {
		return err
	}
	if err := maker.Confine(log); err != nil {
		return err
	}
	fmt.Println("ready", listen)

	go unseal(ctx, log, r, &keyrelease.Client{
		Service: configuration.KeyService, Config: wire.ConfigurationHash(file),
		Evidence: evidence, RSA: keyrelease.GenerateRSA(secret.Do), Do: secret.Do, Clock: r.CertificateTime,
		Bearer: keyrelease.Identity(configuration.KeyService, imds.Base),
	})
	return r.Serve(ctx, listener)
}

// Between two tries to get the KEK, and between two looks for newer versions.
const (
	firstWait = 100 * time.Millisecond
	longest   = 10 * time.Second
	lookAgain = 5 * time.Minute
)

// unseal gets the KEK, for as long as it takes, and later its newer versions: now and
// then, and at once where the runtime has met one.
func unseal(ctx context.Context, log *slog.Logger, r *runtime.Runtime, client *keyrelease.Client) {
	held, waits := "", newWaits()
	var looked func(error) // tells who wanted a look; nil: nobody did
	for {
		started := time.Now()
		versions, err := release(ctx, client)
		if err == nil && versions.names() != held {
			if err = r.Unseal(ctx, versions); err == nil {
				held = versions.names()
				log.Info("unsealed", "versions", len(versions), "took", time.Since(started).Round(time.Millisecond))
			}
		}
		for _, k := range versions {
			clear(k.Key)
		}
		if err != nil {
			log.Warn("no KEK from the key service", "reason", err)
			r.Sealed(err.Error())
		}
		if looked != nil {
			looked(err)
			looked = nil
		}
		wait := waits.after(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		case looked = <-r.Wanted():
		}
	}
}

// waits grow while tries fail one after another.
type waits struct{ next time.Duration }

func newWaits() *waits { return &waits{next: firstWait} }

// after returns how long to wait after a try.
func (w *waits) after(err error) time.Duration {
	if err == nil {
		w.next = firstWait
		return lookAgain
	}
	wait := w.next
	w.next = min(2*wait, longest)
	return wait
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
