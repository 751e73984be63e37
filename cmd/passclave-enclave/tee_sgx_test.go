//go:build sgx

package main

import "testing"

// The arguments are the host's: they name neither a simulated TEE nor a configuration
// that is not measured.
func TestHostsArguments(t *testing.T) {
	t.Parallel()
	for _, f := range []teeFlags{{simulated: "unix:/tmp/simtee"}, {kind: "auto"}, {collateral: true}} {
		if m, err := hardware(t.Context(), nil, f, nil); err == nil {
			t.Errorf("takes another TEE: %+v", m)
		}
	}
	if _, err := hardware(t.Context(), nil, teeFlags{}, nil); err != nil {
		t.Error(err)
	}
	for named, ok := range map[string]bool{"": true, embedded: true, "/tmp/configuration.json": false, "/passclave/../x": false} {
		if file, err := configurationFile(named); (err == nil) != ok || ok && file != embedded {
			t.Errorf("%q: %q, %v", named, file, err)
		}
	}
}
