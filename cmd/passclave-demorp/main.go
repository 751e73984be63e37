// Command passclave-demorp is a relying party for demos: a web site that takes
// passkeys, on http://localhost:PORT with the RP ID localhost. See package rp.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/passclave/passclave/development/rp"
	"github.com/passclave/passclave/development/serve"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, log, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, arguments []string) error {
	flags := flag.NewFlagSet("passclave-demorp", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "loopback `address` to listen on")
	state := flags.String("state", "", "`folder` that keeps the accounts (required)")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *state == "" || flags.NArg() > 0 {
		return errors.New("-state is required, and nothing else; see -help")
	}
	if err := os.MkdirAll(*state, 0o700); err != nil {
		return err
	}
	listener, err := serve.Listen(*listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	origin := "http://localhost:" + port
	handler, err := rp.New(rp.Config{RPID: "localhost", Origin: origin, Folder: *state, Log: log})
	if err != nil {
		return err
	}
	log.Warn("DEMO relying party: its accounts protect nothing", "url", origin)
	return serve.Until(ctx, listener, nil, handler, origin, os.Stdout, log)
}
