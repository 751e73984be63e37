//go:build !sgx

package main

import (
	"errors"
	"os"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee"
	"github.com/passclave/passclave/enclave/secret"
)

// warning is what the log says at each start.
const warning = "SIMULATION: no hardware protects this process"

// hardware returns the TEE that this process runs in: the simulated one at an address.
func hardware(address string) (attestation.Maker, error) {
	if address == "" {
		return nil, errors.New("no TEE: this version needs -simtee")
	}
	return simtee.NewClient(address), nil
}

// harden closes the process for others. The simulated TEE measures /proc/PID/exe, which
// the kernel hides, for a process that is not dumpable, from everybody but root.
func harden() error { return secret.Harden(os.Geteuid() != 0) }

// configurationFile returns the measured configuration's file: the one that was named.
func configurationFile(named string) (string, error) { return named, nil }
