package collateral

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-sev-guest/abi"

	"github.com/passclave/passclave/attestation"
)

// snpSubject is what a report says about the certificates that it needs.
type snpSubject struct {
	report []byte
	signer abi.ReportSigner
	lines  []string // product lines; more than one where the report (version 2) does not say
	chip   []byte   // CHIP_ID, 64 bytes
	tcb    uint64   // REPORTED_TCB
	leaf   []byte   // the key's certificate, stapled; nil: none
}

func newSNPSubject(b *attestation.Bundle) (*snpSubject, error) {
	r, err := abi.ReportToProto(b.Report)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	info, err := abi.ParseSignerInfo(r.SignerInfo)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	s := &snpSubject{report: b.Report, signer: info.SigningKey, chip: r.ChipId, tcb: r.ReportedTcb, lines: []string{"Milan", "Genoa"}}
	if r.Version >= abi.ReportVersion3 {
		line := productLine(abi.FmsFromCpuid1Eax(r.Cpuid1EaxFms))
		if line == "" {
			return nil, fmt.Errorf("%w: processor %#x", ErrUnknown, r.Cpuid1EaxFms)
		}
		s.lines = []string{line}
	}
	if len(b.Certificates) > 0 {
		s.leaf = b.Certificates[0]
	}
	switch {
	case s.signer == abi.VlekReportSigner && s.leaf == nil:
		return nil, fmt.Errorf("%w: the cloud alone has the certificate of its VLEK", ErrUnknown)
	case s.signer == abi.VcekReportSigner && [64]byte(s.chip) == [64]byte{}:
		return nil, fmt.Errorf("%w: the chip ID is masked", ErrUnknown)
	case s.signer != abi.VcekReportSigner && s.signer != abi.VlekReportSigner:
		return nil, fmt.Errorf("%w: signed by neither VCEK nor VLEK", ErrUnknown)
	}
	return s, nil
}

// productLine knows the lines by family and model, as package attestation does.
func productLine(family, model, _ byte) string {
	switch {
	case family == 0x19 && model <= 0x0f:
		return "Milan"
	case family == 0x19 && (0x10 <= model && model <= 0x1f || 0xa0 <= model && model <= 0xaf):
		return "Genoa"
	case family == 0x1a && model <= 0x11:
		return "Turin"
	}
	return ""
}

// name is the chain's in a store.
func (s *snpSubject) name() string {
	if s.signer == abi.VlekReportSigner {
		return fmt.Sprintf("snp-vlek-%x.pem", sha256.Sum256(s.leaf))
	}
	return fmt.Sprintf("snp-vcek-%s-%016x.pem", hex.EncodeToString(s.chip), s.tcb)
}

// with is the report with certificates and nothing else.
func (s *snpSubject) with(certificates [][]byte) *attestation.Bundle {
	return &attestation.Bundle{Platform: attestation.PlatformSEVSNP, Report: s.report, Certificates: certificates}
}

func (c *Completer) completeSNP(ctx context.Context, b *attestation.Bundle) error {
	certificates, host := b.Certificates, b.HostAMD
	stapled := &attestation.Bundle{Platform: b.Platform, Report: b.Report, Certificates: certificates, HostAMD: host}
	claims, err := c.hardware(stapled)
	if err != nil {
		// Host certificates that do not hold go too: a verifier would refuse them.
		host = nil
		if certificates, claims, err = c.certificates(ctx, b, err); err != nil {
			return err
		}
	}
	list := b.Collateral
	if c.Revocation {
		with := &attestation.Bundle{Platform: b.Platform, Report: b.Report, Certificates: certificates, HostAMD: host}
		if list, err = c.amdCRL(ctx, with, b.Collateral, claims); err != nil {
			return err
		}
	}
	b.Certificates, b.HostAMD, b.Collateral = certificates, host, list
	return nil
}

// certificates finds a chain for the report of b. refused is why the stapled one, if
// any, is not it.
func (c *Completer) certificates(ctx context.Context, b *attestation.Bundle, refused error) ([][]byte, *attestation.Claims, error) {
	missing := &Incomplete{Missing: Certificates}
	if len(b.Certificates) > 0 || len(b.HostAMD) > 0 {
		c.Log.Info("stapled certificates do not hold and are fetched anew", "reason", refused)
		missing.Stapled = append(missing.Stapled, refused)
		if final(refused) {
			return nil, nil, missing
		}
	}
	s, err := newSNPSubject(b)
	if err != nil {
		missing.Tried = append(missing.Tried, err)
		return nil, nil, missing
	}
	var claims *attestation.Claims
	good := func(chain [][]byte) (err error) {
		claims, err = c.hardware(s.with(chain))
		return err
	}
	if chain, ok, err := stored(c, s.name(), decodePEM, good); ok {
		return chain, claims, nil
	} else if err != nil {
		missing.Tried = append(missing.Tried, fmt.Errorf("stored: %w", err))
		return nil, nil, missing
	}
	for _, source := range c.Sources {
		chains, err := source.certificates(ctx, c.fetch, s)
		if err != nil {
			missing.Tried = append(missing.Tried, err)
		}
		for _, chain := range chains {
			if err := good(chain); err != nil {
				missing.Tried = append(missing.Tried, fmt.Errorf("%s: %w", source.Name(), err))
				if final(err) {
					return nil, nil, missing
				}
				continue
			}
			c.keep(s.name(), encodePEM(chain))
			return chain, claims, nil
		}
	}
	if len(c.Sources) == 0 {
		missing.Tried = append(missing.Tried, ErrNoSource)
	}
	return nil, nil, missing
}

// amdCRL returns stapled collateral with the revocation list of the ARK. with has the
// certificates that hold.
func (c *Completer) amdCRL(ctx context.Context, with *attestation.Bundle, list []attestation.Collateral, claims *attestation.Claims) ([]attestation.Collateral, error) {
	good := func(der []byte) error {
		candidate := *with
		candidate.Collateral = []attestation.Collateral{{Name: attestation.CollateralAMDCRL, Data: der}}
		_, err := c.hardware(&candidate)
		return err
	}
	missing := &Incomplete{Missing: attestation.CollateralAMDCRL}
	for _, x := range list {
		if x.Name != attestation.CollateralAMDCRL {
			continue
		}
		err := good(x.Data)
		if err == nil {
			return list, nil
		}
		missing.Stapled = append(missing.Stapled, err)
		if final(err) {
			return nil, missing
		}
	}
	found := func(der []byte) []attestation.Collateral {
		return []attestation.Collateral{{Name: attestation.CollateralAMDCRL, Data: der}} // SEV-SNP has no other
	}
	name := fmt.Sprintf("snp-%s-%s-%s.crl", claims.Signer, lower(claims.Product), claims.Root.String()[:16])
	if der, ok, err := stored(c, name, same, good); ok {
		return found(der), nil
	} else if err != nil {
		missing.Tried = append(missing.Tried, fmt.Errorf("stored: %w", err))
		return nil, missing
	}
	for _, source := range c.Sources {
		der, err := source.crl(ctx, c.fetch, claims.Product, claims.Signer)
		if err == nil {
			if err = good(der); err == nil {
				c.keep(name, der)
				return found(der), nil
			}
			err = fmt.Errorf("%s: %w", source.Name(), err)
		}
		if !errors.Is(err, errNotMine) {
			missing.Tried = append(missing.Tried, err)
		}
		if final(err) {
			break
		}
	}
	if len(missing.Tried) == 0 {
		missing.Tried = append(missing.Tried, ErrNoSource)
	}
	return nil, missing
}
