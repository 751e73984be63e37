package attestationtest

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
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// AMD is a chain of certificates as AMD issues them, for any product line and either
// kind of key, under a root of its own. Its templates may be changed before
// [AMD.Sign] makes certificates of them.
type AMD struct {
	ARK, AS, EK *x509.Certificate // templates; AS is the ASK or ASVK, EK the VCEK or VLEK
	Curve       elliptic.Curve

	report *sevsnp.Report
	keys   [2]*rsa.PrivateKey // of ARK and AS
}

// amdKeys are the same for all chains of the process: they take time.
var amdKeys = sync.OnceValues(func() (out [2]*rsa.PrivateKey, err error) {
	for i := range out {
		if out[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return out, err
		}
	}
	return out, nil
})

// CPUID Fn0000_0001_EAX of each product line.
var processors = map[string]uint32{"Milan": 0x00a00f11, "Genoa": 0x00a10f11, "Turin": 0x00b00f21}

// levels are the security patch levels of a chip, in the order of TCB_VERSION.
var levels = map[string][8]byte{
	"Milan": {4, 0, 0, 0, 0, 0, 24, 219},
	"Genoa": {9, 0, 0, 0, 0, 0, 23, 72},
	"Turin": {1, 2, 3, 4, 0, 0, 0, 70},
}

// arcs are where a certificate has the levels of TCB_VERSION, byte by byte.
var arcs = map[string][8]int{
	"Milan": {1, 2, 4, 5, 6, 7, 3, 8},
	"Genoa": {1, 2, 4, 5, 6, 7, 3, 8},
	"Turin": {9, 1, 2, 3, 5, 6, 7, 8},
}

// NewAMD returns a chain for "Milan", "Genoa" or "Turin".
func NewAMD(t testing.TB, line string, vlek bool) *AMD {
	t.Helper()
	keys, err := amdKeys()
	if err != nil {
		t.Fatal(err)
	}
	a := &AMD{Curve: elliptic.P384(), keys: keys}
	now := time.Now()
	authority := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: amdName(name), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(20, 0, 0),
			SignatureAlgorithm: x509.SHA384WithRSAPSS, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	signer, name, id := "VCEK", "SEV-"+line, line+"-B1"
	if vlek {
		signer, name, id = "VLEK", "SEV-VLEK-"+line, line
	}
	a.ARK, a.AS = authority("ARK-"+line, 0x10000), authority(name, 0x10001)
	a.EK = &x509.Certificate{
		SerialNumber: new(big.Int), Subject: amdName("SEV-" + signer), NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(6, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	chip := bytes.Repeat([]byte{0xc4}, abi.ChipIDSize)
	if line == "Turin" {
		clear(chip[8:])
	}
	a.Extend([]byte{2, 1, 0}, 1)
	a.Extend(ia5(t, id), 2)
	tcb := levels[line]
	for i, arc := range arcs[line] {
		der, err := asn1.Marshal(int(tcb[i]))
		if err != nil {
			t.Fatal(err)
		}
		a.Extend(der, 3, arc)
	}
	if vlek {
		a.Extend(ia5(t, "Test Cloud"), 5)
	} else {
		a.Extend(bytes.TrimRight(chip, "\x00"), 4)
	}
	r, err := NewMachine(t).Template()
	if err != nil {
		t.Fatal(err)
	}
	r.Cpuid1EaxFms, r.ChipId = processors[line], chip
	v := binary.LittleEndian.Uint64(tcb[:])
	r.ReportedTcb, r.CurrentTcb, r.CommittedTcb, r.LaunchTcb = v, v, v, v
	if vlek {
		r.SignerInfo = abi.ComposeSignerInfo(abi.SignerInfo{SigningKey: abi.VlekReportSigner})
	}
	a.report = r
	return a
}

// Rekeyed is a with other keys of its authorities: of another AMD of the same names.
func (a *AMD) Rekeyed(t testing.TB) *AMD {
	t.Helper()
	for i := range a.keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		a.keys[i] = key
	}
	return a
}

// Extend puts an extension into the VCEK or VLEK, or another value into the one that
// stands there; nil takes it away. arc is what follows 1.3.6.1.4.1.3704.1.
func (a *AMD) Extend(value []byte, arc ...int) {
	id := append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
	list := a.EK.ExtraExtensions
	for i := range list {
		if list[i].Id.Equal(id) {
			list[i].Value = value
			if value == nil {
				a.EK.ExtraExtensions = append(list[:i:i], list[i+1:]...)
			}
			return
		}
	}
	a.EK.ExtraExtensions = append(list, pkix.Extension{Id: id, Value: value})
}

// Sign makes the certificates and a report signed with them, after change, which may
// be nil. It returns a bundle without runtime data, and the roots to verify it with.
func (a *AMD) Sign(t testing.TB, change func(*sevsnp.Report)) (*attestation.Bundle, attestation.Roots) {
	t.Helper()
	key, err := ecdsa.GenerateKey(a.Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ark := issue(t, a.ARK, a.ARK, &a.keys[0].PublicKey, a.keys[0])
	as := issue(t, a.AS, ark, &a.keys[1].PublicKey, a.keys[0])
	ek := issue(t, a.EK, as, &key.PublicKey, a.keys[1])
	if change != nil {
		change(a.report)
	}
	report, err := abi.ReportToAbiBytes(a.report)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(abi.SignedComponent(report))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := abi.SetSignature(r, s, report); err != nil {
		t.Fatal(err)
	}
	return &attestation.Bundle{
		Platform: attestation.PlatformSEVSNP, Report: report, Certificates: [][]byte{ek.Raw, as.Raw, ark.Raw},
	}, attestation.Roots{Simulation: []wire.Digest{sha256.Sum256(ark.Raw)}}
}

// CRL returns a revocation list by the ARK of a bundle that [AMD.Sign] has made, over
// the serial numbers.
func (a *AMD) CRL(t testing.TB, b *attestation.Bundle, thisUpdate, nextUpdate time.Time, serials ...*big.Int) attestation.Collateral {
	t.Helper()
	ark, err := x509.ParseCertificate(b.Certificates[2])
	if err != nil {
		t.Fatal(err)
	}
	return a.CRLBy(t, ark, nil, thisUpdate, nextUpdate, serials...)
}

// CRLBy is [AMD.CRL] with any issuer, and any key but nil, which means the ARK's.
func (a *AMD) CRLBy(t testing.TB, issuer *x509.Certificate, key *rsa.PrivateKey, thisUpdate, nextUpdate time.Time, serials ...*big.Int) attestation.Collateral {
	t.Helper()
	list := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: thisUpdate, NextUpdate: nextUpdate, SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: thisUpdate})
	}
	return a.SignCRL(t, list, issuer, key)
}

// SignCRL signs any revocation list, as [AMD.CRLBy] does.
func (a *AMD) SignCRL(t testing.TB, list *x509.RevocationList, issuer *x509.Certificate, key *rsa.PrivateKey) attestation.Collateral {
	t.Helper()
	if key == nil {
		key = a.keys[0]
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return attestation.Collateral{Name: attestation.CollateralAMDCRL, Data: der}
}

// HostAMD returns THIM's JSON for certificates (VCEK, ASK, ARK) and a TCB_VERSION.
func HostAMD(t testing.TB, certificates [][]byte, tcb uint64) []byte {
	t.Helper()
	var text [3]string
	for i, der := range certificates {
		text[i] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	out, err := json.Marshal(map[string]string{
		"vcekCert": text[0], "tcbm": fmt.Sprintf("%016X", tcb), "certificateChain": text[1] + text[2], "cacheControl": "86400",
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func issue(t testing.TB, template, parent *x509.Certificate, public any, by *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ia5(t testing.TB, s string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(s, "ia5")
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func amdName(common string) pkix.Name {
	return pkix.Name{
		Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
		Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"}, CommonName: common,
	}
}
