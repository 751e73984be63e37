//go:build sgx

package main

import (
	"errors"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/sgx"
)

// warning is what the log says at each start; empty: nothing.
const warning = ""

// embedded is where enclave.json puts the measured configuration.
const embedded = "/passclave/configuration.json"

// hardware returns the SGX enclave that this process runs in. This build believes no
// other TEE: the arguments are the host's.
func hardware(address string) (attestation.Maker, error) {
	if address != "" {
		return nil, errors.New("this build runs in SGX: it takes no -simtee")
	}
	return sgx.Maker{}, nil
}

// harden does nothing: the processor closes an enclave for others, and the kernel, whose
// word it would be, is the host's.
func harden() error { return nil }

// configurationFile returns the file that MRENCLAVE measures, and refuses another: the
// arguments are the host's.
func configurationFile(named string) (string, error) {
	if named != "" && named != embedded {
		return "", errors.New("this build reads " + embedded + " and no other -config")
	}
	return embedded, nil
}
