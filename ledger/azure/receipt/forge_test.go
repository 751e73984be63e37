package receipt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// identity is a key with its certificate.
type identity struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func (i *identity) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})
}

func p256(t testing.TB) crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ed(t testing.TB) crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// certify has an identity's key certified; by nobody, by itself.
func certify(t testing.TB, key crypto.Signer, name string, ca bool, by *identity) *identity {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true, MaxPathLenZero: ca,
		NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(1e9+1, 0), // long past: receipts outlive certificates
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &identity{key, cert}
}

// forged is a receipt to be signed by whoever: what a test changes before it is
// signed is under the signature, what it changes afterwards is not.
type forged struct {
	transaction, evidence string
	claims                []map[string]any
	noClaims              bool // commit a zero claims digest
	node                  *identity
	endorsers             []*identity
}

func entryClaim(collection, contents string) map[string]any {
	return map[string]any{"kind": "LedgerEntry", "ledgerEntry": map[string]any{
		"protocol": "LedgerEntryV1", "collectionId": collection, "contents": contents,
		"secretKey": base64.StdEncoding.EncodeToString([]byte("a key of these tests")),
	}}
}

func digestClaim(d [32]byte) map[string]any {
	return map[string]any{"kind": "ClaimDigest", "digest": map[string]any{"protocol": "LedgerEntryV1", "value": hex.EncodeToString(d[:])}}
}

func sum(parts ...[]byte) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

func entryDigest(collection, contents string) [32]byte {
	mac := func(s string) []byte {
		h := hmac.New(sha256.New, []byte("a key of these tests"))
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	return sum(mac(collection), mac(contents))
}

// sign returns the receipt as the service would give it, decoded.
func (f forged) sign(t testing.TB) map[string]any {
	t.Helper()
	digests := binary.LittleEndian.AppendUint32(nil, uint32(len(f.claims)))
	for _, c := range f.claims {
		var inner [32]byte
		if e, ok := c["ledgerEntry"].(map[string]any); ok {
			inner = entryDigest(e["collectionId"].(string), e["contents"].(string))
		} else {
			b, _ := hex.DecodeString(c["digest"].(map[string]any)["value"].(string))
			inner = [32]byte(b)
		}
		outer := sum([]byte("LedgerEntryV1"), inner[:])
		digests = append(digests, outer[:]...)
	}
	claims := sum(digests)
	if f.noClaims {
		claims = [32]byte{}
	}
	writes, evidence := sum([]byte("writes")), sum([]byte(f.evidence))
	left, right := sum([]byte("left")), sum([]byte("right"))
	leaf := sum(writes[:], evidence[:], claims[:])
	inner := sum(left[:], leaf[:])
	root := sum(inner[:], right[:])
	signature, err := f.node.key.Sign(rand.Reader, root[:], hashOf(f.node.key))
	if err != nil {
		t.Fatal(err)
	}
	node := sum(f.node.cert.RawSubjectPublicKeyInfo)
	endorsers := []any{}
	for _, e := range f.endorsers {
		endorsers = append(endorsers, string(e.pem()))
	}
	text := func(d [32]byte) string { return hex.EncodeToString(d[:]) }
	out := map[string]any{
		"state": "Ready", "transactionId": f.transaction, "applicationClaims": f.claims,
		"receipt": map[string]any{
			"cert": string(f.node.pem()), "nodeId": text(node), "signature": base64.StdEncoding.EncodeToString(signature),
			"leafComponents":      map[string]any{"writeSetDigest": text(writes), "claimsDigest": text(claims), "commitEvidence": f.evidence},
			"proof":               []any{map[string]any{"left": text(left)}, map[string]any{"right": text(right)}},
			"serviceEndorsements": endorsers,
		},
	}
	return decoded(t, encoded(t, out))
}

func hashOf(k crypto.Signer) crypto.Hash {
	if _, ok := k.(ed25519.PrivateKey); ok {
		return 0
	}
	return crypto.SHA256
}

func encoded(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded(t testing.TB, b []byte) map[string]any {
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
