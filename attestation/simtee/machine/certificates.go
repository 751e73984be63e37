package machine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/google/go-sev-guest/kds"

	"github.com/passclave/passclave/attestation/simtee/intel"
)

// The simulated chip is a Milan of stepping B1 (AMD 57230, "Determining the Product Name").
const (
	productName = "Milan-B1"
	milanB1     = 0x00a00f11 // CPUID Fn0000_0001_EAX
)

// Lifetimes of AMD's own certificates.
const (
	authorityYears = 25
	vcekYears      = 7
)

// rootBits is the size of AMD's ARK and ASK.
const rootBits = 4096

// Found makes a new machine in memory: root, intermediate and chip, and Intel's
// hardware. Keys of AMD's certificate authorities have 4096 bits and take seconds.
func Found(now time.Time) (*Machine, error) { return found(now, rootBits) }

// FoundFast is [Found] with keys of 2048 bits, for tests.
func FoundFast(now time.Time) (*Machine, error) { return found(now, 2048) }

func found(now time.Time, bits int) (*Machine, error) {
	ark, err := newAuthority(nil, rootName, now, bits)
	if err != nil {
		return nil, err
	}
	ask, err := newAuthority(ark, amdName("SEV-Milan"), now, bits)
	if err != nil {
		return nil, err
	}
	m := &Machine{ark: *ark, ask: *ask}
	if m.intel, err = intel.Found(now); err != nil {
		return nil, err
	}
	chip := Chip{TCB: firmware}
	rand.Read(chip.ID[:])
	return m.Certify(chip, now, now.AddDate(vcekYears, 0, 0))
}

// rootName says what it is wherever a root certificate is shown. The verifier looks
// at the names below the root only.
var rootName = pkix.Name{
	Country:            []string{"US"},
	Organization:       []string{"Passclave SIMULATION, not AMD"},
	OrganizationalUnit: []string{"SIMULATION"},
	CommonName:         "ARK-Milan",
}

// amdName is a name as AMD's certificates have it (AMD 57230, section 3).
func amdName(common string) pkix.Name {
	return pkix.Name{
		Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
		Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"}, CommonName: common,
	}
}

// newAuthority makes a certificate authority, signed by parent or, where that is nil, by itself.
func newAuthority(parent *authority, name pkix.Name, now time.Time, bits int) (*authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               name,
		NotBefore:             now.Add(-backdated),
		NotAfter:              now.AddDate(authorityYears, 0, 0),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	issuer := &authority{template, key}
	if parent != nil {
		issuer = parent
	}
	c, err := issue(template, issuer, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &authority{c, key}, nil
}

// backdated lets a verifier's clock lag a little behind.
const backdated = time.Hour

// Certify returns a machine under the same roots with another chip: a new VCEK and a
// certificate for it.
func (m *Machine) Certify(chip Chip, notBefore, notAfter time.Time) (*Machine, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	extensions, err := chip.extensions()
	if err != nil {
		return nil, err
	}
	// Any other extension, such as key usage, would be refused: AMD's have none.
	vcek, err := issue(&x509.Certificate{
		Subject:            amdName("SEV-VCEK"),
		NotBefore:          notBefore.Add(-backdated),
		NotAfter:           notAfter,
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions:    extensions,
	}, &m.ask, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Machine{ark: m.ark, ask: m.ask, chip: chip, vcek: vcek, key: key, intel: m.intel}, nil
}

func issue(template *x509.Certificate, issuer *authority, public any) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.certificate, public, issuer.key)
	if err != nil {
		return nil, fmt.Errorf("simulated certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// extensions encodes a chip as AMD does (AMD 57230, table "VCEK certificate
// extensions"): the hardware ID stands there without an ASN.1 tag.
func (c Chip) extensions() ([]pkix.Extension, error) {
	var list []pkix.Extension
	add := func(id asn1.ObjectIdentifier, value []byte, err error) error {
		list = append(list, pkix.Extension{Id: id, Value: value})
		return err
	}
	number := func(id asn1.ObjectIdentifier, v uint8) error {
		b, err := asn1.Marshal(big.NewInt(int64(v)))
		return add(id, b, err)
	}
	if err := number(kds.OidStructVersion, 0); err != nil {
		return nil, err
	}
	name, err := asn1.MarshalWithParams(productName, "ia5")
	if err := add(kds.OidProductName1, name, err); err != nil {
		return nil, err
	}
	for _, level := range []struct {
		id    asn1.ObjectIdentifier
		value uint8
	}{
		{kds.OidBlSpl, c.TCB.Bootloader}, {kds.OidTeeSpl, c.TCB.TEE}, {kds.OidSnpSpl, c.TCB.SNP},
		{kds.OidSpl4, 0}, {kds.OidSpl5, 0}, {kds.OidSpl6, 0}, {kds.OidSpl7, 0}, {kds.OidUcodeSpl, c.TCB.Microcode},
	} {
		if err := number(level.id, level.value); err != nil {
			return nil, err
		}
	}
	return list, add(kds.OidHwid, c.ID[:], nil)
}
