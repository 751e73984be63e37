//go:build sgx

package workload

import (
	"context"
	"errors"
	"log/slog"

	"github.com/passclave/passclave/attestation/sgx"
)

// embedded is where enclave.json puts the measured configuration.
const embedded = "/passclave/configuration.json"

// Open returns the SGX enclave that this process runs in. This build believes no
// other TEE: the arguments are the host's.
func Open(_ context.Context, _ *slog.Logger, f Flags, _ func(string) string) (*TEE, error) {
	if f != (Flags{}) {
		return nil, errors.New("this build runs in SGX: it takes no -simtee, -tee or -collateral")
	}
	return &TEE{Maker: sgx.Maker{}, Name: "sgx"}, nil
}

// Harden does nothing: the processor closes an enclave for others, and the kernel, whose
// word it would be, is the host's.
func Harden(Flags) error { return nil }

// Environment keeps nothing.
func Environment(func(string) string) func(string) string { return nil }

// ConfigurationFile returns the file that MRENCLAVE measures, and refuses another: the
// arguments are the host's.
func ConfigurationFile(named string) (string, error) {
	if named != "" && named != embedded {
		return "", errors.New("this build reads " + embedded + " and no other -config")
	}
	return embedded, nil
}
