// Command passclave-endorser is one member of the endorsed ledger, in a TEE of its own
// and in a failure domain of its own. It keeps everything in memory: an endorser that
// was started again is a new one, and joins by a view change.
//
// Like the enclave it reads its flags and, of the environment, nothing but where ACI's
// host has put the security context.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/enclave/workload"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

func main() {
	aciEnv := workload.Environment(os.Getenv)
	os.Clearenv()
	listen := flag.String("listen", "", "where hosts and the operator dial: unix:PATH or tcp:HOST:PORT")
	config := flag.String("config", "", "the measured configuration's file")
	var t workload.Flags
	t.Register(flag.CommandLine)
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log, *listen, *config, t, aciEnv); err != nil {
		log.Error("endorser stops", "reason", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, listen, config string, flags workload.Flags, aciEnv func(string) string) error {
	tee, file, err := workload.Begin(ctx, log, flags, config, aciEnv)
	if err != nil {
		return err
	}
	configuration, err := endorser.ParseConfiguration(file)
	if err != nil {
		return err
	}
	listener, err := workload.Listen(listen)
	if err != nil {
		return err
	}
	if err := tee.Confine(log); err != nil {
		return err
	}
	e := endorser.New(configuration, endorser.ByEvidence(configuration, file, time.Now))
	evidence, err := evidenceOf(ctx, tee, e, configuration, file)
	if err != nil {
		return err
	}
	fmt.Println("ready", listen)
	return (&endorser.Server{Endorser: e, Evidence: evidence}).Serve(ctx, listener)
}

// evidenceOf has the TEE report on the endorser's key.
func evidenceOf(ctx context.Context, tee attestation.Maker, e *endorser.Endorser, c *endorser.Configuration, file []byte) ([]byte, error) {
	hash := wire.ConfigurationHash(file)
	data := attestation.RuntimeData{
		Purpose: attestation.PurposeEndorser, Config: hash[:], Endorser: wire.Base64(e.Key()),
		Ledger: &attestation.Ledger{ID: c.Ledger, Backend: wire.BackendEndorsed, Genesis: make([]byte, 32), Number: c.Number},
	}
	encoded, err := data.Encode()
	if err != nil {
		return nil, err
	}
	bundle, err := attestation.Make(ctx, tee, encoded, file, time.Now())
	if err != nil {
		return nil, err
	}
	return bundle.Encode(), nil
}
