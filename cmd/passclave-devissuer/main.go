// Command passclave-devissuer is an OpenID Connect provider for development: it
// believes whatever user name it is told. It serves loopback addresses only. See
// package issuer.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/passclave/passclave/development/issuer"
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
	flags := flag.NewFlagSet("passclave-devissuer", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "loopback `address` to listen on")
	url := flags.String("url", "", "issuer identifier; https://ADDRESS where empty")
	state := flags.String("state", "", "`folder` that keeps the signing key (required)")
	cert := flags.String("tls-cert", "", "PEM `file` with the certificate chain (required)")
	key := flags.String("tls-key", "", "PEM `file` with the certificate's key (required)")
	clients := flags.String("client-ids", "passclave", "comma-separated client `IDs`")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *state == "" || *cert == "" || *key == "" || flags.NArg() > 0 {
		return errors.New("-state, -tls-cert and -tls-key are required, and nothing else; see -help")
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*state, 0o700); err != nil {
		return err
	}
	signingKey, err := issuer.LoadKey(*state)
	if err != nil {
		return err
	}
	listener, err := serve.Listen(*listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if *url == "" {
		*url = "https://" + listener.Addr().String()
	}
	handler, err := issuer.New(issuer.Config{
		URL: *url, Key: signingKey, ClientIDs: strings.Split(*clients, ","), Now: time.Now, Log: log,
	})
	if err != nil {
		return err
	}
	log.Warn("DEVELOPMENT ISSUER: anyone logs in as anyone", "url", *url)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	return serve.Until(ctx, listener, config, handler, *url, os.Stdout, log)
}
