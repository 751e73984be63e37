//go:build !js

package client

import (
	"os/exec"
	"strings"
	"testing"
)

// A client must not link what runs on the other side: enclave and host.
func TestDeps(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/passclave/passclave/"
	for p := range strings.Lines(string(out)) {
		p = strings.TrimPrefix(strings.TrimSpace(p), module)
		if p == "enclave" || p == "host" || strings.HasPrefix(p, "enclave/") || strings.HasPrefix(p, "host/") || strings.HasPrefix(p, "keyrelease") {
			t.Errorf("package client links %s", p)
		}
	}
}
