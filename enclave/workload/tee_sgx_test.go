//go:build sgx

package workload

import "testing"

// The arguments are the host's: they name neither a simulated TEE nor a configuration
// that is not measured.
func TestHostsArguments(t *testing.T) {
	t.Parallel()
	for _, f := range []Flags{{Simulated: "unix:/tmp/simtee"}, {Kind: "auto"}, {Collateral: true}} {
		if m, err := Open(t.Context(), nil, f, nil); err == nil {
			t.Errorf("takes another TEE: %+v", m)
		}
	}
	if _, err := Open(t.Context(), nil, Flags{}, nil); err != nil {
		t.Error(err)
	}
	for named, ok := range map[string]bool{"": true, embedded: true, "/tmp/configuration.json": false, "/passclave/../x": false} {
		if file, err := ConfigurationFile(named); (err == nil) != ok || ok && file != embedded {
			t.Errorf("%q: %q, %v", named, file, err)
		}
	}
}
