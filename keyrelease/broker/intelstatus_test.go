package broker

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/collateral"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

// What Intel says of a machine stands in the token, for policies that ask; where it says
// nothing, such a policy releases nothing. A machine whose certificate it revoked gets no
// token.
func TestIntelStatus(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	hardware := at.NewMachine(t).Intel()
	outOfDate := at.TCBInfo(func(i *intel.TCBInfo) {
		for n := range i.TCBLevels {
			i.TCBLevels[n].TCBStatus = "OutOfDate"
		}
	})
	revoked := at.CRL(intel.NamePCKCRL, func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, intel.Revoked(hardware.Certificate(intel.PCK), time.Now().Add(-time.Hour)))
	})
	const released, forbidden, refused = "released", "forbidden", "refused"
	for name, c := range map[string]struct {
		asked  bool // the broker asks Intel
		has    []at.IntelOption
		status string // of a policy that wants an up-to-date TCB
		lists  string // of one that wants revocation looked up
		lax    string // of one that asks for neither
	}{
		"up to date":      {true, nil, released, released, released},
		"out of date":     {true, []at.IntelOption{outOfDate}, forbidden, released, released},
		"revoked":         {true, []at.IntelOption{revoked}, refused, refused, refused},
		"Intel is silent": {true, []at.IntelOption{at.NoCollateral()}, forbidden, forbidden, released},
		"nobody is asked": {false, nil, forbidden, forbidden, released},
	} {
		for platform, quote := range map[attestation.Platform]func(testing.TB, attestation.RuntimeData, []byte, ...at.IntelOption) *attestation.Bundle{
			attestation.PlatformTDX: at.TDXBundle, attestation.PlatformSGX: at.SGXBundle,
		} {
			t.Run(name+", "+string(platform), func(t *testing.T) {
				t.Parallel()
				service := at.NewPCS(t, quote(t, at.ReleaseData(t, file), file, c.has...))
				h := newHarness(t, func(config *Config) {
					config.Roots = at.Roots(at.NewMachine(t))
					if c.asked {
						config.Collateral = &collateral.Options{
							Intel: []collateral.IntelSource{{Base: service.URL, RootCRL: service.URL + "/root"}}, Store: collateral.Memory(), TCB: true, Revocation: true,
						}
					}
				})
				client := h.client(good)
				client.Config = wire.ConfigurationHash(file)
				client.Evidence = func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
					r, err := attestation.ParseRuntimeData(runtimeData)
					if err != nil {
						return nil, err
					}
					return quote(t, *r, file), nil
				}
				status := map[attestation.Platform]string{attestation.PlatformTDX: "attester_tcb_status", attestation.PlatformSGX: "x-passclave-tcb-status"}[platform]
				for _, p := range []struct {
					key, want string
					clauses   map[string]any
				}{
					{"lax", c.lax, map[string]any{claimSimulated: true}},
					{"lists", c.lists, map[string]any{claimSimulated: true, "x-passclave-revocation-checked": true}},
					{"status", c.status, map[string]any{claimSimulated: true, status: "UpToDate"}},
				} {
					client.Service.Key = p.key
					if _, err := h.store.Create(t.Context(), p.key, releasepolicy.Require(h.url, p.clauses), false); err != nil {
						t.Fatal(err)
					}
					got := released
					_, err := client.Release(t.Context())
					var e *keyrelease.Error
					switch {
					case errors.Is(err, &keyrelease.Error{Reason: keyrelease.ReasonForbidden}):
						got = forbidden
					case errors.As(err, &e) && e.Step == keyrelease.StepAttest && e.Status == 400:
						got = refused
					case err != nil:
						t.Fatal(err)
					}
					if got != p.want {
						t.Errorf("%s: %s", p.key, got)
					}
				}
				if c.asked != (service.Asked.Load() > 0) || service.Asked.Load() > 12 {
					t.Errorf("Intel was asked %d times", service.Asked.Load())
				}
			})
		}
	}
}
