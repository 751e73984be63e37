//go:build sgx

package main

import "testing"

// The arguments are the host's: they name neither a simulated TEE nor a configuration
// that is not measured.
func TestHostsArguments(t *testing.T) {
	t.Parallel()
	if m, err := hardware("unix:/tmp/simtee"); err == nil {
		t.Errorf("takes a simulated TEE: %T", m)
	}
	if _, err := hardware(""); err != nil {
		t.Error(err)
	}
	for named, ok := range map[string]bool{"": true, embedded: true, "/tmp/configuration.json": false, "/passclave/../x": false} {
		if file, err := configurationFile(named); (err == nil) != ok || ok && file != embedded {
			t.Errorf("%q: %q, %v", named, file, err)
		}
	}
}
