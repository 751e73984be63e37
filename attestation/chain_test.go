package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/attestation/simtee/machine"
	"github.com/passclave/passclave/wire"
)

// stranger is hardware under a root that nobody names.
var stranger = sync.OnceValues(func() (*machine.Machine, error) { return machine.FoundFast(time.Now()) })

func TestChain(t *testing.T) {
	t.Parallel()
	other, err := stranger()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := at.NewMachine(t).Certificates(), other.Certificates()
	amd, err := trust.GetDefaultRootCerts("Milan")
	if err != nil {
		t.Fatal(err)
	}
	ark := amd.ProductCerts.Ark.Raw
	for name, c := range map[string]struct {
		certificates [][]byte
		want         attestation.Check
	}{
		"self-made":                {theirs, attestation.CheckRoot},
		"self-made under our root": {[][]byte{theirs[0], theirs[1], ours[2]}, attestation.CheckChain},
		"self-made under our ASK":  {[][]byte{theirs[0], ours[1], ours[2]}, attestation.CheckChain},
		"self-made under AMD's":    {[][]byte{theirs[0], theirs[1], ark}, attestation.CheckChain},
		"and under AMD's ASK":      {[][]byte{theirs[0], amd.ProductCerts.Ask.Raw, ark}, attestation.CheckChain},
		"root first":               {[][]byte{ours[2], ours[1], theirs[0]}, attestation.CheckRoot},
		"ASK as VCEK":              {[][]byte{ours[1], ours[1], ours[2]}, attestation.CheckChain},
		"ARK as ASK":               {[][]byte{theirs[0], ours[2], ours[2]}, attestation.CheckChain},
		"none":                     {nil, attestation.CheckChain},
		"VCEK alone":               {theirs[:1], attestation.CheckChain},
		"no root":                  {theirs[:2], attestation.CheckChain},
		"a fourth":                 {append(bytes4(theirs), ours[2]), attestation.CheckChain},
		"not DER":                  {[][]byte{theirs[0], []byte("ASK"), ours[2]}, attestation.CheckChain},
		"trailing byte":            {[][]byte{append(bytes.Clone(theirs[0]), 0), ours[1], ours[2]}, attestation.CheckChain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bundle(t, at.On(other))
			b.Certificates = c.certificates
			_, err := genuine(t, b)
			wantCheck(t, err, c.want)
		})
	}
}

func bytes4(list [][]byte) [][]byte { return append(make([][]byte, 0, 4), list...) }

// forgery is a chain whose root is trusted, with one certificate that is not what
// AMD issues: each change has to be seen by itself.
type forgery struct {
	ark, ask, vcek *x509.Certificate // templates
	curve          elliptic.Curve
	report         []at.Option
}

var forgeryKeys = sync.OnceValues(func() ([2]*rsa.PrivateKey, error) {
	ark, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return [2]*rsa.PrivateKey{}, err
	}
	ask, err := rsa.GenerateKey(rand.Reader, 2048)
	return [2]*rsa.PrivateKey{ark, ask}, err
})

// verify makes the chain and a report signed with it, and verifies them.
func (f *forgery) verify(t *testing.T) error {
	t.Helper()
	keys, err := forgeryKeys()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(f.curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var parsed [3]*x509.Certificate
	issue := func(i int, template, parent *x509.Certificate, public any, by *rsa.PrivateKey) {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		if parsed[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	issue(2, f.ark, f.ark, &keys[0].PublicKey, keys[0])
	issue(1, f.ask, parsed[2], &keys[1].PublicKey, keys[0])
	issue(0, f.vcek, parsed[1], &key.PublicKey, keys[1])

	report := bytes.Clone(bundle(t, f.report...).Report)
	digest := sha512.Sum384(abi.SignedComponent(report))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := abi.SetSignature(r, s, report); err != nil {
		t.Fatal(err)
	}
	roots := attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(parsed[2].Raw)}}
	_, err = attestation.VerifySNP(report, [][]byte{parsed[0].Raw, parsed[1].Raw, parsed[2].Raw}, roots, time.Now())
	return err
}

// newForgery returns templates of a genuine chain for the chip of the tests.
func newForgery(t *testing.T) *forgery {
	t.Helper()
	f := &forgery{curve: elliptic.P384()}
	for i, c := range []**x509.Certificate{&f.vcek, &f.ask, &f.ark} {
		old, err := x509.ParseCertificate(at.NewMachine(t).Certificates()[i])
		if err != nil {
			t.Fatal(err)
		}
		*c = &x509.Certificate{
			Subject: old.Subject, NotBefore: old.NotBefore, NotAfter: old.NotAfter, SignatureAlgorithm: old.SignatureAlgorithm,
			IsCA: old.IsCA, BasicConstraintsValid: old.BasicConstraintsValid, KeyUsage: old.KeyUsage,
		}
		for _, e := range old.Extensions {
			if len(e.Id) > 4 { // AMD's own, 1.3.6.1.4.1.3704
				(*c).ExtraExtensions = append((*c).ExtraExtensions, e)
			}
		}
	}
	return f
}

func TestForgedChain(t *testing.T) {
	t.Parallel()
	if err := newForgery(t).verify(t); err != nil {
		t.Fatalf("without a change: %v", err)
	}
	past := time.Now().Add(-time.Minute)
	for name, c := range map[string]struct {
		change func(*forgery)
		want   attestation.Check
	}{
		"ARK expired":        {func(f *forgery) { f.ark.NotAfter = past }, attestation.CheckValidity},
		"ASK expired":        {func(f *forgery) { f.ask.NotAfter = past }, attestation.CheckValidity},
		"VCEK expired":       {func(f *forgery) { f.vcek.NotAfter = past }, attestation.CheckValidity},
		"VCEK not yet":       {func(f *forgery) { f.vcek.NotBefore = time.Now().Add(time.Minute) }, attestation.CheckValidity},
		"ASK is no CA":       {func(f *forgery) { f.ask.IsCA, f.ask.KeyUsage = false, x509.KeyUsageDigitalSignature }, attestation.CheckChain},
		"ASK of VLEKs":       {func(f *forgery) { f.ask.Subject.CommonName = "SEV-VLEK-Milan" }, attestation.CheckChain},
		"ASK of Genoa":       {func(f *forgery) { f.ask.Subject.CommonName = "SEV-Genoa" }, attestation.CheckChain},
		"ASK not AMD's name": {func(f *forgery) { f.ask.Subject.Organization = []string{"Other"} }, attestation.CheckChain},
		"ASK too large": {func(f *forgery) {
			f.ask.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, 4096)}}
		}, attestation.CheckChain},
		"VCEK's name":         {func(f *forgery) { f.vcek.Subject.CommonName = "SEV-VLEK" }, attestation.CheckChain},
		"VCEK not AMD's name": {func(f *forgery) { f.vcek.Subject.Locality = []string{"Elsewhere"} }, attestation.CheckChain},
		"VCEK not PSS":        {func(f *forgery) { f.vcek.SignatureAlgorithm = x509.SHA384WithRSA }, attestation.CheckChain},
		"VCEK with SHA-256":   {func(f *forgery) { f.vcek.SignatureAlgorithm = x509.SHA256WithRSAPSS }, attestation.CheckChain},
		"VCEK on P-256":       {func(f *forgery) { f.curve = elliptic.P256() }, attestation.CheckChain},
		"VCEK with key usage": {func(f *forgery) { f.vcek.KeyUsage = x509.KeyUsageDigitalSignature }, attestation.CheckChain},
		"VCEK of an unknown": {func(f *forgery) { // only version 2 asks the certificate for the product
			f.report = []at.Option{version2}
			f.vcek.ExtraExtensions[1].Value = []byte("\x16\x08Naple-B1")
		}, attestation.CheckPlatform},
		"VCEK without stepping":    {func(f *forgery) { f.vcek.ExtraExtensions[1].Value = []byte("\x16\x05Milan") }, attestation.CheckChain},
		"VCEK's product in UTF-8":  {func(f *forgery) { f.vcek.ExtraExtensions[1].Value = []byte("\x0c\x08Milan-B1") }, attestation.CheckChain},
		"VCEK's product and more":  {func(f *forgery) { f.vcek.ExtraExtensions[1].Value = []byte("\x16\x08Milan-B1\x05\x00") }, attestation.CheckChain},
		"VCEK of a large level":    {func(f *forgery) { f.vcek.ExtraExtensions[2].Value = []byte{2, 2, 1, 4} }, attestation.CheckChain},
		"VCEK of a negative level": {func(f *forgery) { f.vcek.ExtraExtensions[2].Value = []byte{2, 1, 0x84} }, attestation.CheckChain},
		"VCEK of a level and more": {func(f *forgery) { f.vcek.ExtraExtensions[2].Value = []byte{2, 1, 4, 5, 0} }, attestation.CheckChain},
		"VCEK of a short chip ID": {func(f *forgery) {
			f.vcek.ExtraExtensions[len(f.vcek.ExtraExtensions)-1].Value = []byte{4, 7, 1, 2, 3, 4, 5, 6, 7}
		}, attestation.CheckChain},
		"VCEK without one level": {func(f *forgery) { f.vcek.ExtraExtensions = slices.Delete(f.vcek.ExtraExtensions, 2, 3) }, attestation.CheckChain},
		"VCEK without levels":    {func(f *forgery) { f.vcek.ExtraExtensions = f.vcek.ExtraExtensions[:2] }, attestation.CheckChain},
		"VCEK without chip": {func(f *forgery) {
			f.vcek.ExtraExtensions = f.vcek.ExtraExtensions[:len(f.vcek.ExtraExtensions)-1]
		}, attestation.CheckChain},
		"VCEK of other levels": {func(f *forgery) { f.vcek.ExtraExtensions[2].Value = []byte{2, 1, 5} }, attestation.CheckTCB},
		"VCEK of another chip": {func(f *forgery) {
			f.vcek.ExtraExtensions[len(f.vcek.ExtraExtensions)-1].Value = make([]byte, 64)
		}, attestation.CheckChip},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForgery(t)
			c.change(f)
			wantCheck(t, f.verify(t), c.want)
		})
	}
}
