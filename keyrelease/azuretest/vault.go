package azuretest

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP of CKM_RSA_AES_KEY_WRAP
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Release is what a release is answered with, as a test may change it.
type Release struct {
	KID, RequestKID string // of the key released, and as the request is repeated
	Kty             string
	Enc             string
	Nonce           any // nil leaves it out
	Created         int64
	Plain           []byte         // what is wrapped
	To              *rsa.PublicKey // whom it is wrapped to
	Algorithm       jose.SignatureAlgorithm
	Host            string // whom the signer's certificate is for
}

// Put makes a key, or a further version of it, of kty "oct-HSM" (a key of 32 bytes) or
// "RSA-HSM", and returns the version and what is inside of it: the 32 bytes, or PKCS#8.
func (a *Azure) Put(name, kty string, policy []byte) (id string, plain []byte) {
	plain = random(32)
	if kty == "RSA-HSM" {
		plain = must(x509.MarshalPKCS8PrivateKey(must(rsa.GenerateKey(rand.Reader, 2048))))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	v := &version{
		id: hex.EncodeToString(random(16)), created: time.Now().Unix() + int64(len(a.keys[name])), enabled: true,
		kty: kty, plain: plain, policy: policy,
	}
	a.keys[name] = append(a.keys[name], v)
	return v.id, plain
}

// Enable switches a version.
func (a *Azure) Enable(name, id string, enabled bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.keys[name] {
		if v.id == id {
			v.enabled = enabled
		}
	}
}

// vault is the Managed HSM's data plane.
func (a *Azure) vault(r *http.Request, body []byte) (any, *refusal) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || a.access[bearer] != a.Audience {
		no := refuse(http.StatusUnauthorized, "Unauthorized", "AKV10022: Invalid audience. Expected "+a.Audience)
		no.header = http.Header{"Www-Authenticate": {fmt.Sprintf(`Bearer authorization="https://login.microsoftonline.com/tenant", resource=%q`, a.Audience)}}
		return nil, no
	}
	api := r.URL.Query().Get("api-version")
	if !slices.Contains([]string{"7.3", "7.4", "7.5", "7.6", "2025-07-01"}, api) {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "api-version")
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 3 || parts[0] != "keys" || a.keys[parts[1]] == nil {
		return nil, refuse(http.StatusNotFound, "KeyNotFound", "a key with this name was not found in this key vault")
	}
	switch {
	case r.Method == http.MethodGet && len(parts) == 3 && parts[2] == "versions":
		if !a.Roles["list"] {
			return nil, refuse(http.StatusForbidden, "Forbidden", "not authorized to perform action Microsoft.KeyVault/managedHsm/keys/read/action")
		}
		return a.list(r, parts[1], api), nil
	case r.Method == http.MethodPost && len(parts) == 4 && parts[3] == "release":
		if !a.Roles["release"] {
			return nil, refuse(http.StatusForbidden, "Forbidden", "not authorized to perform action Microsoft.KeyVault/managedHsm/keys/release/action")
		}
		return a.release(parts[1], parts[2], api, body)
	}
	return nil, refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "not a resource of this server")
}

func (a *Azure) kid(name, id string) string { return a.Vault + "/keys/" + name + "/" + id }

func (v *version) attributes() map[string]any {
	return map[string]any{
		"enabled": v.enabled, "created": v.created, "updated": v.created, "exportable": true,
		"recoverableDays": 90, "recoveryLevel": "Recoverable+Purgeable", "hsmPlatform": "2",
	}
}

// list gives two versions a page, newest first.
func (a *Azure) list(r *http.Request, name, api string) any {
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	versions := slices.Clone(a.keys[name])
	slices.Reverse(versions)
	value := []any{}
	for _, v := range versions[min(skip, len(versions)):min(skip+2, len(versions))] {
		value = append(value, map[string]any{"kid": a.kid(name, v.id), "attributes": v.attributes(), "release_policy": nil})
	}
	var next any
	if skip+2 < len(versions) {
		next = fmt.Sprintf("%s/keys/%s/versions?api-version=%s&$skiptoken=%d", a.Vault, name, api, skip+2)
	}
	return map[string]any{"value": value, "nextLink": next}
}

func (a *Azure) release(name, id, api string, body []byte) (any, *refusal) {
	i := slices.IndexFunc(a.keys[name], func(v *version) bool { return v.id == id })
	if id == "" || i < 0 {
		return nil, refuse(http.StatusNotFound, "KeyNotFound", "no such version")
	}
	v := a.keys[name][i]
	if !v.enabled {
		return nil, refuse(http.StatusForbidden, "KeyDisabled", "the key is disabled")
	}
	var ask map[string]any
	if json.Unmarshal(body, &ask) != nil {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "the body is not JSON")
	}
	enc, _ := ask["enc"].(string)
	if enc == "" {
		enc = "CKM_RSA_AES_KEY_WRAP"
	}
	target, _ := ask["target"].(string)
	claims, no := a.token(target)
	if no != nil {
		return nil, no
	}
	var policy map[string]any
	if json.Unmarshal(v.policy, &policy) != nil || !allowed(policy, claims) {
		return nil, refuse(http.StatusForbidden, "Forbidden", "the target environment attestation statement does not satisfy the release policy")
	}
	to, ok := encryptionKey(claims)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "the attestation statement has no key to encrypt to")
	}
	out := &Release{
		KID: a.kid(name, id), RequestKID: a.kid(name, id), Kty: v.kty, Enc: enc, Nonce: ask["nonce"], Created: v.created,
		Plain: v.plain, To: to, Algorithm: jose.RS256, Host: "127.0.0.1",
	}
	if a.Answer != nil {
		a.Answer(out)
	}
	ciphertext, ok := wrap(out.Enc, out.To, out.Plain)
	if !ok {
		return nil, refuse(http.StatusBadRequest, "BadParameter", "enc")
	}
	return map[string]any{"value": out.sign(api, v, ciphertext)}, nil
}

// sign makes the signed answer (Key Vault REST reference, "Release": its samples).
func (o *Release) sign(api string, v *version, ciphertext []byte) string {
	hsm := must(json.Marshal(map[string]any{
		"schema_version": "1.0", "header": map[string]any{"kid": "TokenKey", "alg": "dir", "enc": o.Enc}, "ciphertext": b64(ciphertext),
	}))
	attributes := v.attributes()
	attributes["created"] = o.Created
	request := map[string]any{"api-version": api, "enc": o.Enc, "kid": o.RequestKID}
	if o.Nonce != nil {
		request["nonce"] = o.Nonce
	}
	payload := must(json.Marshal(map[string]any{
		"request": request,
		"response": map[string]any{"key": map[string]any{
			"attributes":     attributes,
			"key":            map[string]any{"kid": o.KID, "kty": o.Kty, "key_ops": []string{"wrapKey", "unwrapKey"}, "key_hsm": b64(hsm)},
			"release_policy": map[string]any{"contentType": "application/json; charset=utf-8", "data": b64(v.policy), "immutable": v.immutable},
		}},
	}))
	x5c := []string{base64.StdEncoding.EncodeToString(issue(serviceKey().Public(), o.Host))}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: o.Algorithm, Key: serviceKey()}, (&jose.SignerOptions{}).
		WithHeader("kid", "signing").WithHeader("x5t#S256", b64(random(32))).WithHeader("x5c", x5c)))
	return must(must(signer.Sign(payload)).CompactSerialize())
}

// token verifies an attestation token of the one authority that this HSM can reach.
func (a *Azure) token(compact string) (map[string]any, *refusal) {
	no := refuse(http.StatusUnauthorized, "Unauthorized", "the attestation statement is not valid")
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, no
	}
	payload, err := jws.Verify(a.authZ.Public())
	var claims map[string]any
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return nil, no
	}
	if end, _ := claims["exp"].(float64); int64(end) < time.Now().Unix() {
		return nil, no
	}
	return claims, nil
}

// allowed evaluates a release policy (Key Vault, "Policy grammar for secure key release").
func allowed(p map[string]any, claims map[string]any) bool {
	if authority, ok := p["authority"]; ok && authority != claims["iss"] {
		return false
	}
	if some, ok := p["anyOf"].([]any); ok {
		return slices.ContainsFunc(some, func(o any) bool { m, _ := o.(map[string]any); return allowed(m, claims) })
	}
	if all, ok := p["allOf"].([]any); ok {
		return !slices.ContainsFunc(all, func(o any) bool { m, _ := o.(map[string]any); return !allowed(m, claims) })
	}
	name, _ := p["claim"].(string)
	var v any = claims
	if direct, ok := claims[name]; ok {
		v = direct
	} else {
		for part := range strings.SplitSeq(name, ".") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
	}
	want, ok := p["equals"]
	return ok && v != nil && text(v) == text(want)
}

// text is the canonical text of a string, number or boolean.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(must(json.Marshal(v)))
}

// encryptionKey is the first RSA key of the runtime claims that may encrypt.
func encryptionKey(claims map[string]any) (*rsa.PublicKey, bool) {
	runtime, _ := claims["x-ms-runtime"].(map[string]any)
	keys, _ := runtime["keys"].([]any)
	for _, k := range keys {
		m, _ := k.(map[string]any)
		ops, _ := m["key_ops"].([]any)
		n, ok1 := unb64(m["n"])
		e, ok2 := unb64(m["e"])
		if m["kty"] == "RSA" && slices.Contains(ops, any("encrypt")) && ok1 && ok2 {
			return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, true
		}
	}
	return nil, false
}

// wrap is CKM_RSA_AES_KEY_WRAP (PKCS#11 v3.0, section 2.1.21): a fresh AES-256 key under
// OAEP, then the key under it (RFC 5649).
func wrap(enc string, to *rsa.PublicKey, plain []byte) ([]byte, bool) {
	h, ok := map[string]func() hash.Hash{
		"CKM_RSA_AES_KEY_WRAP": sha1.New, "RSA_AES_KEY_WRAP_256": sha256.New, "RSA_AES_KEY_WRAP_384": sha512.New384,
	}[enc]
	if !ok {
		return nil, false
	}
	transport := random(32)
	first := must(rsa.EncryptOAEP(h(), rand.Reader, to, transport, nil))
	return append(first, wrapPadded(transport, plain)...), true
}

// wrapPadded is RFC 5649, section 4.1, for plaintexts of more than eight bytes.
func wrapPadded(kek, plain []byte) []byte {
	block := must(aes.NewCipher(kek))
	padded := append(slices.Clone(plain), make([]byte, (8-len(plain)%8)%8)...)
	n := len(padded) / 8
	a := binary.BigEndian.AppendUint32([]byte{0xA6, 0x59, 0x59, 0xA6}, uint32(len(plain)))
	r := padded
	b := make([]byte, 16)
	for j := range 6 {
		for i := range n {
			copy(b, a)
			copy(b[8:], r[8*i:8*i+8])
			block.Encrypt(b, b)
			t := uint64(n*j + i + 1)
			binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(b)^t)
			copy(r[8*i:], b[8:])
		}
	}
	return append(a, r...)
}
