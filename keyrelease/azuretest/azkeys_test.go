package azuretest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/keyrelease/audit"
	"github.com/passclave/passclave/keyrelease/azuretest"
	"github.com/passclave/passclave/keyrelease/broker"
	"github.com/passclave/passclave/keyrelease/keystore/file"
	"github.com/passclave/passclave/keyrelease/keywrap"
	"github.com/passclave/passclave/keyrelease/releasepolicy"
)

// credential gives access tokens as azidentity would.
type credential func(audience string) string

func (c credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: c(strings.TrimSuffix(o.Scopes[0], "/.default")), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// A client made with Microsoft's own SDK gets the key from the emulator and from the broker.
func TestAzureSDK(t *testing.T) {
	t.Parallel()
	t.Run("emulator", func(t *testing.T) {
		t.Parallel()
		a := azuretest.New(t, at.Roots(at.NewMachine(t)))
		version, plain := a.Put(keyName, "oct-HSM", releasepolicy.Require(a.Attestation, platforms[attestation.PlatformSEVSNP].claims))
		released := bySDK(t, a.Attestation, a.Vault, a.Roots, version, a.AccessToken)
		if !bytes.Equal(released, plain) {
			t.Error("another key")
		}
	})
	t.Run("broker", func(t *testing.T) {
		t.Parallel()
		url, roots, store := newBroker(t)
		v, err := store.Create(t.Context(), keyName, releasepolicy.Require(url, map[string]any{
			"x-ms-attestation-type": "sevsnpvm", "x-ms-sevsnpvm-is-debuggable": "false", "x-passclave-simulated": true,
		}), false)
		if err != nil {
			t.Fatal(err)
		}
		released := bySDK(t, url, url, roots, v.ID, func(string) string { return "any" })
		if len(released) != 32 {
			t.Errorf("%d bytes", len(released))
		}
	})
}

// bySDK attests by hand, as there is no SDK for it, has azkeys release the key, and unwraps it.
func bySDK(t *testing.T, authority, vault, roots, version string, access credential) []byte {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	web := &http.Client{Transport: transport}

	key := enclaveRSA()
	runtime := attestation.RuntimeData{
		Purpose: attestation.PurposeRelease, Config: make([]byte, 32),
		Keys: []attestation.RSAKey{{KID: "k", Kty: "RSA", KeyOps: []string{"encrypt"}, N: key.N.Bytes(), E: []byte{1, 0, 1}}},
	}
	bundle := platforms[attestation.PlatformSEVSNP].bundle(t, runtime, at.Configuration(t))
	var chain []byte
	for _, der := range bundle.Certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	report, _ := json.Marshal(map[string]string{"SnpReport": b64(bundle.Report), "VcekCertChain": b64(chain)})
	body, _ := json.Marshal(map[string]any{"report": b64(report), "runtimeData": map[string]string{"data": b64(bundle.RuntimeData), "dataType": "JSON"}})
	res, err := web.Post(authority+"/attest/SevSnpVm?api-version=2022-08-01", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var attested struct{ Token string }
	if err := json.NewDecoder(res.Body).Decode(&attested); err != nil || attested.Token == "" {
		t.Fatalf("attest: %d, %v", res.StatusCode, err)
	}

	// The challenge's resource must be a domain of the vault's, which no address has.
	options := &azkeys.ClientOptions{DisableChallengeResourceVerification: true, ClientOptions: azcore.ClientOptions{Transport: web}}
	client, err := azkeys.NewClient(vault, access, options)
	if err != nil {
		t.Fatal(err)
	}
	pager := client.NewListKeyPropertiesVersionsPager(keyName, nil)
	page, err := pager.NextPage(t.Context())
	if err != nil || len(page.Value) != 1 || page.Value[0].KID.Version() != version {
		t.Fatalf("list: %+v, %v", page, err)
	}
	enc := azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP256
	answer, err := client.Release(t.Context(), keyName, version, azkeys.ReleaseParameters{TargetAttestationToken: &attested.Token, Algorithm: &enc, Nonce: to.Ptr("nonce")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(*answer.Value, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var released struct {
		Response struct {
			Key struct {
				Key struct {
					HSM string `json:"key_hsm"`
				} `json:"key"`
			} `json:"key"`
		} `json:"response"`
	}
	var hsm struct{ Ciphertext string }
	if err := json.Unmarshal(payload, &released); err != nil {
		t.Fatal(err)
	}
	inner, err := base64.RawURLEncoding.DecodeString(released.Response.Key.Key.HSM)
	if err != nil || json.Unmarshal(inner, &hsm) != nil {
		t.Fatalf("%s, %v", inner, err)
	}
	ciphertext, err := base64.RawURLEncoding.DecodeString(hsm.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := keywrap.Unwrap(keywrap.RSAAESKeyWrap256, key, ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// newBroker serves a broker over the file store, which believes the tests' machine.
func newBroker(t *testing.T) (url, roots string, store *file.Store) {
	t.Helper()
	certificate, roots := azuretest.Certificate()
	var err error
	if store, err = file.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	url = "https://" + server.Listener.Addr().String()
	trail, err := audit.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	b, err := broker.New(broker.Config{URL: url, Roots: at.Roots(at.NewMachine(t)), Store: store, Audit: trail, Certificate: certificate, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = b
	server.StartTLS()
	t.Cleanup(server.Close)
	return url, roots, store
}
