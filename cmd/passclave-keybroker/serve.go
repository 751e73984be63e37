package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/broker"
	"github.com/passclave/passclave/keyrelease/keystore"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/operator"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// serve runs the broker until ctx ends.
func serve(ctx context.Context, args []string, log *slog.Logger, stdout, stderr io.Writer) error {
	f := flags(stderr)
	keys := keyFlags(f)
	listen := f.String("listen", "127.0.0.1:0", "`address` to listen on")
	url := f.String("url", "", "https `URL` by which enclaves reach this broker, as in the measured configuration (default: https:// and the address listened on)")
	cert := f.String("tls-cert", "", "PEM `file`: certificate chain for the URL's host, RSA; it serves TLS and signs released keys")
	key := f.String("tls-key", "", "PEM `file`: its private key")
	simulation := f.String("simulation-root", "", "PEM `file`: root of simulated evidence; without it simulated evidence is refused")
	policy := f.String("policy", "", "release policy `file` for key versions that are made here")
	name := f.String("key", "", "`name` of the key")
	operatorsFile := f.String("operators", "", "JSON `file` that names operators and their public keys; without it there are no endpoints for them")
	create := f.Bool("create", false, "make the key if it is not there (without this a missing key is an error, as a database may need it)")
	if err := keys.parse(f, args, stderr, "state", "tls-cert", "tls-key", "key"); err != nil {
		return err
	}

	certificate, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	roots, err := evidenceRoots(*simulation)
	if err != nil {
		return err
	}
	if *simulation != "" {
		log.Warn("SIMULATION: simulated evidence is accepted; it proves nothing about hardware", "root", *simulation)
	}
	operators, err := readOperators(*operatorsFile, log)
	if err != nil {
		return err
	}
	unlock, err := file.Lock(keys.state)
	if err != nil {
		return err
	}
	defer unlock()
	store, closeStore, err := keys.open(log)
	if err != nil {
		return err
	}
	defer closeStore()
	trail, err := audit.Open(keys.state)
	if err != nil {
		return err
	}
	defer trail.Close()
	if err := ensureKey(ctx, store, *name, *policy, *create, log); err != nil {
		return err
	}

	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if *url == "" {
		*url = "https://" + l.Addr().String()
	}
	b, err := broker.New(broker.Config{
		URL: *url, Roots: roots, Collateral: makers(*simulation, keys.state, log), Store: store, Certificate: certificate, Audit: trail, Operators: operators, Log: log,
	})
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           b,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(l, "", "") }()
	log.Info("serving", "url", *url, "key", *name)
	fmt.Fprintf(stdout, "ready %s\n", l.Addr())

	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

// makers says where the hardware makers' lists and statements come from. A broker that
// takes simulated evidence asks nobody: it may stand where there is no network.
func makers(simulation, state string, log *slog.Logger) *collateral.Options {
	if simulation != "" {
		return nil
	}
	return &collateral.Options{
		Sources: []collateral.Source{collateral.AMD(collateral.AMDBase)}, Intel: []collateral.IntelSource{collateral.Intel()},
		Store: collateral.Folder(filepath.Join(state, "collateral")), Revocation: true, TCB: true,
		Limit: 5 * time.Second, Log: log,
	}
}

func readOperators(path string, log *slog.Logger) ([]operator.Operator, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	operators, err := operator.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(operators) == 1 {
		log.Warn("there is one operator alone: no release policy can be changed", "file", path)
	}
	return operators, nil
}

// ensureKey makes the key where that was asked for, and fails where it is missing.
func ensureKey(ctx context.Context, store keystore.Store, name, policyFile string, create bool, log *slog.Logger) error {
	_, err := store.Versions(ctx, name)
	if err == nil || !errors.Is(err, keystore.ErrNotFound) {
		return err
	}
	if !create {
		return fmt.Errorf("key %q is not in this store: restore it from its backup, or, where no database needs it, start once with -create and -policy: %w", name, err)
	}
	policy, err := readPolicy(policyFile)
	if err != nil {
		return err
	}
	v, err := store.Create(ctx, name, policy, false)
	if err != nil {
		return err
	}
	log.Info("key made", "key", name, "version", v.ID)
	return nil
}

func readPolicy(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("a key version is made with -policy: without a release policy nothing could be released")
	}
	policy, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := releasepolicy.Parse(policy); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return policy, nil
}
