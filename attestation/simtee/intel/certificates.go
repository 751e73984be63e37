package intel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// Where Intel's certificates say that their revocation lists are.
const (
	rootCRLURL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	pckCRLURL  = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
)

// Lifetimes, in years, about those of Intel's certificates.
const (
	rootYears       = 31
	platformCAYears = 15
	leafYears       = 7
)

// backdated lets a verifier's clock lag a little behind.
const backdated = time.Hour

// Organizations. The root's says what it is wherever it is shown; the names below the
// root are Intel's, byte for byte.
const (
	organization           = "Intel Corporation"
	simulationOrganization = "Passclave SIMULATION, not Intel"
	simulationUnit         = "SIMULATION"
)

// certify makes the key and the certificate of a role ("Intel SGX PCK Certificate and
// Certificate Revocation List Profile Specification"). issuers must have those above it.
func (f *founding) certify(role Role, made *[roles]certified) (certified, error) {
	t := &x509.Certificate{
		NotBefore:             f.now.Add(-backdated),
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
		BasicConstraintsValid: true,
		CRLDistributionPoints: []string{rootCRLURL},
	}
	years, issuer := leafYears, made[Root]
	var err error
	switch role {
	case Root:
		years = rootYears
		t.IsCA, t.MaxPathLen, t.KeyUsage = true, 1, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		t.RawSubject, err = name("Intel SGX Root CA", simulationOrganization, simulationUnit)
	case PlatformCA:
		years = platformCAYears
		t.IsCA, t.MaxPathLenZero, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		t.RawSubject, err = name("Intel SGX PCK Platform CA", organization, "")
	case PCK:
		issuer = made[PlatformCA]
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
		t.CRLDistributionPoints = []string{pckCRLURL}
		if t.RawSubject, err = name("Intel SGX PCK Certificate", organization, ""); err == nil {
			var value []byte
			value, err = f.platform.extension()
			t.ExtraExtensions = []pkix.Extension{{Id: sgxExtension, Value: value}}
		}
	case TCBSigning:
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
		t.RawSubject, err = name("Intel SGX TCB Signing", organization, "")
	}
	if err != nil {
		return certified{}, err
	}
	t.NotAfter = f.now.AddDate(years, 0, 0)
	curve := elliptic.P256()
	for _, change := range f.change {
		change(role, t, &curve)
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return certified{}, err
	}
	if t.SubjectKeyId == nil {
		public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return certified{}, err
		}
		id := sha256.Sum256(public)
		t.SubjectKeyId = id[:20]
	}
	if issuer.key == nil { // the root signs itself
		issuer = certified{t, key}
		if t.AuthorityKeyId == nil {
			t.AuthorityKeyId = t.SubjectKeyId
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer.certificate, &key.PublicKey, issuer.key)
	if err != nil {
		return certified{}, fmt.Errorf("simulated certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return certified{certificate, key}, err
}

// name encodes a distinguished name as Intel does: the common name first, all but the
// country in UTF-8. An empty unit is left out.
func name(common, organization, unit string) ([]byte, error) {
	var sequence pkix.RDNSequence
	for _, a := range []struct {
		id    int // below 2.5.4
		value string
	}{{3, common}, {10, organization}, {11, unit}, {7, "Santa Clara"}, {8, "CA"}, {6, "US"}} {
		if a.value == "" {
			continue
		}
		tag := asn1.TagUTF8String
		if a.id == 6 {
			tag = asn1.TagPrintableString
		}
		sequence = append(sequence, pkix.RelativeDistinguishedNameSET{{
			Type:  asn1.ObjectIdentifier{2, 5, 4, a.id},
			Value: asn1.RawValue{Tag: tag, Bytes: []byte(a.value)},
		}})
	}
	return asn1.Marshal(sequence)
}
