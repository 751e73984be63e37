package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/passclave/passclave/wire"
)

// intelRoot is the SHA-256 of Intel's root certificate, "Intel SGX Root CA", serial
// 22650cd65a9d3489f383b49552bf501b392706ac, valid from 2018-05-21 10:45:10 to
// 2049-12-31: https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.pem
const intelRoot = "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"

// Names of Intel's certificates (Intel SGX PCK Certificate and CRL Profile).
const (
	nameRoot      = "Intel SGX Root CA"
	namePlatform  = "Intel SGX PCK Platform CA"
	nameProcessor = "Intel SGX PCK Processor CA"
	namePCK       = "Intel SGX PCK Certificate"
	nameTCB       = "Intel SGX TCB Signing"
)

func intelName(common string) string {
	return "CN=" + common + ",O=Intel Corporation,L=Santa Clara,ST=CA,C=US"
}

// pckChain certifies the key by which a machine vouches for its quoting enclave.
type pckChain struct{ pck, ca, root *x509.Certificate }

func (c *pckChain) all() []*x509.Certificate { return []*x509.Certificate{c.pck, c.ca, c.root} }

// parsePCKChain reads three certificates in PEM, with nothing but white space, or the
// zero byte that C programs append, between and behind them.
func parsePCKChain(data []byte) (*pckChain, error) {
	var chain [][]byte
	rest := bytes.TrimRight(data, "\x00")
	for {
		rest = bytes.TrimSpace(rest)
		if len(rest) == 0 {
			break
		}
		var block *pem.Block
		clean := bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----"))
		if block, rest = pem.Decode(rest); block == nil || !clean || len(block.Headers) != 0 {
			return nil, refuse(CheckChain, errors.New("not certificates in PEM"))
		}
		if chain = append(chain, block.Bytes); len(chain) > 3 {
			break
		}
	}
	parsed, err := parseCertificates(chain, "PCK", "PCK CA", "root")
	if err != nil {
		return nil, refuse(CheckChain, err)
	}
	return &pckChain{parsed[0], parsed[1], parsed[2]}, nil
}

// parseCertificates reads exactly the certificates that are named.
func parseCertificates(chain [][]byte, names ...string) ([]*x509.Certificate, error) {
	if len(chain) != len(names) {
		return nil, fmt.Errorf("expected the certificates %v, found %d certificates", names, len(chain))
	}
	var parsed []*x509.Certificate
	for _, der := range chain {
		if len(der) > maxCertificate {
			return nil, fmt.Errorf("a certificate of %d bytes, more than %d", len(der), maxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, c)
	}
	return parsed, nil
}

// findIntel returns the fingerprint of a trusted root and whether it is a simulation's.
func (r Roots) findIntel(root *x509.Certificate) (wire.Digest, bool, error) {
	fingerprint := wire.Digest(sha256.Sum256(root.Raw))
	if hex.EncodeToString(fingerprint[:]) == intelRoot {
		return fingerprint, false, nil
	}
	if slices.Contains(r.Simulation, fingerprint) {
		return fingerprint, true, nil
	}
	return fingerprint, false, differ(CheckRoot, "Intel's root, or a simulation root that is named", fingerprint)
}

func (c *pckChain) checkValidity(now time.Time) error {
	for _, x := range c.all() {
		if !within(x, now) {
			return differ(CheckValidity, fmt.Sprintf("%s to %s", date(x.NotBefore), date(x.NotAfter)), date(now))
		}
	}
	return nil
}

func within(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// checkForm verifies what the certificates are: Intel's names, P-256 keys, signed with
// SHA-256, authorities where they must be and the PCK none. Who signed them it leaves open.
func (c *pckChain) checkForm() error {
	ca := namePlatform
	if c.ca.Subject.CommonName == nameProcessor {
		ca = nameProcessor
	}
	// The root is known by its fingerprint, and a simulation's says that it is one.
	if name := c.root.Subject.CommonName; name != nameRoot {
		return differ(CheckChain, nameRoot, name)
	}
	err := errors.Join(checkForm(c.ca, c.root, ca, true), checkForm(c.pck, c.ca, namePCK, false))
	if err != nil {
		return refuse(CheckChain, err)
	}
	return nil
}

func checkForm(c, issuer *x509.Certificate, name string, authority bool) error {
	if subject := c.Subject.String(); subject != intelName(name) {
		return fmt.Errorf("expected the certificate of %q, found %q", intelName(name), subject)
	}
	if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("%s: expected a certificate by %q, found %q", name, issuer.Subject, c.Issuer)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() || c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return fmt.Errorf("%s: not a P-256 key signed by ECDSA with SHA-256", name)
	}
	if !c.BasicConstraintsValid || c.IsCA != authority {
		return fmt.Errorf("%s: an authority must say so, and nobody else may", name)
	}
	if len(c.UnhandledCriticalExtensions) != 0 {
		return fmt.Errorf("%s: unknown critical extensions", name)
	}
	return nil
}

// checkSignatures verifies that each certificate is signed by the next. The root is
// known by its fingerprint.
func (c *pckChain) checkSignatures() error {
	if err := errors.Join(c.ca.CheckSignatureFrom(c.root), c.pck.CheckSignatureFrom(c.ca)); err != nil {
		return refuse(CheckChain, err)
	}
	return nil
}

// platform is what a PCK certificate says of its machine.
type platform struct {
	fmspc      []byte // 6 bytes
	pceID      string // hex, 2 bytes
	pceSVN     uint16
	components []byte // SVNs of the CPU's 16 TCB components
}

// platform reads the SGX extension (1.2.840.113741.1.13.1) of the PCK certificate. The
// library leaves out what the certificate does not have.
func (c *pckChain) platform() (*platform, error) {
	e, err := pcs.PckCertificateExtensions(c.pck)
	if err != nil {
		return nil, refuse(CheckChain, err)
	}
	p := &platform{pceID: e.PCEID, pceSVN: e.TCB.PCESvn, components: e.TCB.CPUSvnComponents}
	p.fmspc, err = hex.DecodeString(e.FMSPC)
	if err != nil || len(p.fmspc) != 6 || len(p.pceID) != 4 || len(p.components) != 16 || len(e.TCB.CPUSvn) != 16 {
		return nil, refuse(CheckChain, errors.New("the PCK certificate does not name its platform and TCB"))
	}
	return p, nil
}
