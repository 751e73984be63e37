package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/passclave/passclave/wire"
)

// maxCertificate bounds one certificate, and with it the size of its key: verifying a
// signature by a key of 100 kB would take seconds. AMD's have up to 1.7 kB.
const maxCertificate = 4 << 10

// Product lines: the names by which AMD keeps keys apart.
const (
	milan = "Milan"
	genoa = "Genoa"
	turin = "Turin"
)

// snpChain is what AMD certifies a chip, or a cloud, with. It does not change once
// parsed: a [Cache] shares it.
type snpChain struct {
	signer     abi.ReportSigner
	ek, as, ak *x509.Certificate // VCEK or VLEK; ASK or ASVK; ARK
	root       wire.Digest       // of ak
}

func parseSNPChain(certificates [][]byte, signer abi.ReportSigner, known *Cache) (*snpChain, error) {
	if len(certificates) != 3 {
		return nil, differ(CheckChain, "3 certificates: VCEK, ASK, ARK or VLEK, ASVK, ARK", fmt.Sprintf("%d certificates", len(certificates)))
	}
	for _, der := range certificates {
		if len(der) > maxCertificate {
			return nil, differ(CheckChain, fmt.Sprintf("at most %d bytes a certificate", maxCertificate), len(der))
		}
	}
	key := func() wire.Digest { return cacheKey("snp-certificates "+signer.String(), certificates...) }
	return once(known, key, func() (*snpChain, error) {
		c := &snpChain{signer: signer, root: sha256.Sum256(certificates[2])}
		for i, to := range []**x509.Certificate{&c.ek, &c.as, &c.ak} {
			var err error
			if *to, err = x509.ParseCertificate(certificates[i]); err != nil {
				return nil, refuse(CheckChain, err)
			}
		}
		return c, nil
	})
}

// amdRoots are the SHA-256 of AMD's ARKs, as go-sev-guest carries them.
var amdRoots = func() (out []wire.Digest) {
	for _, known := range trust.DefaultRootCerts {
		out = append(out, sha256.Sum256(known.ProductCerts.Ark.Raw))
	}
	return out
}()

// find reports whether a trusted root is a simulation's.
func (r Roots) find(root wire.Digest) (simulated bool, err error) {
	if slices.Contains(amdRoots, root) {
		return false, nil
	}
	if slices.Contains(r.Simulation, root) {
		return true, nil
	}
	return false, differ(CheckRoot, "AMD's root, or a simulation root that is named", root)
}

// inTime refuses unless now lies within the validity of every certificate, both ends
// included.
func (c *snpChain) inTime(now time.Time) error {
	for _, c := range []*x509.Certificate{c.ek, c.as, c.ak} {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return differ(CheckValidity, fmt.Sprintf("%s to %s", date(c.NotBefore), date(c.NotAfter)), date(now))
		}
	}
	return nil
}

// line returns the product line. Reports name their processor since version 3; for
// older ones the certificate does.
func (c *snpChain) line(r *sevsnp.Report) (string, error) {
	line := ""
	if r.Version >= abi.ReportVersion3 {
		line = productLine(abi.FmsFromCpuid1Eax(r.Cpuid1EaxFms))
	} else {
		e, err := parseAMDExtensions(c.ek, c.signer)
		if err != nil {
			return "", refuse(CheckChain, err)
		}
		line = e.line
	}
	if line == "" {
		return "", differ(CheckPlatform, "Milan, Genoa or Turin", fmt.Sprintf("processor %#x", r.Cpuid1EaxFms))
	}
	return line, nil
}

// productLine knows the lines by family and model (AMD 57230, "Determining the
// product name"). Bergamo and Siena are certified as Genoa.
func productLine(family, model, _ byte) string {
	switch {
	case family == 0x19 && model <= 0x0f:
		return milan
	case family == 0x19 && (0x10 <= model && model <= 0x1f || 0xa0 <= model && model <= 0xaf):
		return genoa
	case family == 0x1a && model <= 0x11:
		return turin
	}
	return ""
}

// verify checks that the chain is one that AMD issues for the product line (AMD
// 57230, section 3), each certificate signed by the next. The caller trusts the last
// and has checked the times.
//
// go-sev-guest v0.15 does the same for Milan and Genoa but cannot read Turin's
// certificates: one way for all of them is easier to keep right than two.
func (c *snpChain) verify(line string, now time.Time, known *Cache) (*amdExtensions, error) {
	key := func() wire.Digest {
		return cacheKey("snp-chain "+c.signer.String()+" "+line, c.ek.Raw, c.as.Raw, c.ak.Raw)
	}
	return once(known, key, func() (*amdExtensions, error) {
		if err := c.form(line); err != nil {
			return nil, refuse(CheckChain, err)
		}
		roots, middle := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(c.ak)
		middle.AddCert(c.as)
		chains, err := c.ek.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: middle, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			return nil, refuse(CheckChain, err)
		}
		if len(chains) != 1 || len(chains[0]) != 3 {
			return nil, refuse(CheckChain, errors.New("not one line of certificates"))
		}
		e, err := parseAMDExtensions(c.ek, c.signer)
		if err != nil {
			return nil, refuse(CheckChain, err)
		}
		return e, e.fit(line)
	})
}

func (c *snpChain) form(line string) error {
	name, authority := "SEV-VCEK", "SEV-"+line
	if c.signer == abi.VlekReportSigner {
		name, authority = "SEV-VLEK", "SEV-VLEK-"+line
	}
	switch key, ok := c.ek.PublicKey.(*ecdsa.PublicKey); {
	case c.ek.Version != 3:
		return errors.New("not X.509 version 3")
	case c.ek.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return fmt.Errorf("%s is not signed by RSASSA-PSS with SHA-384 but %s", name, c.ek.SignatureAlgorithm)
	case !ok || key.Curve != elliptic.P384():
		return fmt.Errorf("%s is not a key on P-384", name)
	case !isAMD(c.ek.Subject, name):
		return fmt.Errorf("the subject is not AMD's %s but %s", name, text(c.ek.Subject))
	case !isAMD(c.as.Subject, authority):
		return fmt.Errorf("the issuer is not AMD's %s but %s", authority, text(c.as.Subject))
	case !bytes.Equal(c.ek.RawIssuer, c.as.RawSubject), !bytes.Equal(c.as.RawIssuer, c.ak.RawSubject):
		return errors.New("a certificate's issuer is not the next one's subject")
	}
	return nil
}

// isAMD compares a name with the one that AMD's certificates have (AMD 57230,
// section 3).
func isAMD(n pkix.Name, common string) bool {
	return n.CommonName == common && slices.Equal(n.Country, []string{"US"}) && slices.Equal(n.Province, []string{"CA"}) &&
		slices.Equal(n.Locality, []string{"Santa Clara"}) && slices.Equal(n.Organization, []string{"Advanced Micro Devices"}) &&
		slices.Equal(n.OrganizationalUnit, []string{"Engineering"})
}
