package attestation

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/passclave/passclave/wire"
)

// CollateralAMDCRL names AMD's revocation list in a bundle: DER, as
// kdsintf.amd.com/vcek/v1/{line}/crl and …/vlek/v1/{line}/crl answer it.
const CollateralAMDCRL = "amd-crl"

// maxCRL bounds a revocation list. AMD's have less than 1 kB.
const maxCRL = 64 << 10

// revocation looks the chain up in the stapled revocation lists, all of which must be
// the ARK's and in their time. It reports whether there was one.
//
// A VCEK is not looked up: the ARK issues the certificates of the ASK and ASVK, and
// its list is about those. AMD takes back chips and firmware by TCB levels.
func (c *snpChain) revocation(collateral []Collateral, now time.Time, known *Cache) (bool, error) {
	checked := false
	for _, x := range collateral {
		if x.Name != CollateralAMDCRL {
			return false, refuse(CheckBundle, fmt.Errorf("collateral %s is none of SEV-SNP", text(x.Name)))
		}
		list, err := c.revocationList(x.Data, known)
		if err != nil {
			return false, err
		}
		if now.Before(list.ThisUpdate) || now.After(list.NextUpdate) { // a list without an end has the zero time there
			return false, differ(CheckRevocation, fmt.Sprintf("%s to %s", date(list.ThisUpdate), date(list.NextUpdate)), date(now))
		}
		for _, bad := range list.RevokedCertificateEntries {
			for _, own := range []*x509.Certificate{c.as, c.ak} {
				if own.SerialNumber.Cmp(bad.SerialNumber) == 0 {
					return false, refuse(CheckRevocation, fmt.Errorf("%w: %s, at %s", ErrRevoked, text(own.Subject.CommonName), date(bad.RevocationTime)))
				}
			}
		}
		checked = true
	}
	return checked, nil
}

func (c *snpChain) revocationList(der []byte, known *Cache) (*x509.RevocationList, error) {
	if len(der) > maxCRL {
		return nil, differ(CheckRevocation, fmt.Sprintf("at most %d bytes", maxCRL), len(der))
	}
	return once(known, func() wire.Digest { return cacheKey(CollateralAMDCRL, der, c.ak.Raw) }, func() (*x509.RevocationList, error) {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, refuse(CheckRevocation, err)
		}
		if !bytes.Equal(list.RawIssuer, c.ak.RawSubject) {
			return nil, differ(CheckRevocation, c.ak.Subject, list.Issuer)
		}
		if err := list.CheckSignatureFrom(c.ak); err != nil {
			return nil, refuse(CheckRevocation, err)
		}
		if err := complete(list); err != nil {
			return nil, refuse(CheckRevocation, err)
		}
		return list, nil
	})
}

// complete refuses a critical extension, which may say that the list is about less than
// it seems to be (RFC 5280, section 5.2).
func complete(list *x509.RevocationList) error {
	for _, x := range list.Extensions {
		if x.Critical {
			return errors.New("a critical extension that is not known")
		}
	}
	return nil
}
