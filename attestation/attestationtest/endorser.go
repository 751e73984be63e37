package attestationtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// EKUACI is the extended key usage of who signs ACI's utility VMs.
const EKUACI = "1.3.6.1.4.1.311.76.59.1.2"

// FeedACI is the feed of ACI's utility VMs.
const FeedACI = "ContainerPlat-AMD-UVM"

// Endorsement is an endorsement of a launch measurement to be signed, in the form
// that ACI's reference-info-base64 has. [Endorser.Endorsement] gives an ordinary
// one; tests change what they want to be wrong.
type Endorsement struct {
	Issuer  string // did:x509
	Feed    string
	Signed  time.Time
	Payload []byte
	Chain   [][]byte // x5chain, DER, leaf first

	Protected   map[any]any // what more stands in the protected header, or in the place of what does; nil values take away
	Unprotected map[any]any
	Algorithm   cose.Algorithm
}

// Endorser signs launch measurements as Microsoft does for ACI's utility VMs, under
// a root of its own: root, intermediate, and a leaf that lives for a year.
type Endorser struct {
	Root, Intermediate, Leaf *x509.Certificate

	rootKey, intermediateKey *rsa.PrivateKey
	leafKey                  crypto.Signer
}

// NewEndorser returns the endorser of this process. Its leaf has been valid for half
// a year, and has half a year to go.
func NewEndorser(t testing.TB) *Endorser {
	t.Helper()
	e, err := endorser()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var endorser = sync.OnceValues(func() (*Endorser, error) {
	e := &Endorser{}
	var keys [3]*rsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return nil, err
		}
	}
	e.rootKey, e.intermediateKey, e.leafKey = keys[0], keys[1], keys[2]
	now := time.Now()
	return e, e.issue(now.AddDate(0, -6, 0), now.AddDate(0, 6, 0), EKUACI)
})

func (e *Endorser) issue(notBefore, notAfter time.Time, eku string) error {
	var err error
	if e.Root, err = e.Issue(Authority("Test Supply Chain RSA Root CA"), nil, e.rootKey, e.rootKey); err != nil {
		return err
	}
	if e.Intermediate, err = e.Issue(Authority("Test SCD Products RSA CA"), e.Root, e.intermediateKey, e.rootKey); err != nil {
		return err
	}
	e.Leaf, err = e.Issue(e.LeafTemplate(notBefore, notAfter, eku), e.Intermediate, e.leafKey, e.intermediateKey)
	return err
}

// Renewed returns an endorser with the same authorities and keys but another leaf.
func (e *Endorser) Renewed(t testing.TB, notBefore, notAfter time.Time, eku string) *Endorser {
	t.Helper()
	other := *e
	leaf, err := e.Issue(e.LeafTemplate(notBefore, notAfter, eku), e.Intermediate, e.leafKey, e.intermediateKey)
	if err != nil {
		t.Fatal(err)
	}
	other.Leaf = leaf
	return &other
}

// WithKey returns an endorser with the same authorities whose leaf has another key, RSA
// or ECDSA.
func (e *Endorser) WithKey(t testing.TB, key crypto.Signer) *Endorser {
	t.Helper()
	other := *e
	other.leafKey = key
	return other.Renewed(t, e.Leaf.NotBefore, e.Leaf.NotAfter, EKUACI)
}

// Reissued returns an endorser whose certificates were made anew from changed
// templates, with the same keys: a root that is another one.
func (e *Endorser) Reissued(t testing.TB, change func(root, intermediate, leaf *x509.Certificate)) *Endorser {
	t.Helper()
	root, intermediate := Authority(e.Root.Subject.CommonName), Authority(e.Intermediate.Subject.CommonName)
	leaf := e.LeafTemplate(e.Leaf.NotBefore, e.Leaf.NotAfter, EKUACI)
	change(root, intermediate, leaf)
	other := *e
	var err error
	for _, step := range []struct {
		out      **x509.Certificate
		template *x509.Certificate
		parent   **x509.Certificate
		key      crypto.Signer
		by       *rsa.PrivateKey
	}{
		{&other.Root, root, nil, e.rootKey, e.rootKey},
		{&other.Intermediate, intermediate, &other.Root, e.intermediateKey, e.rootKey},
		{&other.Leaf, leaf, &other.Intermediate, e.leafKey, e.intermediateKey},
	} {
		var parent *x509.Certificate
		if step.parent != nil {
			parent = *step.parent
		}
		if *step.out, err = e.Issue(step.template, parent, step.key, step.by); err != nil {
			t.Fatal(err)
		}
	}
	return &other
}

// Authority returns a template of a certificate authority.
func Authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{Country: []string{"US"}, Organization: []string{"Test"}, CommonName: name},
		NotBefore: time.Now().AddDate(-5, 0, 0), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SignatureAlgorithm: x509.SHA384WithRSA,
	}
}

// LeafTemplate returns a template of what signs endorsements.
func (e *Endorser) LeafTemplate(notBefore, notAfter time.Time, eku string) *x509.Certificate {
	var id asn1.ObjectIdentifier
	for _, part := range splitOID(eku) {
		id = append(id, part)
	}
	return &x509.Certificate{
		Subject:   pkix.Name{Country: []string{"US"}, Organization: []string{"Test"}, CommonName: "ContainerPlat"},
		NotBefore: notBefore, NotAfter: notAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{id}, SignatureAlgorithm: x509.SHA384WithRSA,
	}
}

func splitOID(s string) (out []int) {
	n := 0
	for _, c := range s {
		if c == '.' {
			out, n = append(out, n), 0
			continue
		}
		n = n*10 + int(c-'0')
	}
	return append(out, n)
}

// Issue signs a template; a nil parent means by itself.
func (e *Endorser) Issue(template, parent *x509.Certificate, key crypto.Signer, by *rsa.PrivateKey) (*x509.Certificate, error) {
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Issuer returns the did:x509 of who has eku under the root.
func (e *Endorser) Issuer(eku string) string {
	fingerprint := sha256.Sum256(e.Root.Raw)
	return "did:x509:0:sha256:" + base64.RawURLEncoding.EncodeToString(fingerprint[:]) + "::eku:" + eku
}

// Endorsement returns an ordinary endorsement of a launch measurement, signed now.
func (e *Endorser) Endorsement(measurement []byte, svn uint64) *Endorsement {
	return &Endorsement{
		Issuer: e.Issuer(EKUACI), Feed: FeedACI, Signed: time.Now().Truncate(time.Second),
		Payload: []byte(fmt.Sprintf("{\n  \"x-ms-sevsnpvm-guestsvn\": \"%d\",\n  \"x-ms-sevsnpvm-launchmeasurement\": %q\n}", svn, hex.EncodeToString(measurement))),
		Chain:   [][]byte{e.Leaf.Raw, e.Intermediate.Raw, e.Root.Raw},
	}
}

// Endorse signs an ordinary endorsement of a launch measurement.
func (e *Endorser) Endorse(t testing.TB, measurement []byte, svn uint64) []byte {
	t.Helper()
	return e.Sign(t, e.Endorsement(measurement, svn))
}

// Sign signs an endorsement by the leaf's key, whatever stands in it.
func (e *Endorser) Sign(t testing.TB, x *Endorsement) []byte {
	t.Helper()
	alg := x.Algorithm
	if alg == 0 {
		alg = cose.AlgorithmPS384
	}
	signer, err := cose.NewSigner(alg, e.leafKey)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.NewSign1Message()
	m.Payload = x.Payload
	m.Headers.Protected = cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: alg, cose.HeaderLabelContentType: "application/json", cose.HeaderLabelX5Chain: x.Chain,
		"iss": x.Issuer, "feed": x.Feed, "signingtime": cbor.Tag{Number: 1, Content: x.Signed.Unix()},
	}
	for name, v := range x.Protected {
		if v == nil {
			delete(m.Headers.Protected, name)
			continue
		}
		m.Headers.Protected[name] = v
	}
	m.Headers.Unprotected = cose.UnprotectedHeader{}
	for name, v := range x.Unprotected {
		m.Headers.Unprotected[name] = v
	}
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	out, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
