package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/testing/testdata"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// intelRootDER is Intel's own root, from a real quote.
func intelRootDER(t *testing.T) []byte {
	t.Helper()
	rest := testdata.RawQuote
	var last []byte
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return last
		}
		last = block.Bytes
	}
}

func TestIntelChain(t *testing.T) {
	t.Parallel()
	real := intelRootDER(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	past, future := intelNow.Add(-time.Second), intelNow.Add(time.Second)
	with := func(c *x509.Certificate, size int, critical bool) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: critical, Value: make([]byte, size)})
	}
	eachTEE(t, func(t *testing.T, tdx bool) {
		for name, c := range map[string]struct {
			change func(*intelMachine)
			want   attestation.Check
		}{
			"root expired":           {func(m *intelMachine) { m.root.NotAfter = past }, attestation.CheckValidity},
			"root not yet":           {func(m *intelMachine) { m.root.NotBefore = future }, attestation.CheckValidity},
			"CA expired":             {func(m *intelMachine) { m.ca.NotAfter = past }, attestation.CheckValidity},
			"CA not yet":             {func(m *intelMachine) { m.ca.NotBefore = future }, attestation.CheckValidity},
			"PCK expired":            {func(m *intelMachine) { m.pck.NotAfter = past }, attestation.CheckValidity},
			"PCK not yet":            {func(m *intelMachine) { m.pck.NotBefore = future }, attestation.CheckValidity},
			"root's name":            {func(m *intelMachine) { m.root.Subject.CommonName = "Intel SGX Root" }, attestation.CheckChain},
			"CA's name":              {func(m *intelMachine) { m.ca.Subject.CommonName = "Intel SGX PCK CA" }, attestation.CheckChain},
			"CA not Intel's":         {func(m *intelMachine) { m.ca.Subject.Organization = []string{"Other"} }, attestation.CheckChain},
			"PCK's name":             {func(m *intelMachine) { m.pck.Subject = intelSubject("Intel SGX TCB Signing") }, attestation.CheckChain},
			"PCK not Intel's":        {func(m *intelMachine) { m.pck.Subject.Locality = []string{"Elsewhere"} }, attestation.CheckChain},
			"PCK has one name more":  {func(m *intelMachine) { m.pck.Subject.OrganizationalUnit = []string{"More"} }, attestation.CheckChain},
			"CA is none":             {func(m *intelMachine) { m.ca.IsCA, m.ca.KeyUsage = false, x509.KeyUsageDigitalSignature }, attestation.CheckChain},
			"CA may not sign":        {func(m *intelMachine) { m.ca.KeyUsage = x509.KeyUsageCRLSign }, attestation.CheckChain},
			"PCK is a CA":            {func(m *intelMachine) { m.pck.IsCA, m.pck.KeyUsage = true, x509.KeyUsageCertSign }, attestation.CheckChain},
			"CA by a stranger":       {func(m *intelMachine) { m.caSigner = p256(t) }, attestation.CheckChain},
			"PCK by a stranger":      {func(m *intelMachine) { m.pckSigner = p256(t) }, attestation.CheckChain},
			"PCK by the root":        {func(m *intelMachine) { m.pckSigner = m.rootKey }, attestation.CheckChain},
			"PCK on P-384":           {func(m *intelMachine) { m.pckKey = p384 }, attestation.CheckChain},
			"CA on P-384":            {func(m *intelMachine) { m.caKey, m.pck.SignatureAlgorithm = p384, x509.ECDSAWithSHA256 }, attestation.CheckChain},
			"PCK with SHA-384":       {func(m *intelMachine) { m.pck.SignatureAlgorithm = x509.ECDSAWithSHA384 }, attestation.CheckChain},
			"CA with SHA-512":        {func(m *intelMachine) { m.ca.SignatureAlgorithm = x509.ECDSAWithSHA512 }, attestation.CheckChain},
			"CA too large":           {func(m *intelMachine) { with(m.ca, 4096, false) }, attestation.CheckChain},
			"CA critical":            {func(m *intelMachine) { with(m.ca, 1, true) }, attestation.CheckChain},
			"PCK without extension":  {func(m *intelMachine) { m.pck.ExtraExtensions = nil }, attestation.CheckChain},
			"PCK with one more":      {func(m *intelMachine) { with(m.pck, 1, false) }, attestation.CheckChain},
			"PCK's extension is cut": {func(m *intelMachine) { m.pck.ExtraExtensions[0].Value = m.pck.ExtraExtensions[0].Value[:40] }, attestation.CheckChain},
			"PCK without FMSPC": {func(m *intelMachine) {
				e := m.pck.ExtraExtensions[0].Value
				i := bytes.LastIndex(e, unhex(testFMSPC))
				e[i-3]++ // the last number of the identifier
			}, attestation.CheckChain},
			"PCK by another name": {func(m *intelMachine) {
				other := *m.ca
				other.Subject = intelSubject("Intel SGX PCK Processor CA")
				m.chain = func(l [][]byte) [][]byte {
					return [][]byte{m.certify(t, m.pck, &other, m.pckKey, m.caKey), l[1], l[2]}
				}
			}, attestation.CheckChain},
			"one more": {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return append(l, l[2]) } }, attestation.CheckChain},
			"one less": {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return l[:2] } }, attestation.CheckChain},
			"none":     {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return nil } }, attestation.CheckChain},
			"not DER": {func(m *intelMachine) {
				m.chain = func(l [][]byte) [][]byte { return [][]byte{l[0], []byte("CA"), l[2]} }
			}, attestation.CheckChain},
			"reversed":      {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return [][]byte{l[2], l[1], l[0]} } }, attestation.CheckRoot},
			"swapped":       {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return [][]byte{l[1], l[0], l[2]} } }, attestation.CheckChain},
			"root as CA":    {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return [][]byte{l[0], l[2], l[2]} } }, attestation.CheckChain},
			"under Intel's": {func(m *intelMachine) { m.chain = func(l [][]byte) [][]byte { return [][]byte{l[0], l[1], real} } }, attestation.CheckChain},
			"not certificates": {func(m *intelMachine) {
				m.raw = func(q []byte) { copy(q[bytes.Index(q, []byte("-----BEGIN C")):], "-----BEGIN X") }
			}, attestation.CheckChain},
		} {
			t.Run(name, func(t *testing.T) {
				m := newIntelMachine(t, tdx)
				c.change(m)
				report := m.report(t)
				_, err := m.verifyReport(report, nil)
				wantCheck(t, err, c.want)
			})
		}
	})
}

func TestIntelRootMustBeNamed(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		m, other := newIntelMachine(t, tdx), newIntelMachine(t, tdx)
		report := m.report(t)
		other.report(t)
		verify := attestation.VerifySGX
		if tdx {
			verify = attestation.VerifyTDX
		}
		for name, roots := range map[string]attestation.Roots{
			"none": {}, "other": other.roots(), "zero": {Simulation: []wire.Digest{{}}}, "CA": {Simulation: []wire.Digest{sha256.Sum256(m.certificates[1])}},
		} {
			_, err := verify(report, nil, roots, intelNow)
			t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckRoot) })
		}
	})
}

// SGX has a second authority, for machines that were never registered.
func TestProcessorCA(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, false)
	m.ca.Subject = intelSubject("Intel SGX PCK Processor CA")
	if _, err := m.verify(t); err != nil {
		t.Error(err)
	}
	m = newIntelMachine(t, true)
	m.ca.Subject = intelSubject("Intel SGX PCK Processor CA")
	_, err := m.verify(t)
	wantCheck(t, err, attestation.CheckChain)
}
