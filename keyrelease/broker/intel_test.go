package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee/intel"
	"github.com/passclave/passclave/keyrelease"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
	"github.com/passclave/passclave/wire"
)

func repeated(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// intelClaims are genuine claims of a TD or an enclave.
func intelClaims(p attestation.Platform) *attestation.Claims {
	c := &attestation.Claims{Platform: p, Simulated: true, Root: [32]byte{1}, Intel: &attestation.Intel{}, ReportData: [64]byte{9, 63: 9}}
	if p == attestation.PlatformSGX {
		c.Measurement, c.HostData = repeated(1, 32), repeated(2, 64)
		c.SGX = &attestation.SGX{MRSigner: repeated(3, 32), ProductID: 4, SVN: 5, ConfigSVN: 6}
		return c
	}
	c.Measurement, c.HostData = repeated(1, 48), repeated(2, 48)
	c.TDX = &attestation.TDX{
		RTMRs:  [4][]byte{repeated(3, 48), repeated(4, 48), repeated(5, 48), repeated(6, 48)},
		MRSEAM: repeated(7, 48), MRSignerSEAM: repeated(8, 48), MROwner: repeated(0x0a, 48), MROwnerConfig: repeated(0x0b, 48),
		Attributes: 0x10000001, XFAM: 0x61ae7, TEETCBSVN: repeated(0x0c, 16),
	}
	return c
}

// payload returns what a token says.
func payload(t testing.TB, compact string) map[string]any {
	t.Helper()
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (h *harness) tokenOf(t testing.TB, c *attestation.Claims) string {
	t.Helper()
	say := claimsOf(c)
	say.Runtime = goodRuntime()
	token, err := h.tokens.issue(say)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Tokens have Azure's names for TDX and SGX, and none of another platform.
func TestTokenClaimsOfIntel(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	x := func(b string, n int) string { return strings.Repeat(b, n) }
	data := "09" + x("00", 62) + "09"
	for p, want := range map[attestation.Platform]map[string]any{
		attestation.PlatformTDX: {
			"x-ms-attestation-type": "tdxvm", "tdx_mrtd": x("01", 48), "tdx_mrconfigid": x("02", 48),
			"tdx_rtmr0": x("03", 48), "tdx_rtmr1": x("04", 48), "tdx_rtmr2": x("05", 48), "tdx_rtmr3": x("06", 48),
			"tdx_mrseam": x("07", 48), "tdx_mrsignerseam": x("08", 48), "tdx_mrowner": x("0a", 48), "tdx_mrownerconfig": x("0b", 48),
			"tdx_tee_tcb_svn": x("0c", 16), "tdx_td_attributes": "0100001000000000", "tdx_xfam": "e71a060000000000",
			"tdx_report_data": data, "tdx_td_attributes_debug": false, "x-passclave-tdx-migration-allowed": false,
		},
		attestation.PlatformSGX: {
			"x-ms-attestation-type": "sgx", "x-ms-sgx-mrenclave": x("01", 32), "x-ms-sgx-config-id": x("02", 64),
			"x-ms-sgx-mrsigner": x("03", 32), "x-ms-sgx-product-id": 4.0, "x-ms-sgx-svn": 5.0, "x-ms-sgx-config-svn": 6.0,
			"x-ms-sgx-report-data": data, "x-ms-sgx-is-debuggable": false,
		},
	} {
		got := payload(t, h.tokenOf(t, intelClaims(p)))
		for name, v := range want {
			if got[name] != v {
				t.Errorf("%s: %s is %v, want %v", p, name, got[name], v)
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok && (strings.HasPrefix(name, "tdx_") || strings.HasPrefix(name, "x-ms-s")) {
				t.Errorf("%s: has %s", p, name)
			}
		}
		if got["x-passclave-simulated"] != true || got["x-passclave-root"] != "01"+x("00", 31) {
			t.Errorf("%s: %v", p, got)
		}
	}
}

// Debug, migration and simulation are not open on Intel's platforms either, whatever
// the policy leaves out; naming another platform's claim opens nothing. Nor is SEV-SNP's
// key that the machines of a cloud share.
func TestPolicyDefaultsOfIntel(t *testing.T) {
	t.Parallel()
	tdx, sgx := intelClaims(attestation.PlatformTDX), intelClaims(attestation.PlatformSGX)
	with := func(c *attestation.Claims, change func(*attestation.Claims)) *attestation.Claims {
		changed := *c
		change(&changed)
		return &changed
	}
	debug := func(c *attestation.Claims) { c.Debug = true }
	migration := func(c *attestation.Claims) { c.Migration = true }
	snp := &attestation.Claims{Platform: attestation.PlatformSEVSNP, Simulated: true, Signer: attestation.SignerVCEK, SNP: &attestation.SNP{}}
	vlek := with(snp, func(c *attestation.Claims) { c.Signer = attestation.SignerVLEK })
	for name, c := range map[string]struct {
		claims *attestation.Claims
		named  map[string]any
		ok     bool
	}{
		"SNP, VCEK":                 {snp, map[string]any{claimSimulated: true}, true},
		"SNP, VLEK not named":       {vlek, map[string]any{claimSimulated: true}, false},
		"SNP, VLEK named":           {vlek, map[string]any{claimSimulated: true, claimVLEK: true}, true},
		"TDX":                       {tdx, map[string]any{claimSimulated: true}, true},
		"TDX, simulation not named": {tdx, map[string]any{claimType: typeTDX}, false},
		"TDX, debug not named":      {with(tdx, debug), map[string]any{claimSimulated: true}, false},
		"TDX, debug named":          {with(tdx, debug), map[string]any{claimSimulated: true, claimTDXDebuggable: true}, true},
		"TDX, debug of SNP named":   {with(tdx, debug), map[string]any{claimSimulated: true, claimDebuggable: true}, false},
		"TDX, migration not named":  {with(tdx, migration), map[string]any{claimSimulated: true}, false},
		"TDX, migration named":      {with(tdx, migration), map[string]any{claimSimulated: true, claimTDXMigration: true}, true},
		"TDX for SNP":               {tdx, map[string]any{claimSimulated: true, claimType: typeSNP}, false},
		"SGX":                       {sgx, map[string]any{claimSimulated: true}, true},
		"SGX, simulation not named": {sgx, map[string]any{claimType: typeSGX}, false},
		"SGX, debug not named":      {with(sgx, debug), map[string]any{claimSimulated: true}, false},
		"SGX, debug named":          {with(sgx, debug), map[string]any{claimSimulated: true, claimSGXDebuggable: true}, true},
		"SGX, debug of TDX named":   {with(sgx, debug), map[string]any{claimSimulated: true, claimTDXDebuggable: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			token, err := h.tokens.read(h.tokenOf(t, c.claims))
			if err != nil {
				t.Fatal(err)
			}
			v, err := h.store.Create(context.Background(), keyName, releasepolicy.Require(h.url, c.named), false)
			if err != nil {
				t.Fatal(err)
			}
			if err := h.decide(discard(), v, token); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("no platform", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		compact, err := h.tokens.issue(platformClaims{tokenClaims: tokenClaims{Runtime: goodRuntime(), Type: "vbs"}})
		if err != nil {
			t.Fatal(err)
		}
		token, err := h.tokens.read(compact)
		if err != nil {
			t.Fatal(err)
		}
		v, err := h.store.Create(context.Background(), keyName, releasepolicy.Require(h.url, map[string]any{claimSimulated: false}), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.decide(discard(), v, token); err == nil {
			t.Error("released")
		}
	})
}

// Genuine evidence of Intel's platforms gets the key where the policy names what it is,
// and nothing where the measurement is another or the root is not trusted.
func TestIntelRelease(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	hash := wire.ConfigurationHash(file).String()
	for p, c := range map[attestation.Platform]struct {
		claims map[string]any
		bundle func(testing.TB, attestation.RuntimeData, []byte, ...at.IntelOption) *attestation.Bundle
		other  at.IntelOption
	}{
		attestation.PlatformTDX: {map[string]any{
			claimType: typeTDX, "tdx_mrtd": strings.Repeat("4d", 48), "tdx_mrconfigid": hash + strings.Repeat("00", 16),
			claimTDXDebuggable: false, claimSimulated: true,
		}, at.TDXBundle, at.TD(func(r *intel.TDReport) { r.MRTD[0] ^= 1 })},
		attestation.PlatformSGX: {map[string]any{
			claimType: typeSGX, "x-ms-sgx-mrenclave": strings.Repeat("4d", 32), "x-ms-sgx-config-id": hash + strings.Repeat("00", 32),
			claimSGXDebuggable: false, claimSimulated: true,
		}, at.SGXBundle, at.Enclave(func(r *intel.Report) { r.MRENCLAVE[0] ^= 1 })},
	} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, func(c *Config) { c.Roots = at.Roots(at.NewMachine(t)) })
			version := h.create(t, releasepolicy.Require(h.url, c.claims))
			client := func(options ...at.IntelOption) *keyrelease.Client {
				k := h.client(good)
				k.Config = wire.ConfigurationHash(file)
				k.Evidence = func(_ context.Context, runtimeData []byte) (*attestation.Bundle, error) {
					r, err := attestation.ParseRuntimeData(runtimeData)
					if err != nil {
						return nil, err
					}
					return c.bundle(t, *r, file, options...), nil
				}
				return k
			}
			keks, err := client().Release(t.Context())
			if err != nil || len(keks) != 1 || !bytes.Equal(keks[0].Key, h.stored(t, version)) {
				t.Fatalf("%v, %v", keks, err)
			}
			if _, err := client(c.other).Release(t.Context()); !errors.Is(err, &keyrelease.Error{Reason: keyrelease.ReasonForbidden}) {
				t.Errorf("another measurement: %v", err)
			}
			var e *keyrelease.Error
			if _, err := client(at.OnIntel(at.NewIntel(t))).Release(t.Context()); !errors.As(err, &e) || e.Step != keyrelease.StepAttest {
				t.Errorf("another root: %v", err)
			}
		})
	}
}

// Evidence that is not of the endpoint's platform is not genuine there.
func TestAttestEndpointsRefuse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.create(t, h.strict())
	for _, p := range []attestation.Platform{attestation.PlatformTDX, attestation.PlatformSGX} {
		c := h.client(good)
		evidence := c.Evidence
		c.Evidence = func(ctx context.Context, runtimeData []byte) (*attestation.Bundle, error) {
			b, err := evidence(ctx, runtimeData)
			b.Platform = p
			return b, err
		}
		_, err := c.Release(t.Context())
		var e *keyrelease.Error
		if !errors.As(err, &e) || e.Step != keyrelease.StepAttest || e.Status != 400 {
			t.Errorf("%s: %v", p, err)
		}
	}
}
