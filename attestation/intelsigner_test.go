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
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// intelMachine makes evidence of TDX or SGX under a root of its own. A test changes a
// field before it asks for the evidence; everything is signed as it then is.
type intelMachine struct {
	tdx                    bool
	root, ca, pck, tcb     *x509.Certificate // templates
	rootKey, caKey, tcbKey *ecdsa.PrivateKey
	pckKey, attestation    *ecdsa.PrivateKey
	caSigner, pckSigner    *ecdsa.PrivateKey // who signs the certificates; rootKey and caKey otherwise
	tcbSigner, dataSigner  *ecdsa.PrivateKey // rootKey and tcbKey otherwise
	header, body, qe, auth []byte
	unbound                bool                // leave the QE's report data as it is
	raw                    func(q []byte)      // changes the finished quote
	oe                     func(uint64) []byte // header of Open Enclave for a quote of that size, SGX; the right one when nil
	tcbInfo, qeIdentity    map[string]any      // nil: not stapled
	pckCRL, rootCRL        *x509.RevocationList
	pckCRLBy, rootCRLBy    *ecdsa.PrivateKey // nil: caKey and rootKey
	trailer                []byte
	swap                   func([]attestation.Collateral) []attestation.Collateral
	chain                  func([][]byte) [][]byte
	collateralRoot         []byte    // DER; the chain's root otherwise
	certificates           [3][]byte // PCK, CA, root as last issued
}

var intelNow = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func intelSubject(name string) pkix.Name {
	return pkix.Name{CommonName: name, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"}, Country: []string{"US"}}
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

const testFMSPC = "00906ed50000"

func newIntelMachine(t testing.TB, tdx bool) *intelMachine {
	t.Helper()
	m := &intelMachine{tdx: tdx, rootKey: p256(t), caKey: p256(t), tcbKey: p256(t), pckKey: p256(t), attestation: p256(t)}
	cert := func(name string, serial int64, authority bool) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: intelSubject(name), NotBefore: intelNow.AddDate(-1, 0, 0), NotAfter: intelNow.AddDate(1, 0, 0),
			BasicConstraintsValid: true, IsCA: authority, KeyUsage: x509.KeyUsageDigitalSignature, SignatureAlgorithm: x509.ECDSAWithSHA256,
			CRLDistributionPoints: []string{"https://certificates.invalid/list"}, SubjectKeyId: []byte{byte(serial)},
		}
		if authority {
			c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
		return c
	}
	m.root, m.ca = cert("Intel SGX Root CA", 1, true), cert("Intel SGX PCK Platform CA", 2, true)
	m.pck, m.tcb = cert("Intel SGX PCK Certificate", 3, false), cert("Intel SGX TCB Signing", 4, false)
	m.pck.ExtraExtensions = []pkix.Extension{pckExtension(t, testFMSPC, "0000", 11, 5)}

	m.header = make([]byte, 48)
	copy(m.header[12:], unhex("939a7233f79c4ca9940a0db3957f0607"))
	m.header[2] = 2
	m.qe, m.auth = make([]byte, 384), []byte("authentication data")
	m.qe[48] = 0x11 // initialised, may use the provisioning key
	m.qe[258] = 6   // SVN
	name, qe := "SGX", "QE"
	if tdx {
		name, qe = "TDX", "TD_QE"
		m.header[0], m.header[4], m.body = 4, 0x81, make([]byte, 584)
		m.body[0], m.body[1], m.body[2] = 5, 1, 7 // TEE_TCB_SVN: the module's SVN and version
		copy(m.qe[128:], unhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"))
		m.qe[256] = 2
	} else {
		m.header[0], m.body = 3, make([]byte, 384)
		m.body[48] = 5
		copy(m.qe[128:], unhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"))
		m.qe[256] = 1
	}
	m.tcbInfo = map[string]any{
		"id": name, "version": 3, "issueDate": "2026-10-20T00:00:00Z", "nextUpdate": "2026-11-19T00:00:00Z", "fmspc": testFMSPC,
		"pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 17,
		"tcbLevels": []any{
			tcbLevel("UpToDate", "2026-01-01", 11, 5, 5, 1, 7),
			tcbLevel("SWHardeningNeeded", "2025-01-01", 11, 4, 5, 1, 7, "INTEL-SA-00002", "INTEL-SA-00001"),
			tcbLevel("ConfigurationNeeded", "2024-01-01", 11, 3, 5, 1, 7, "INTEL-SA-00003"),
			tcbLevel("OutOfDate", "2023-01-01", 10, 2, 5, 1, 6),
			tcbLevel("Revoked", "2022-01-01", 10, 1, 5, 1, 6),
		},
	}
	if tdx {
		none := make([]byte, 48)
		m.tcbInfo["tdxModule"] = map[string]any{"mrsigner": hex.EncodeToString(none), "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF"}
		m.tcbInfo["tdxModuleIdentities"] = []any{
			map[string]any{"id": "TDX_03", "mrsigner": hex.EncodeToString(none), "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF",
				"tcbLevels": []any{componentLevel("UpToDate", 3)}},
			map[string]any{"id": "TDX_01", "mrsigner": hex.EncodeToString(none), "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF",
				"tcbLevels": []any{componentLevel("UpToDate", 5), componentLevel("OutOfDate", 3, "INTEL-SA-00009")}},
		}
	}
	m.qeIdentity = map[string]any{
		"id": qe, "version": 2, "issueDate": "2026-10-21T00:00:00Z", "nextUpdate": "2026-11-20T00:00:00Z", "tcbEvaluationDataNumber": 18,
		"miscselect": "00000000", "miscselectMask": "FFFFFFFF", "attributes": "11000000000000000000000000000000",
		"attributesMask": "FBFFFFFFFFFFFFFF0000000000000000", "mrsigner": hex.EncodeToString(m.qe[128:160]), "isvprodid": int(m.qe[256]),
		"tcbLevels": []any{componentLevel("UpToDate", 6), componentLevel("OutOfDate", 5, "INTEL-SA-00007"), componentLevel("Revoked", 4)},
	}
	m.pckCRL = &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: intelNow.AddDate(0, 0, -1), NextUpdate: intelNow.AddDate(0, 0, 1)}
	m.rootCRL = &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: intelNow.AddDate(0, 0, -1), NextUpdate: intelNow.AddDate(0, 0, 1)}
	return m
}

func tcbLevel(status, day string, pce, cpu, module, version, loader int, advisories ...string) map[string]any {
	sgx, tdx := make([]any, 16), make([]any, 16)
	for i := range sgx {
		sgx[i], tdx[i] = map[string]any{"svn": 0}, map[string]any{"svn": 0}
	}
	sgx[0], sgx[15] = map[string]any{"svn": cpu}, map[string]any{"svn": cpu}
	tdx[0], tdx[1], tdx[2] = map[string]any{"svn": module}, map[string]any{"svn": version}, map[string]any{"svn": loader}
	return map[string]any{"tcb": map[string]any{"sgxtcbcomponents": sgx, "pcesvn": pce, "tdxtcbcomponents": tdx},
		"tcbDate": day + "T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories}
}

func componentLevel(status string, svn int, advisories ...string) map[string]any {
	return map[string]any{"tcb": map[string]any{"isvsvn": svn}, "tcbDate": "2026-02-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories}
}

// pckExtension is the SGX extension of a PCK certificate; all 16 components are cpu.
func pckExtension(t testing.TB, fmspc, pceID string, pce, cpu int) pkix.Extension {
	t.Helper()
	type item struct {
		ID    asn1.ObjectIdentifier
		Value any
	}
	oid := func(last ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, last...)
	}
	var tcb []item
	for i := 1; i <= 16; i++ {
		tcb = append(tcb, item{oid(2, i), cpu})
	}
	tcb = append(tcb, item{oid(2, 17), pce}, item{oid(2, 18), bytes.Repeat([]byte{byte(cpu)}, 16)})
	var list []asn1.RawValue
	add := func(id asn1.ObjectIdentifier, value any) {
		der, err := asn1.Marshal(struct {
			ID    asn1.ObjectIdentifier
			Value any
		}{id, value})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, asn1.RawValue{FullBytes: der})
	}
	add(oid(1), make([]byte, 16))
	var inner []asn1.RawValue
	for _, i := range tcb {
		der, err := asn1.Marshal(i)
		if err != nil {
			t.Fatal(err)
		}
		inner = append(inner, asn1.RawValue{FullBytes: der})
	}
	add(oid(2), inner)
	add(oid(3), unhex(pceID))
	add(oid(4), unhex(fmspc))
	add(oid(5), asn1.Enumerated(1))
	der, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oid(), Value: der}
}

func or(k, other *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	if k != nil {
		return k
	}
	return other
}

func (m *intelMachine) certify(t testing.TB, c, by *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *intelMachine) issue(t testing.TB) {
	t.Helper()
	m.certificates = [3][]byte{
		m.certify(t, m.pck, m.ca, m.pckKey, or(m.pckSigner, m.caKey)),
		m.certify(t, m.ca, m.root, m.caKey, or(m.caSigner, m.rootKey)),
		m.certify(t, m.root, m.root, m.rootKey, m.rootKey),
	}
}

func rawSign(t testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	t.Helper()
	hash := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	if len(r.Bytes()) <= 32 && len(s.Bytes()) <= 32 { // else a P-384 key, which the format has no place for
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
	}
	return out
}

// report returns the report as a bundle holds it.
func (m *intelMachine) report(t testing.TB) []byte {
	t.Helper()
	m.issue(t)
	public, err := m.attestation.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key, qe := public[1:], bytes.Clone(m.qe)
	if !m.unbound {
		h := sha256.Sum256(append(bytes.Clone(key), m.auth...))
		copy(qe[320:], h[:])
	}
	var chain []byte
	list := m.certificates[:]
	if m.chain != nil {
		list = m.chain(list)
	}
	for _, der := range list {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	le := binary.LittleEndian
	certified := append(qe, rawSign(t, m.pckKey, qe)...)
	certified = append(le.AppendUint16(certified, uint16(len(m.auth))), m.auth...)
	certified = le.AppendUint32(le.AppendUint16(certified, 5), uint32(len(chain)))
	certified = append(certified, chain...)
	signed := append(bytes.Clone(m.header), m.body...)
	signature := append(rawSign(t, m.attestation, signed), key...)
	if m.tdx {
		signature = le.AppendUint32(le.AppendUint16(signature, 6), uint32(len(certified)))
	}
	signature = append(signature, certified...)
	q := append(le.AppendUint32(signed, uint32(len(signature))), signature...)
	q = append(q, m.trailer...)
	if m.raw != nil {
		m.raw(q)
	}
	if m.tdx {
		return q
	}
	if m.oe != nil {
		return append(m.oe(uint64(len(q))), q...)
	}
	return append(le.AppendUint64([]byte{1, 0, 0, 0, 2, 0, 0, 0}, uint64(len(q))), q...)
}

// collateral returns what is stapled; call report first.
func (m *intelMachine) collateral(t testing.TB) []attestation.Collateral {
	t.Helper()
	root := m.certificates[2]
	if m.collateralRoot != nil {
		root = m.collateralRoot
	}
	var list []attestation.Collateral
	signed := func(name, member string, content map[string]any) {
		if content == nil {
			return
		}
		body, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		signature := hex.EncodeToString(rawSign(t, or(m.dataSigner, m.tcbKey), body))
		data := append(append([]byte(`{"`+member+`":`), body...), `,"signature":"`+signature+`"}`...)
		issuer := m.certify(t, m.tcb, m.root, m.tcbKey, or(m.tcbSigner, m.rootKey))
		list = append(list, attestation.Collateral{Name: name, Data: data, Issuer: [][]byte{issuer, root}})
	}
	signed("tcb-info", "tcbInfo", m.tcbInfo)
	signed("qe-identity", "enclaveIdentity", m.qeIdentity)
	revoke := func(name string, crl *x509.RevocationList, template *x509.Certificate, by *ecdsa.PrivateKey) {
		if crl == nil {
			return
		}
		der, err := x509.CreateRevocationList(rand.Reader, crl, template, by)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, attestation.Collateral{Name: name, Data: der})
	}
	revoke("pck-crl", m.pckCRL, m.ca, or(m.pckCRLBy, m.caKey))
	revoke("root-crl", m.rootCRL, m.root, or(m.rootCRLBy, m.rootKey))
	if m.swap != nil {
		list = m.swap(list)
	}
	return list
}

func (m *intelMachine) roots() attestation.Roots {
	return attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(m.certificates[2])}}
}

func (m *intelMachine) verify(t testing.TB) (*attestation.Claims, error) {
	t.Helper()
	report := m.report(t)
	return m.verifyReport(report, m.collateral(t))
}

func (m *intelMachine) verifyReport(report []byte, collateral []attestation.Collateral) (*attestation.Claims, error) {
	if m.tdx {
		return attestation.VerifyTDX(report, collateral, m.roots(), intelNow)
	}
	return attestation.VerifySGX(report, collateral, m.roots(), intelNow)
}
