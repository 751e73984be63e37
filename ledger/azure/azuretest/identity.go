package azuretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"time"
)

// identity is a key and its certificate, P-384 as the service makes them today.
type identity struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (i *identity) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

func newKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// period is how long a service or node certificate is valid.
const period = 90 * 24 * time.Hour

// serviceCertificate has the service's key certified by itself.
func serviceCertificate(key *ecdsa.PrivateKey, from time.Time) *identity {
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "CCF Network"},
		NotBefore: from, NotAfter: from.Add(period),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	return certify(t, key, nil)
}

// nodeCertificate has a node's key endorsed by the service.
func nodeCertificate(key *ecdsa.PrivateKey, service *identity, from time.Time, names ...string) *identity {
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "CCF Node"},
		NotBefore: from, NotAfter: from.Add(period),
		BasicConstraintsValid: true, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	return certify(t, key, service)
}

func certify(t *x509.Certificate, key *ecdsa.PrivateKey, by *identity) *identity {
	parent, signer := t, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &identity{key, cert}
}

func serial() *big.Int { return new(big.Int).SetBytes(random(16)) }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func hexOf(d [32]byte) string { return hex.EncodeToString(d[:]) }

// nodeID names a node by its key.
func (i *identity) nodeID() string { return hexOf(sha256.Sum256(i.cert.RawSubjectPublicKeyInfo)) }
