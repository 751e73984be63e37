//go:build sgx

package main

import (
	"flag"
	"log/slog"
	"testing"
)

// The arguments are the host's: they name neither a simulated TEE nor a configuration
// that is not measured.
func TestHostsArguments(t *testing.T) {
	t.Parallel()
	var f teeFlags
	f.register()
	if flag.Lookup("simtee") != nil || flag.Lookup("tee") != nil {
		t.Error("takes another TEE")
	}
	if got := environment(func(string) string { return "the host's" })("UVM_SECURITY_POLICY"); got != "" {
		t.Errorf("reads %q from the environment", got)
	}
	hardware, err := f.open(t.Context(), slog.Default(), nil)
	if err != nil || hardware.name != "sgx" || hardware.folders != nil {
		t.Errorf("%+v, %v", hardware, err)
	}
	for named, ok := range map[string]bool{"": true, embedded: true, "/tmp/configuration.json": false, "/passclave/../x": false} {
		if file, err := configurationFile(named); (err == nil) != ok || ok && file != embedded {
			t.Errorf("%q: %q, %v", named, file, err)
		}
	}
}
