package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/passclave/passclave/wire"
)

// verifySNP verifies the hardware's half of a bundle from SEV-SNP.
func verifySNP(b *Bundle, roots Roots, now time.Time) (*Claims, error) {
	return VerifySNP(b.Report, b.Certificates, roots, now)
}

// VerifySNP verifies a SEV-SNP report (AMD 56860, ATTESTATION_REPORT, versions 2 to
// 5) and its certificates: VCEK, ASK, ARK. It is the hardware's half of [Genuine],
// for those who have a report but no bundle, such as ACI's files.
//
// It does not look into REPORT_DATA: the claims say nothing about any key. Reports
// signed by a VLEK are refused, and so are Turin's, whose TCB has another layout than
// go-sev-guest v0.15 knows.
func VerifySNP(report []byte, certificates [][]byte, roots Roots, now time.Time) (*Claims, error) {
	r, err := parseReport(report)
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(certificates)
	if err != nil {
		return nil, err
	}
	root, simulated, err := roots.find(chain.ark)
	if err != nil {
		return nil, err
	}
	for _, c := range []*x509.Certificate{chain.vcek, chain.ask, chain.ark} {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return nil, differ(CheckValidity, fmt.Sprintf("%s to %s", date(c.NotBefore), date(c.NotAfter)), date(now))
		}
	}
	product, extensions, err := chain.product(r)
	if err != nil {
		return nil, err
	}
	if err := chain.verify(r, report, product, now); err != nil {
		return nil, err
	}
	// go-sev-guest's verify does not compare these.
	if uint64(extensions.TCBVersion) != r.ReportedTcb {
		return nil, differ(CheckTCB, tcbText(uint64(extensions.TCBVersion)), tcbText(r.ReportedTcb))
	}
	if !bytes.Equal(extensions.HWID, r.ChipId) {
		return nil, differ(CheckChip, hex.EncodeToString(extensions.HWID), hex.EncodeToString(r.ChipId))
	}
	return snpClaims(r, product, root, simulated, now)
}

// parseReport reads a report. It must be what its content encodes to again, so that
// no bit is signed but not seen.
func parseReport(report []byte) (*sevsnp.Report, error) {
	if len(report) != abi.ReportSize {
		return nil, differ(CheckReport, fmt.Sprintf("%d bytes", abi.ReportSize), fmt.Sprintf("%d bytes", len(report)))
	}
	if err := abi.ValidateReportFormat(report); err != nil {
		return nil, refuse(CheckReport, err)
	}
	r, err := abi.ReportToProto(report)
	if err != nil {
		return nil, refuse(CheckReport, err)
	}
	again, err := abi.ReportToAbiBytes(r)
	if err != nil || !bytes.Equal(again, report) {
		return nil, refuse(CheckReport, errors.New("a reserved bit is set"))
	}
	signer, err := abi.ParseSignerInfo(r.SignerInfo)
	if err != nil {
		return nil, refuse(CheckReport, err)
	}
	if signer.SigningKey != abi.VcekReportSigner {
		return nil, differ(CheckSigner, abi.VcekReportSigner, signer.SigningKey)
	}
	return r, nil
}

// maxCertificate bounds one certificate, and with it the size of its key: verifying a
// signature by a key of 100 kB would take seconds. AMD's have up to 1.7 kB.
const maxCertificate = 4 << 10

type snpChain struct{ vcek, ask, ark *x509.Certificate }

func parseChain(certificates [][]byte) (*snpChain, error) {
	if len(certificates) != 3 {
		return nil, differ(CheckChain, "3 certificates: VCEK, ASK, ARK", fmt.Sprintf("%d certificates", len(certificates)))
	}
	var parsed [3]*x509.Certificate
	for i, der := range certificates {
		if len(der) > maxCertificate {
			return nil, differ(CheckChain, fmt.Sprintf("at most %d bytes a certificate", maxCertificate), len(der))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, refuse(CheckChain, err)
		}
		parsed[i] = c
	}
	return &snpChain{parsed[0], parsed[1], parsed[2]}, nil
}

// find returns the fingerprint of a trusted root and whether it is a simulation's.
func (r Roots) find(root *x509.Certificate) (wire.Digest, bool, error) {
	fingerprint := wire.Digest(sha256.Sum256(root.Raw))
	for _, known := range trust.DefaultRootCerts {
		if bytes.Equal(root.Raw, known.ProductCerts.Ark.Raw) {
			return fingerprint, false, nil
		}
	}
	if slices.Contains(r.Simulation, fingerprint) {
		return fingerprint, true, nil
	}
	return fingerprint, false, differ(CheckRoot, "AMD's root, or a simulation root that is named", fingerprint)
}

// product returns the product line and AMD's extensions of the VCEK. Reports name
// their product since version 3; for older ones the certificate does.
func (c *snpChain) product(r *sevsnp.Report) (string, *kds.Extensions, error) {
	extensions, err := kds.VcekCertificateExtensions(c.vcek)
	if err != nil {
		return "", nil, refuse(CheckChain, err)
	}
	line := kds.ProductLineFromFms(r.Cpuid1EaxFms)
	if r.Cpuid1EaxFms == 0 {
		p, err := kds.ParseProductName(extensions.ProductName, abi.VcekReportSigner)
		if err != nil {
			return "", nil, refuse(CheckChain, err)
		}
		line = kds.ProductLine(p)
	}
	if line != "Milan" && line != "Genoa" {
		return "", nil, differ(CheckPlatform, "Milan or Genoa", line)
	}
	return line, extensions, nil
}

// verify lets go-sev-guest verify the chain up to the ARK, which the caller trusts,
// and the report's signature.
func (c *snpChain) verify(r *sevsnp.Report, report []byte, product string, now time.Time) error {
	root := trust.AMDRootCertsProduct(product)
	root.ProductCerts = &trust.ProductCerts{Ask: c.ask, Ark: c.ark}
	err := verify.SnpAttestation(&sevsnp.Attestation{
		Report:           r,
		CertificateChain: &sevsnp.CertificateChain{VcekCert: c.vcek.Raw, AskCert: c.ask.Raw, ArkCert: c.ark.Raw},
	}, &verify.Options{
		DisableCertFetching: true,
		Now:                 now,
		TrustedRoots:        map[string][]*trust.AMDRootCerts{product: {root}},
	})
	if err == nil {
		return nil
	}
	// Its errors have no types. Asking for the signature alone tells the two apart; it
	// decides which refusal it is, not whether there is one.
	if signature := verify.SnpReportSignature(report, c.vcek); signature != nil {
		return refuse(CheckSignature, signature)
	}
	return refuse(CheckChain, err)
}

func snpClaims(r *sevsnp.Report, product string, root wire.Digest, simulated bool, now time.Time) (*Claims, error) {
	policy, err := abi.ParseSnpPolicy(r.Policy)
	if err != nil {
		return nil, refuse(CheckReport, err)
	}
	c := &Claims{
		Platform: PlatformSEVSNP, Simulated: simulated, Root: root, Time: now, ReportVersion: r.Version, Product: product,
		Measurement: r.Measurement, HostData: r.HostData,
		Debug: policy.Debug, Migration: policy.MigrateMA, SMT: policy.SMT, SMTEnabled: r.PlatformInfo&1 != 0,
		VMPL: r.Vmpl, GuestSVN: r.GuestSvn,
		ReportedTCB: tcb(r.ReportedTcb), CommittedTCB: tcb(r.CommittedTcb), CurrentTCB: tcb(r.CurrentTcb), LaunchTCB: tcb(r.LaunchTcb),
		ChipID: r.ChipId, FamilyID: r.FamilyId, ImageID: r.ImageId, IDKeyDigest: r.IdKeyDigest, AuthorKeyDigest: r.AuthorKeyDigest,
	}
	copy(c.ReportData[:], r.ReportData)
	return c, nil
}

func tcb(v uint64) TCB {
	p := kds.DecomposeTCBVersion(kds.TCBVersion(v))
	return TCB{Bootloader: p.BlSpl, TEE: p.TeeSpl, SNP: p.SnpSpl, Microcode: p.UcodeSpl}
}

func tcbText(v uint64) string { return fmt.Sprintf("%016x", v) }

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func ledgerText(id []byte, backend string, number uint64) string {
	return fmt.Sprintf("%s (%s, number %d)", hex.EncodeToString(id), backend, number)
}
