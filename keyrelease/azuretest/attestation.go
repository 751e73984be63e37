package azuretest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/passclave/passclave/attestation"
)

// attestation is Azure Attestation's data plane.
func (a *Azure) attestation(r *http.Request, body []byte) (any, *refusal) {
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/.well-known/openid-configuration":
		return map[string]any{"issuer": a.Attestation, "jwks_uri": a.Attestation + "/certs", "response_types_supported": []string{"token", "none"}}, nil
	case r.Method == http.MethodGet && r.URL.Path == "/certs":
		key := jose.JSONWebKey{Key: a.authZ.Public(), KeyID: "azuretest", Use: "sig"}
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}}, nil
	case r.Method != http.MethodPost:
		return nil, refuse(http.StatusNotFound, "NotFound", "no such resource")
	}
	versions := map[string][]string{
		"/attest/SevSnpVm": {"2020-10-01", "2022-08-01"}, "/attest/OpenEnclave": {"2020-10-01", "2022-08-01"}, "/attest/TdxVm": {"2025-06-01"},
	}[r.URL.Path]
	if !slices.Contains(versions, r.URL.Query().Get("api-version")) {
		return nil, refuse(http.StatusBadRequest, "UnsupportedApiVersion", "the api-version is not one of this request")
	}
	var ask map[string]any
	if json.Unmarshal(body, &ask) != nil {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "the body is not JSON")
	}
	runtime, _ := ask["runtimeData"].(map[string]any)
	data, ok := unb64(runtime["data"])
	if !ok || runtime["dataType"] != "JSON" || !json.Valid(data) {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "runtimeData")
	}
	bundle, ok := evidence(r.URL.Path, ask)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "the evidence is not of this endpoint's form")
	}
	bundle.RuntimeData = data
	if _, err := attestation.Genuine(bundle, a.roots, time.Now()); err != nil {
		return nil, refuse(http.StatusBadRequest, "PolicyEvaluationError", "evidence verification failed: "+err.Error())
	}
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": a.Attestation, "iat": now, "nbf": now, "exp": now + 8*3600, "jti": hex.EncodeToString(random(32)),
		"x-ms-ver": "1.0", "x-ms-policy-hash": b64(random(32)), "x-ms-runtime": json.RawMessage(data),
	}
	switch nonce := ask["nonce"].(type) {
	case nil:
	case string, float64:
		claims["nonce"] = nonce
	default:
		return nil, refuse(http.StatusBadRequest, "InvalidParameter", "nonce")
	}
	switch r.URL.Path {
	case "/attest/SevSnpVm":
		snpClaims(claims, bundle.Report)
	case "/attest/TdxVm":
		tdxClaims(claims, bundle.Report)
	default:
		sgxClaims(claims, bundle.Report[16:])
	}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: a.authZ}, (&jose.SignerOptions{}).
		WithHeader("jku", a.Attestation+"/certs").WithHeader("kid", "azuretest").WithType("JWT")))
	token := must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
	return map[string]any{"token": token}, nil
}

// evidence takes the evidence out of a body.
func evidence(path string, ask map[string]any) (*attestation.Bundle, bool) {
	switch path {
	case "/attest/TdxVm":
		quote, ok := unb64(ask["quote"])
		return &attestation.Bundle{Platform: attestation.PlatformTDX, Report: quote}, ok && len(quote) > 632
	case "/attest/OpenEnclave":
		report, ok := unb64(ask["report"])
		return &attestation.Bundle{Platform: attestation.PlatformSGX, Report: report}, ok && len(report) > 16+432
	}
	outer, ok := unb64(ask["report"])
	var report map[string]any
	if !ok || json.Unmarshal(outer, &report) != nil {
		return nil, false
	}
	raw, ok1 := unb64(report["SnpReport"])
	chain, ok2 := unb64(report["VcekCertChain"])
	b := &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: raw}
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		b.Certificates = append(b.Certificates, block.Bytes)
	}
	return b, ok1 && ok2 && len(raw) == 1184
}

// snpClaims reads a report (SEV-SNP ABI 1.55, table 23).
func snpClaims(claims map[string]any, report []byte) {
	policy := binary.LittleEndian.Uint64(report[0x08:])
	x := func(from, n int) string { return hex.EncodeToString(report[from : from+n]) }
	for name, v := range map[string]any{
		"x-ms-attestation-type":           "sevsnpvm",
		"x-ms-compliance-status":          "azure-signed-katacc-uvm",
		"x-ms-sevsnpvm-guestsvn":          binary.LittleEndian.Uint32(report[0x04:]),
		"x-ms-sevsnpvm-familyId":          x(0x10, 16),
		"x-ms-sevsnpvm-imageId":           x(0x20, 16),
		"x-ms-sevsnpvm-vmpl":              binary.LittleEndian.Uint32(report[0x30:]),
		"x-ms-sevsnpvm-reportdata":        x(0x50, 64),
		"x-ms-sevsnpvm-launchmeasurement": x(0x90, 48),
		"x-ms-sevsnpvm-hostdata":          x(0xC0, 32),
		"x-ms-sevsnpvm-idkeydigest":       x(0xE0, 48),
		"x-ms-sevsnpvm-authorkeydigest":   x(0x110, 48),
		"x-ms-sevsnpvm-reportid":          x(0x140, 32),
		"x-ms-sevsnpvm-bootloader-svn":    report[0x180],
		"x-ms-sevsnpvm-tee-svn":           report[0x181],
		"x-ms-sevsnpvm-snpfw-svn":         report[0x186],
		"x-ms-sevsnpvm-microcode-svn":     report[0x187],
		"x-ms-sevsnpvm-is-debuggable":     policy&(1<<19) != 0,
		"x-ms-sevsnpvm-migration-allowed": policy&(1<<18) != 0,
		"x-ms-sevsnpvm-smt-allowed":       policy&(1<<16) != 0,
	} {
		claims[name] = v
	}
}

// tdxClaims reads a quote of version 4 (Intel TDX DCAP Quoting Library API, A.3).
func tdxClaims(claims map[string]any, quote []byte) {
	x := func(from, n int) string { return hex.EncodeToString(quote[48+from : 48+from+n]) }
	for name, v := range map[string]any{
		"x-ms-attestation-type": "tdxvm", "attester_tcb_status": "UpToDate",
		"tdx_tee_tcb_svn": x(0, 16), "tdx_mrseam": x(16, 48), "tdx_mrsignerseam": x(64, 48), "tdx_seam_attributes": x(112, 8),
		"tdx_td_attributes": x(120, 8), "tdx_td_attributes_debug": quote[48+120]&1 != 0, "tdx_xfam": x(128, 8),
		"tdx_mrtd": x(136, 48), "tdx_mrconfigid": x(184, 48), "tdx_mrowner": x(232, 48), "tdx_mrownerconfig": x(280, 48),
		"tdx_rtmr0": x(328, 48), "tdx_rtmr1": x(376, 48), "tdx_rtmr2": x(424, 48), "tdx_rtmr3": x(472, 48), "tdx_report_data": x(520, 64),
	} {
		claims[name] = v
	}
}

// sgxClaims reads a quote of version 3 (Intel SGX ECDSA Quote Library API, A.4).
func sgxClaims(claims map[string]any, quote []byte) {
	x := func(from, n int) string { return hex.EncodeToString(quote[48+from : 48+from+n]) }
	for name, v := range map[string]any{
		"x-ms-attestation-type": "sgx", "x-ms-sgx-is-debuggable": quote[48+48]&2 != 0,
		"x-ms-sgx-mrenclave": x(64, 32), "x-ms-sgx-mrsigner": x(128, 32), "x-ms-sgx-config-id": x(192, 64),
		"x-ms-sgx-product-id": binary.LittleEndian.Uint16(quote[48+256:]), "x-ms-sgx-svn": binary.LittleEndian.Uint16(quote[48+258:]),
		"x-ms-sgx-report-data": x(320, 64), "tee": "sgx",
	} {
		claims[name] = v
	}
	sum := sha256.Sum256(quote)
	claims["x-ms-sgx-collateral"] = map[string]any{"quotehash": base64.RawURLEncoding.EncodeToString(sum[:])}
}
