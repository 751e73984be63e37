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

// hardware returns the SGX enclave that this process runs in. This build believes no
// other TEE: the arguments are the host's.
func hardware(_ context.Context, _ *slog.Logger, f teeFlags, _ func(string) string) (*tee, error) {
	if f != (teeFlags{}) {
		return nil, errors.New("this build runs in SGX: it takes no -simtee, -tee or -collateral")
	}
	return &tee{Maker: sgx.Maker{}, name: "sgx"}, nil
}

// harden does nothing: the processor closes an enclave for others, and the kernel, whose
// word it would be, is the host's.
func harden(teeFlags) error { return nil }

// environment keeps nothing.
func environment(func(string) string) func(string) string { return nil }

// configurationFile returns the file that MRENCLAVE measures, and refuses another: the
// arguments are the host's.
func configurationFile(named string) (string, error) {
	if named != "" && named != embedded {
		return "", errors.New("this build reads " + embedded + " and no other -config")
	}
	return embedded, nil
}
