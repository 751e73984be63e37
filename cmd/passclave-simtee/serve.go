package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/ledger/endorser"
	"github.com/passclave/passclave/wire"
)

// open returns the machine of a state folder, and warns.
func open(state string, p attestation.Platform, log *slog.Logger) (*machine.Machine, error) {
	m, err := machine.New(state)
	if err != nil {
		return nil, err
	}
	log.Warn("SIMULATION: reports of this machine prove nothing about hardware", "platform", p,
		"root", filepath.Join(state, machine.RootFileOf(p)), "root_sha256", fmt.Sprintf("%x", sha256.Sum256(m.RootOf(p).Raw)))
	return m, nil
}

// root makes the keys where there are none.
func root(_ context.Context, args []string, log *slog.Logger, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("root", flag.ContinueOnError)
	state := f.String("state", "", "`folder` of the simulation's keys")
	p := platformFlag(f)
	if err := parse(f, args, stderr, 0); err != nil {
		return err
	}
	if _, err := open(*state, *p, log); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, filepath.Join(*state, machine.RootFileOf(*p)))
	return err
}

// serve answers requests for reports until ctx ends.
func serve(ctx context.Context, args []string, log *slog.Logger, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("passclave-simtee", flag.ContinueOnError)
	state := f.String("state", "", "`folder` of the simulation's keys")
	socket := f.String("socket", "", "unix socket to serve, a `path`; its folder is made for this user alone where there is none")
	hostData := f.String("host-data", "", "`file` whose SHA-256 every report has as HOST_DATA (MRCONFIGID, CONFIGID): the measured configuration")
	p := platformFlag(f)
	if err := parse(f, args, stderr, 0); err != nil {
		return err
	}
	configuration, err := os.ReadFile(*hostData)
	if err != nil {
		return err
	}
	if _, err := wire.ParseConfiguration(configuration); err != nil { // an enclave's, or an endorser's
		if _, other := endorser.ParseConfiguration(configuration); other != nil {
			return fmt.Errorf("%s: %w", *hostData, errors.Join(err, other))
		}
	}
	m, err := open(*state, *p, log)
	if err != nil {
		return err
	}
	l, err := listen(*socket)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := fmt.Fprintf(stdout, "ready unix:%s\n", *socket); err != nil {
		return err
	}
	return m.Serve(ctx, l, *p, wire.ConfigurationHash(configuration), log)
}

// listen replaces a socket that nobody serves any more. Only this user may connect.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s is served already", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
