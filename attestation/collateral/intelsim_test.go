package collateral

import (
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// All that Intel's service has, for a simulated machine, in the service's wire format.
func TestIntelComplete(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	for tee, whole := range map[string]*attestation.Bundle{
		"tdx": at.TDXBundle(t, at.ReleaseData(t, file), file, at.OnIntel(at.NewMachine(t).Intel())),
		"sgx": at.SGXBundle(t, at.ReleaseData(t, file), file, at.OnIntel(at.NewMachine(t).Intel())),
	} {
		t.Run(tee, func(t *testing.T) {
			t.Parallel()
			s := at.NewPCS(t, whole)
			roots := at.IntelRoots(at.NewMachine(t).Intel())
			c := quick(Options{Intel: []IntelSource{{s.URL, s.URL + "/root"}}, Roots: roots, Store: Folder(t.TempDir()), TCB: true, Revocation: true})
			for range 2 {
				b := *whole
				b.Collateral = nil
				if err := c.Complete(t.Context(), &b); err != nil {
					t.Fatal(err)
				}
				claims, err := attestation.Genuine(&b, roots, time.Now())
				if err != nil || claims.Intel.TCBStatus != "UpToDate" || !claims.RevocationChecked || len(b.Collateral) != 4 {
					t.Fatalf("%+v, %v", claims, err)
				}
			}
			if n := s.Asked.Load(); n != 4 {
				t.Errorf("asked %d times", n)
			}
			stapled := *whole
			if err := quick(Options{Roots: roots, TCB: true, Revocation: true}).Complete(t.Context(), &stapled); err != nil || len(stapled.Collateral) != 4 {
				t.Errorf("stapled: %v", err)
			}
		})
	}
}
