//go:build sgx

package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/passclave/passclave/attestation/sgx"
)

// embedded is where enclave.json puts the measured configuration.
const embedded = "/passclave/configuration.json"

// teeFlags are none: this build believes the enclave that it runs in and no other TEE,
// and the arguments are the host's.
type teeFlags struct{}

func (*teeFlags) register() {}

// harden does nothing: the processor closes an enclave for others, and the kernel, whose
// word it would be, is the host's.
func (*teeFlags) harden() error { return nil }

func (*teeFlags) open(context.Context, *slog.Logger, func(string) string) (*tee, error) {
	return &tee{Maker: sgx.Maker{}, name: "sgx"}, nil
}

// environment keeps nothing: it is the host's.
func environment(func(string) string) func(string) string {
	return func(string) string { return "" }
}

// configurationFile returns the file that MRENCLAVE measures, and refuses another: the
// arguments are the host's.
func configurationFile(named string) (string, error) {
	if named != "" && named != embedded {
		return "", errors.New("this build reads " + embedded + " and no other -config")
	}
	return embedded, nil
}
