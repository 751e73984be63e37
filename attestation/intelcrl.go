package attestation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// checkRevocation looks up the certificates of a quote, and the signers of collateral,
// in the revocation lists that are stapled, and reports whether both lists were. The
// lists must be signed by the authorities of the quote's own chain; their issuers'
// certificates in the bundle are not read.
func (known *Cache) checkRevocation(pck, root *Collateral, chain *pckChain, signers []*x509.Certificate, now time.Time) (bool, error) {
	for _, list := range []struct {
		item   *Collateral
		issuer *x509.Certificate
		of     []*x509.Certificate
	}{
		{pck, chain.ca, []*x509.Certificate{chain.pck}},
		{root, chain.root, append([]*x509.Certificate{chain.ca}, signers...)},
	} {
		if list.item == nil {
			continue
		}
		if err := known.lookUp(list.item, list.issuer, list.of, now); err != nil {
			return false, refuse(CheckRevocation, fmt.Errorf("%s: %w", list.item.Name, err))
		}
	}
	return pck != nil && root != nil, nil
}

func (known *Cache) lookUp(item *Collateral, issuer *x509.Certificate, of []*x509.Certificate, now time.Time) error {
	crl, err := once(known, func() fact { return factOf("CRL", item.Data, issuer.Raw) }, func() (*x509.RevocationList, error) {
		return verifyCRL(item.Data, issuer)
	})
	if err != nil {
		return err
	}
	if err := current(crl.ThisUpdate, crl.NextUpdate, now); err != nil {
		return err
	}
	for _, revoked := range crl.RevokedCertificateEntries {
		for _, c := range of {
			if c.SerialNumber.Cmp(revoked.SerialNumber) == 0 {
				return fmt.Errorf("%w: %q, at %s", ErrRevoked, c.Subject, date(revoked.RevocationTime))
			}
		}
	}
	return nil
}

// verifyCRL verifies all of a list but its dates.
func verifyCRL(der []byte, issuer *x509.Certificate) (*x509.RevocationList, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(crl.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("of %q, not of %q", crl.Issuer, issuer.Subject)
	}
	if err := crl.CheckSignatureFrom(issuer); err != nil {
		return nil, err
	}
	if err := complete(crl); err != nil {
		return nil, err
	}
	return crl, nil
}
