package broker

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP of CKM_RSA_AES_KEY_WRAP
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A client written from Azure's documents alone, with nothing of this project's
// client, wrapping or wire types: it, too, gets the key, by every algorithm, with
// padded and unpadded base64url, and with a nonce that is a number.
func TestClientFromTheDocuments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		enc   string
		hash  func() hash.Hash
		pad   bool
		nonce any
	}{
		{"RSA_AES_KEY_WRAP_256", sha256.New, false, "nonce-1"},
		{"RSA_AES_KEY_WRAP_384", sha512.New384, true, 1234567},
		{"CKM_RSA_AES_KEY_WRAP", sha1.New, true, "nonce-3"},
	} {
		t.Run(c.enc, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			version := h.create(t, h.strict())
			b64 := base64.RawURLEncoding
			if c.pad {
				b64 = base64.URLEncoding
			}
			enclave, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			call := func(method, path string, body any) map[string]any {
				t.Helper()
				data, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, bytes.NewReader(data))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Content-Type", "application/json")
				res, err := h.http.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				answer, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != 200 {
					t.Fatalf("%s: %d %s %v", path, res.StatusCode, answer, err)
				}
				var m map[string]any
				if err := json.Unmarshal(answer, &m); err != nil {
					t.Fatal(err)
				}
				return m
			}

			runtimeData := fmt.Sprintf(`{"keys":[{"kid":"k1","kty":"RSA","key_ops":["encrypt"],"n":"%s","e":"AQAB"}],"purpose":"release","config":"%s"}`,
				base64.RawURLEncoding.EncodeToString(enclave.N.Bytes()), base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
			evidence := good.evidence([]byte(runtimeData))
			report := fmt.Sprintf(`{"SnpReport":"%s","VcekCertChain":"%s"}`, b64.EncodeToString(evidence.Report), b64.EncodeToString(pemChain(evidence.Certificates)))
			attested := call("POST", "/attest/SevSnpVm?api-version=2022-08-01", map[string]any{
				"report":      b64.EncodeToString([]byte(report)),
				"runtimeData": map[string]any{"data": b64.EncodeToString([]byte(runtimeData)), "dataType": "JSON"},
				"nonce":       c.nonce,
			})

			listed := call("GET", "/keys/"+keyName+"/versions?api-version=7.4", nil)
			kid := listed["value"].([]any)[0].(map[string]any)["kid"].(string)
			if kid != h.url+"/keys/"+keyName+"/"+version {
				t.Fatalf("listed %v", listed)
			}

			released := call("POST", strings.TrimPrefix(kid, h.url)+"/release?api-version=7.4", map[string]any{
				"target": attested["token"], "enc": c.enc, "nonce": c.nonce,
			})
			payload := verifyJWS(t, released["value"].(string))
			request := payload["request"].(map[string]any)
			if request["kid"] != kid || request["enc"] != c.enc || request["api-version"] != "7.4" || request["nonce"] != fmt.Sprint(c.nonce) {
				t.Errorf("request is %v", request)
			}
			bundle := payload["response"].(map[string]any)["key"].(map[string]any)
			jwk := bundle["key"].(map[string]any)
			if jwk["kid"] != kid || jwk["kty"] != "oct-HSM" || bundle["attributes"].(map[string]any)["enabled"] != true {
				t.Errorf("key is %v", bundle)
			}
			policy := bundle["release_policy"].(map[string]any)
			if !bytes.Equal(decode64(t, policy["data"]), h.strict()) {
				t.Errorf("release_policy is %v", policy)
			}
			var hsm map[string]any
			if err := json.Unmarshal(decode64(t, jwk["key_hsm"]), &hsm); err != nil {
				t.Fatal(err)
			}
			ciphertext := decode64(t, hsm["ciphertext"])
			session, err := rsa.DecryptOAEP(c.hash(), nil, enclave, ciphertext[:256], nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := unwrapRFC5649(t, session, ciphertext[256:]); !bytes.Equal(got, h.stored(t, version)) {
				t.Error("another key")
			}
		})
	}
}

func decode64(t *testing.T, v any) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(v.(string))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verifyJWS verifies a compact RS256 JWS under its x5c with the standard library alone.
func verifyJWS(t *testing.T, compact string) map[string]any {
	t.Helper()
	parts := strings.Split(compact, ".")
	var header struct {
		Alg string   `json:"alg"`
		X5C []string `json:"x5c"`
	}
	if err := json.Unmarshal(decode64(t, parts[0]), &header); err != nil || header.Alg != "RS256" || len(header.X5C) == 0 {
		t.Fatalf("header %+v, %v", header, err)
	}
	der, err := base64.StdEncoding.DecodeString(header.X5C[0])
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(testCA().certificate)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(leaf.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], decode64(t, parts[2])); err != nil {
		t.Fatal(err)
	}
	var payload map[string]any
	if err := json.Unmarshal(decode64(t, parts[1]), &payload); err != nil {
		t.Fatal(err)
	}
	return payload
}

// unwrapRFC5649 is section 4.2 for keys of 32 bytes, by index as RFC 3394 writes it.
func unwrapRFC5649(t *testing.T, kek, c []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil || len(c) != 40 {
		t.Fatalf("%d bytes, %v", len(c), err)
	}
	a, r := c[:8], c[8:]
	for j := 5; j >= 0; j-- {
		for i := 4; i >= 1; i-- {
			in := make([]byte, 16)
			binary.BigEndian.PutUint64(in, binary.BigEndian.Uint64(a)^uint64(4*j+i))
			copy(in[8:], r[8*(i-1):8*i])
			block.Decrypt(in, in)
			a = in[:8]
			copy(r[8*(i-1):8*i], in[8:])
		}
	}
	if !bytes.Equal(a, []byte{0xA6, 0x59, 0x59, 0xA6, 0, 0, 0, 32}) {
		t.Fatalf("initial value %x", a)
	}
	return r
}
