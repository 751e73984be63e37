package attestation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

// maa is an attestation service of Azure's kind.
type maa struct {
	issuer string
	key    *rsa.PrivateKey
	keys   []byte // JWKS
}

const maaIssuer = "https://shared.test.attest.azure.net"

var newMAA = sync.OnceValue(func() *maa {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	m := &maa{issuer: maaIssuer, key: key}
	m.keys = keySet(jose.JSONWebKey{Key: &key.PublicKey, KeyID: "k1"})
	return m
})

func keySet(keys ...jose.JSONWebKey) []byte {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		panic(err)
	}
	return b
}

func (m *maa) roots() attestation.Roots {
	return attestation.Roots{AttestationServices: []attestation.AttestationService{{Issuer: m.issuer, Keys: m.keys}}}
}

// sign makes a token. header changes what Azure's tokens have there.
func sign(t testing.TB, key jose.SigningKey, header map[jose.HeaderKey]any, claims map[string]any) []byte {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "k1").WithHeader("jku", maaIssuer+"/certs")
	for k, v := range header {
		if v == nil {
			delete(o.ExtraHeaders, k)
			continue
		}
		o.WithHeader(k, v)
	}
	signer, err := jose.NewSigner(key, o)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return []byte(token)
}

func (m *maa) signed(t testing.TB, claims map[string]any) []byte {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: m.key}, nil, claims)
}

var tokenNow = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// tokenClaims are those of an ordinary SEV-SNP guest over runtime data.
func tokenClaims(runtimeData []byte) map[string]any {
	reportData := attestation.ReportData(runtimeData)
	return map[string]any{
		"iss": maaIssuer, "nbf": tokenNow.Add(-time.Minute).Unix(), "iat": tokenNow.Add(-time.Minute).Unix(), "exp": tokenNow.Add(8 * time.Hour).Unix(),
		"jti": "1", "x-ms-ver": "1.0", "x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-uvm",
		"x-ms-policy-hash": "aa", "x-ms-runtime": map[string]any{"purpose": "client"},
		"x-ms-sevsnpvm-launchmeasurement": strings.Repeat("4d", 48), "x-ms-sevsnpvm-hostdata": strings.Repeat("0a", 32),
		"x-ms-sevsnpvm-reportdata": hexOf(reportData[:]), "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-migration-allowed": false,
		"x-ms-sevsnpvm-smt-allowed": true, "x-ms-sevsnpvm-vmpl": 0, "x-ms-sevsnpvm-guestsvn": 22,
		"x-ms-sevsnpvm-bootloader-svn": 3, "x-ms-sevsnpvm-tee-svn": 0, "x-ms-sevsnpvm-snpfw-svn": 8, "x-ms-sevsnpvm-microcode-svn": 115,
		"x-ms-sevsnpvm-familyId": strings.Repeat("01", 16), "x-ms-sevsnpvm-imageId": strings.Repeat("02", 16),
		"x-ms-sevsnpvm-idkeydigest": strings.Repeat("03", 48), "x-ms-sevsnpvm-authorkeydigest": strings.Repeat("04", 48),
	}
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func tokenBundle(t testing.TB, token []byte) *attestation.Bundle {
	t.Helper()
	file := at.Configuration(t)
	return &attestation.Bundle{Platform: attestation.PlatformAzureAttestation, Report: token, RuntimeData: tokenRuntimeData(t), Configuration: file}
}

func tokenRuntimeData(t testing.TB) []byte {
	t.Helper()
	r := at.ReleaseData(t, at.Configuration(t))
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestToken(t *testing.T) {
	t.Parallel()
	m := newMAA()
	b := tokenBundle(t, m.signed(t, tokenClaims(tokenRuntimeData(t))))
	c, err := attestation.Genuine(b, m.roots(), tokenNow)
	if err != nil {
		t.Fatal(err)
	}
	if c.Platform != attestation.PlatformSEVSNP || c.Simulated || c.Debug || c.Migration || !c.SMT || c.GuestSVN != 22 || c.Product != "" || c.ChipID != nil ||
		c.Token == nil || c.Token.Issuer != maaIssuer || c.Token.Compliance != "azure-compliant-uvm" || !c.Token.Expires.Equal(tokenNow.Add(8*time.Hour)) {
		t.Errorf("claims: %+v", c)
	}
	if want := (attestation.TCB{Bootloader: 3, SNP: 8, Microcode: 115}); c.ReportedTCB != want || c.LaunchTCB != want || c.CommittedTCB != want || c.CurrentTCB != want {
		t.Errorf("TCB: %+v", c)
	}
	for name, got := range map[string][]byte{"4d": c.Measurement, "0a": c.HostData, "01": c.FamilyID, "02": c.ImageID, "03": c.IDKeyDigest, "04": c.AuthorKeyDigest} {
		if hexOf(got) != strings.Repeat(name, len(got)) || len(got) == 0 {
			t.Errorf("%s: %x", name, got)
		}
	}
	// Runtime data that the service did not see bound is another's.
	b.RuntimeData = append(b.RuntimeData, ' ')
	_, err = attestation.Genuine(b, m.roots(), tokenNow)
	wantCheck(t, err, attestation.CheckReportData)
}

// The project's own broker signs with ES256, and says when it accepted a simulation.
func TestTokenOfOurBroker(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := tokenClaims(tokenRuntimeData(t))
	claims["x-passclave-simulated"], claims["x-passclave-root"] = true, strings.Repeat("0c", 32)
	token := sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil, claims)
	roots := attestation.Roots{AttestationServices: []attestation.AttestationService{{Issuer: maaIssuer, Keys: keySet(jose.JSONWebKey{Key: &key.PublicKey, KeyID: "k1", Use: "sig", Algorithm: "ES256"})}}}
	c, err := attestation.Genuine(tokenBundle(t, token), roots, tokenNow)
	if err != nil || !c.Simulated || c.Root.String() != strings.Repeat("0c", 32) || c.Signer != "" {
		t.Errorf("%+v, %v", c, err)
	}
	for vlek, want := range map[bool]string{false: attestation.SignerVCEK, true: attestation.SignerVLEK} {
		claims["x-passclave-vlek"] = vlek
		token := sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil, claims)
		if c, err := attestation.Genuine(tokenBundle(t, token), roots, tokenNow); err != nil || c.Signer != want {
			t.Errorf("VLEK %v: signer %q, %v", vlek, c.Signer, err)
		}
	}
}

func TestTokenOfIntel(t *testing.T) {
	t.Parallel()
	m := newMAA()
	data := attestation.ReportData(tokenRuntimeData(t))
	base := func(kind string, more map[string]any) map[string]any {
		c := map[string]any{"iss": maaIssuer, "nbf": tokenNow.Unix(), "exp": tokenNow.Unix() + 60, "x-ms-attestation-type": kind}
		maps.Copy(c, more)
		return c
	}
	h := func(b string, n int) string { return strings.Repeat(b, n) }
	tdx := base("tdxvm", map[string]any{
		"tdx_mrtd": h("01", 48), "tdx_rtmr0": h("02", 48), "tdx_rtmr1": h("03", 48), "tdx_rtmr2": h("04", 48), "tdx_rtmr3": h("05", 48),
		"tdx_mrconfigid": h("06", 48), "tdx_mrowner": h("07", 48), "tdx_mrownerconfig": h("08", 48), "tdx_mrseam": h("09", 48), "tdx_mrsignerseam": h("00", 48),
		"tdx_td_attributes": "0100001000000000", "tdx_xfam": "e718060000000000", "tdx_tee_tcb_svn": h("0b", 16),
		"tdx_report_data": hexOf(data[:]), "attester_tcb_status": "UpToDate",
	})
	sgx := base("sgx", map[string]any{
		"x-ms-sgx-mrenclave": h("01", 32), "x-ms-sgx-mrsigner": h("02", 32), "x-ms-sgx-product-id": 7, "x-ms-sgx-svn": 9, "x-ms-sgx-is-debuggable": true,
		"x-ms-sgx-report-data": hexOf(data[:]), "x-ms-sgx-config-id": h("03", 64), "x-ms-sgx-config-svn": 4, "x-passclave-tcb-status": "OutOfDate",
	})
	c, err := attestation.Genuine(tokenBundle(t, m.signed(t, tdx)), m.roots(), tokenNow)
	if err != nil {
		t.Fatal(err)
	}
	if c.Platform != attestation.PlatformTDX || !c.Debug || c.Migration || c.TDX.Attributes != 0x10000001 || c.TDX.XFAM != 0x618e7 || c.TDX.RTMRs[3][0] != 5 || c.Measurement[0] != 1 ||
		c.HostData[0] != 6 || c.TDX.MRSEAM[0] != 9 || c.Intel.TCBStatus != "UpToDate" {
		t.Errorf("TDX: %+v", c)
	}
	// As of a quote: one of the bits under which a TD is not to be trusted, and a migratable one.
	dangerous := maps.Clone(tdx)
	dangerous["tdx_td_attributes"] = "1000002000000000"
	if c, err := attestation.Genuine(tokenBundle(t, m.signed(t, dangerous)), m.roots(), tokenNow); err != nil || !c.Debug || !c.Migration {
		t.Errorf("TDX: debug %v, migration %v, %v", c.Debug, c.Migration, err)
	}
	c, err = attestation.Genuine(tokenBundle(t, m.signed(t, sgx)), m.roots(), tokenNow)
	if err != nil {
		t.Fatal(err)
	}
	if c.Platform != attestation.PlatformSGX || !c.Debug || c.SGX.ProductID != 7 || c.SGX.SVN != 9 || c.SGX.ConfigSVN != 4 || c.Intel.TCBStatus != "OutOfDate" || c.SGX.MRSigner[0] != 2 || len(c.HostData) != 64 || c.Measurement[0] != 1 {
		t.Errorf("SGX: %+v", c)
	}
	// No claim may be missing: its absence would read as zero.
	for _, all := range []map[string]any{tdx, sgx} {
		for claim := range all {
			if claim == "attester_tcb_status" || claim == "x-passclave-tcb-status" || claim == "x-ms-sgx-config-id" || claim == "x-ms-sgx-config-svn" {
				continue
			}
			without := maps.Clone(all)
			delete(without, claim)
			if _, err := attestation.Genuine(tokenBundle(t, m.signed(t, without)), m.roots(), tokenNow); err == nil {
				t.Errorf("without %s: genuine", claim)
			}
		}
	}
}

func TestTokenRefused(t *testing.T) {
	t.Parallel()
	m := newMAA()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := tokenClaims(tokenRuntimeData(t))
	with := func(claim string, v any) []byte {
		c := maps.Clone(good)
		if c[claim] = v; v == nil {
			delete(c, claim)
		}
		return m.signed(t, c)
	}
	rs256 := jose.SigningKey{Algorithm: jose.RS256, Key: m.key}
	header := func(k jose.HeaderKey, v any) []byte { return sign(t, rs256, map[jose.HeaderKey]any{k: v}, good) }
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	parts := strings.Split(string(m.signed(t, good)), ".")
	public, err := x509.MarshalPKIXPublicKey(&m.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	twice := strings.Replace(string(payload), "{", `{"x-ms-sevsnpvm-is-debuggable":false,`, 1)
	raw := func(payload string) []byte { // signed as it stands
		signer, err := jose.NewSigner(rs256, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign([]byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		s, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return []byte(s)
	}
	for name, test := range map[string]struct {
		token []byte
		want  attestation.Check
	}{
		"empty":                           {nil, attestation.CheckToken},
		"no JWT":                          {[]byte("token"), attestation.CheckToken},
		"too large":                       {[]byte(strings.Repeat("a", 128<<10) + "." + parts[1] + "." + parts[2]), attestation.CheckToken},
		"a large claim":                   {with("x-large", strings.Repeat("a", 128<<10)), attestation.CheckToken},
		"alg none":                        {[]byte(part(`{"alg":"none","kid":"k1"}`) + "." + parts[1] + "."), attestation.CheckToken},
		"HS256 with the public key":       {sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: public}, nil, good), attestation.CheckToken},
		"PS256":                           {sign(t, jose.SigningKey{Algorithm: jose.PS256, Key: m.key}, nil, good), attestation.CheckToken},
		"payload is a list":               {raw(`[]`), attestation.CheckToken},
		"a claim twice":                   {raw(twice), attestation.CheckToken},
		"claim in another case":           {raw(strings.Replace(string(payload), "is-debuggable", "Is-Debuggable", 1)), attestation.CheckToken},
		"claim of another type":           {with("x-ms-sevsnpvm-is-debuggable", "false"), attestation.CheckToken},
		"hex of another size":             {with("x-ms-sevsnpvm-launchmeasurement", "4d"), attestation.CheckToken},
		"hex and more":                    {with("x-ms-sevsnpvm-hostdata", strings.Repeat("0a", 32)+"z"), attestation.CheckToken},
		"no hex":                          {with("x-ms-sevsnpvm-hostdata", strings.Repeat("zz", 32)), attestation.CheckToken},
		"SVN past a byte":                 {with("x-ms-sevsnpvm-snpfw-svn", 264), attestation.CheckToken},
		"guest behind a paravisor":        {with("x-ms-attestation-type", "azurevm"), attestation.CheckToken},
		"another TEE":                     {with("x-ms-attestation-type", "vbs"), attestation.CheckToken},
		"no TEE":                          {with("x-ms-attestation-type", nil), attestation.CheckToken},
		"another issuer":                  {with("iss", "https://other.test.attest.azure.net"), attestation.CheckTokenIssuer},
		"issuer with a slash":             {with("iss", maaIssuer+"/"), attestation.CheckTokenIssuer},
		"no issuer":                       {with("iss", nil), attestation.CheckTokenIssuer},
		"jku elsewhere":                   {header("jku", "https://evil.example/certs"), attestation.CheckTokenIssuer},
		"jku below":                       {header("jku", maaIssuer+"/certs/../evil"), attestation.CheckTokenIssuer},
		"jku is a number":                 {header("jku", 1), attestation.CheckTokenIssuer},
		"unknown key":                     {header("kid", "k2"), attestation.CheckTokenSignature},
		"no key ID":                       {header("kid", nil), attestation.CheckTokenSignature},
		"another's key under the ID":      {sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: other}, nil, good), attestation.CheckTokenSignature},
		"another payload":                 {[]byte(parts[0] + "." + part(strings.Replace(string(payload), "4d", "4e", 1)) + "." + parts[2]), attestation.CheckTokenSignature},
		"expired":                         {with("exp", tokenNow.Unix()), attestation.CheckTokenTime},
		"not yet":                         {with("nbf", tokenNow.Unix()+1), attestation.CheckTokenTime},
		"without an end":                  {with("exp", nil), attestation.CheckTokenTime},
		"without a beginning":             {with("nbf", nil), attestation.CheckTokenTime},
		"over other report data":          {with("x-ms-sevsnpvm-reportdata", strings.Repeat("00", 64)), attestation.CheckReportData},
		"ES256 in the name of an RSA key": {[]byte(part(`{"alg":"ES256","kid":"k1"}`) + "." + parts[1] + "." + parts[2]), attestation.CheckTokenSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := attestation.Genuine(tokenBundle(t, test.token), m.roots(), tokenNow)
			wantCheck(t, err, test.want)
		})
	}
	for claim := range good { // may be missing, and reads as nothing then
		if !strings.HasSuffix(claim, "Id") && !strings.HasSuffix(claim, "keydigest") {
			continue
		}
		c, err := attestation.Genuine(tokenBundle(t, with(claim, nil)), m.roots(), tokenNow)
		if err != nil || c.FamilyID != nil && c.ImageID != nil && c.IDKeyDigest != nil && c.AuthorKeyDigest != nil {
			t.Errorf("without %s: %v", claim, err)
		}
	}
	for claim := range good {
		switch claim {
		case "iat", "jti", "x-ms-ver", "x-ms-policy-hash", "x-ms-runtime", "x-ms-compliance-status",
			"x-ms-sevsnpvm-familyId", "x-ms-sevsnpvm-imageId", "x-ms-sevsnpvm-idkeydigest", "x-ms-sevsnpvm-authorkeydigest":
			continue
		}
		if _, err := attestation.Genuine(tokenBundle(t, with(claim, nil)), m.roots(), tokenNow); err == nil {
			t.Errorf("without %s: genuine", claim)
		}
	}
}

// Keys come from the configured service: what they are is checked too.
func TestTokenKeys(t *testing.T) {
	t.Parallel()
	m := newMAA()
	b := tokenBundle(t, m.signed(t, tokenClaims(tokenRuntimeData(t))))
	public := jose.JSONWebKey{Key: &m.key.PublicKey, KeyID: "k1"}
	encryption := public
	encryption.Use = "enc"
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]byte{
		"none":            nil,
		"no JSON":         []byte("{"),
		"empty":           keySet(),
		"for encryption":  keySet(encryption),
		"private":         keySet(jose.JSONWebKey{Key: m.key, KeyID: "k1"}),
		"two of that ID":  keySet(public, jose.JSONWebKey{Key: &other.PublicKey, KeyID: "k1"}),
		"too many":        keySet(append(slices.Repeat([]jose.JSONWebKey{{Key: &other.PublicKey, KeyID: "k2"}}, 64), public)...),
		"of another kind": keySet(jose.JSONWebKey{Key: &other.PublicKey, KeyID: "k1"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots := attestation.Roots{AttestationServices: []attestation.AttestationService{{Issuer: maaIssuer, Keys: keys}}}
			_, err := attestation.Genuine(b, roots, tokenNow)
			wantCheck(t, err, attestation.CheckTokenSignature)
		})
	}
	_, err = attestation.Genuine(b, attestation.Roots{}, tokenNow)
	wantCheck(t, err, attestation.CheckTokenIssuer)
	// Nor does a key without ID fit a token that names none.
	token := sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: m.key}, map[jose.HeaderKey]any{"kid": nil}, tokenClaims(tokenRuntimeData(t)))
	unnamed := attestation.Roots{AttestationServices: []attestation.AttestationService{{Issuer: maaIssuer, Keys: keySet(jose.JSONWebKey{Key: &m.key.PublicKey})}}}
	_, err = attestation.Genuine(tokenBundle(t, token), unnamed, tokenNow)
	wantCheck(t, err, attestation.CheckTokenSignature)
	// A service without a name is none, also for a token without one.
	nameless := tokenClaims(tokenRuntimeData(t))
	delete(nameless, "iss")
	roots := attestation.Roots{AttestationServices: []attestation.AttestationService{{Keys: m.keys}}}
	token = sign(t, jose.SigningKey{Algorithm: jose.RS256, Key: m.key}, map[jose.HeaderKey]any{"jku": nil}, nameless)
	_, err = attestation.Genuine(tokenBundle(t, token), roots, tokenNow)
	wantCheck(t, err, attestation.CheckTokenIssuer)
	_, err = attestation.Genuine(tokenBundle(t, m.signed(t, map[string]any{})), attestation.Roots{AttestationServices: []attestation.AttestationService{{}}}, tokenNow)
	wantCheck(t, err, attestation.CheckTokenIssuer)
}

func FuzzToken(f *testing.F) {
	m := newMAA()
	good := m.signed(f, tokenClaims(tokenRuntimeData(f)))
	b := tokenBundle(f, good)
	if _, err := attestation.Genuine(b, m.roots(), tokenNow); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, token []byte) {
		changed := *b
		changed.Report = token
		_, err := attestation.Genuine(&changed, m.roots(), tokenNow)
		var e *attestation.Error
		if err == nil && string(token) != string(good) {
			t.Error("another token is genuine")
		}
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%v has no check", err)
		}
	})
}
