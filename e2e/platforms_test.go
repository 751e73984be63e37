package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/development/stack"
)

// On Intel's platforms the whole service does what it does on SEV-SNP: the enclave gets
// its key by a quote, devices verify the quote, passkeys sign in, also after a restart.
// Another binary has another measurement, and gets no key.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	for p, claim := range map[attestation.Platform]string{attestation.PlatformTDX: "tdx_mrtd", attestation.PlatformSGX: "x-ms-sgx-mrenclave"} {
		t.Run(string(p), func(t *testing.T) { // one at a time: each founds a service
			s := newStackOn(t, p)
			site := &relyingParty{t, s.stack.RPURL, s.stack.RPURL}
			laptop := s.enrolled("alice")
			site.register(laptop, "alice")
			site.signIn(s.joined("alice", "phone", pin), "alice")
			restart := func() {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := s.stack.Restart(ctx, stack.Enclave); err != nil {
					t.Fatal(err)
				}
			}
			restart()
			s.ready()
			site.signIn(laptop, "alice")

			program, err := os.ReadFile(filepath.Join(bin(t), "passclave-enclave"))
			if err != nil {
				t.Fatal(err)
			}
			other := filepath.Join(s.dir, "run", "other")
			if err := os.WriteFile(other, append(program, 0), 0o700); err != nil { // still runs
				t.Fatal(err)
			}
			s.stack.SetBinary(stack.Enclave, other)
			restart()
			refused := []byte("release policy refuses: " + claim)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for limit := time.After(time.Minute); !bytes.Contains(s.log.bytes(), refused); {
				select {
				case <-tick.C:
				case <-limit:
					t.Fatalf("nothing refused another binary: %s", s.log.bytes())
				}
			}
			var not *stack.NotReadyError
			if err := s.stack.Ready(t.Context()); !errors.As(err, &not) {
				t.Errorf("another binary is ready: %v", err)
			}
		})
	}
}
