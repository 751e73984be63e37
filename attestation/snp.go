package attestation

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"

	"github.com/passclave/passclave/wire"
)

// verifySNP verifies the hardware's half of a bundle from SEV-SNP: a report (AMD
// 56860, ATTESTATION_REPORT, versions 2 to 5) of Milan, Genoa or Turin, its
// certificates (VCEK, ASK, ARK or VLEK, ASVK, ARK), and what is stapled to them.
func verifySNP(b *Bundle, roots Roots, now time.Time, known *Cache) (*Claims, error) {
	r, signer, err := parseReport(b.Report)
	if err != nil {
		return nil, err
	}
	host, err := parseHostAMD(b.HostAMD, known)
	if err != nil {
		return nil, err
	}
	certificates := b.Certificates
	if len(certificates) == 0 && host != nil {
		certificates = host.certificates
	}
	chain, err := parseSNPChain(certificates, signer, known)
	if err != nil {
		return nil, err
	}
	simulated, err := roots.find(chain.root)
	if err != nil {
		return nil, err
	}
	if err := chain.inTime(now); err != nil {
		return nil, err
	}
	line, err := chain.line(r)
	if err != nil {
		return nil, err
	}
	certified, err := chain.verify(line, now, known)
	if err != nil {
		return nil, err
	}
	if err := chain.signed(b.Report, known); err != nil {
		return nil, certified.explain(err, snpClaims(r, line), r)
	}
	c := snpClaims(r, line)
	c.Root = chain.root
	c.Simulated, c.Time = simulated, now
	if c.RevocationChecked, err = chain.revocation(b.Collateral, now, known); err != nil {
		return nil, err
	}
	if err := certified.check(c, r); err != nil {
		return nil, err
	}
	if host != nil && host.tcb != r.ReportedTcb {
		return nil, differ(CheckHostAMD, tcbText(r.ReportedTcb), tcbText(host.tcb))
	}
	if c.UVM, err = verifyEndorsements(b.Endorsements, r.Measurement, now, known); err != nil {
		return nil, err
	}
	c.SecurityPolicy, err = checkSecurityPolicy(b.SecurityPolicy, r.HostData)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// VerifySNP is [Hardware] for those who have a report and its certificates but no
// bundle.
func VerifySNP(report []byte, certificates [][]byte, roots Roots, now time.Time) (*Claims, error) {
	return Hardware(&Bundle{Platform: PlatformSEVSNP, Report: report, Certificates: certificates}, roots, now)
}

// mitigationVectors is where version 5 has LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR;
// it is reserved before.
const mitigationVectors = 0x1f8

// parseReport reads a report. It must be what its content encodes to again, so that
// no bit is signed but not seen.
func parseReport(report []byte) (*sevsnp.Report, abi.ReportSigner, error) {
	if len(report) != abi.ReportSize {
		return nil, 0, differ(CheckReport, fmt.Sprintf("%d bytes", abi.ReportSize), fmt.Sprintf("%d bytes", len(report)))
	}
	if err := abi.ValidateReportFormat(report); err != nil {
		return nil, 0, refuse(CheckReport, err)
	}
	r, err := abi.ReportToProto(report)
	if err != nil {
		return nil, 0, refuse(CheckReport, err)
	}
	again, err := abi.ReportToAbiBytes(r)
	if err != nil || !bytes.Equal(again, report) {
		return nil, 0, refuse(CheckReport, errors.New("a reserved bit is set"))
	}
	if r.Version < abi.ReportVersion5 && r.LaunchMitVector|r.CurrentMitVector != 0 {
		return nil, 0, refuse(CheckReport, fmt.Errorf("a bit at %#x, which version %d reserves", mitigationVectors, r.Version))
	}
	if r.SignatureAlgo != abi.SignEcdsaP384Sha384 {
		return nil, 0, differ(CheckReport, "ECDSA P-384 with SHA-384", fmt.Sprint("signature algorithm ", r.SignatureAlgo))
	}
	signer, err := abi.ParseSignerInfo(r.SignerInfo)
	if err != nil {
		return nil, 0, refuse(CheckReport, err)
	}
	if k := signer.SigningKey; k != abi.VcekReportSigner && k != abi.VlekReportSigner {
		return nil, 0, differ(CheckSigner, "VCEK or VLEK", k)
	}
	return r, signer.SigningKey, nil
}

// signed checks the report's signature by the key of the chain, which must have been
// verified.
func (c *snpChain) signed(report []byte, known *Cache) error {
	_, err := once(known, func() wire.Digest { return cacheKey("snp-report", report, c.ek.Raw) }, func() (struct{}, error) {
		if err := verify.SnpReportSignature(report, c.ek); err != nil {
			return struct{}{}, refuse(CheckSignature, err)
		}
		return struct{}{}, nil
	})
	return err
}

// check compares what stands in both report and certificate, which go-sev-guest's
// verify does not, and adds to the claims what the certificate says alone.
func (e *amdExtensions) check(c *Claims, r *sevsnp.Report) error {
	if want := e.tcb(c.Product); want != r.ReportedTcb {
		return differ(CheckTCB, tcbText(want), tcbText(r.ReportedTcb))
	}
	if e.hardwareID == nil { // a VLEK: all chips of the cloud have it
		c.Signer, c.ChipID, c.SNP.CSP = SignerVLEK, nil, e.csp
		return nil
	}
	// Turin's hardware ID has 8 bytes; the rest of CHIP_ID is zero.
	id := make([]byte, abi.ChipIDSize)
	copy(id, e.hardwareID)
	if !bytes.Equal(id, r.ChipId) {
		return differ(CheckChip, hex.EncodeToString(id), hex.EncodeToString(r.ChipId))
	}
	return nil
}

// explain puts beneath a signature that does not hold that the certificate is of other
// firmware, or of another chip, than the report says: another key, then. The report is
// not signed; what it says of itself may be false too.
func (e *amdExtensions) explain(err error, c *Claims, r *sevsnp.Report) error {
	failed, other := (*Error)(nil), e.check(c, r)
	if other != nil && errors.As(err, &failed) {
		return refuse(failed.Check, errors.Join(failed.cause, other))
	}
	return err
}

func snpClaims(r *sevsnp.Report, line string) *Claims {
	c := &Claims{
		Platform: PlatformSEVSNP, ReportVersion: r.Version, Product: line, Signer: SignerVCEK,
		Measurement: r.Measurement, HostData: r.HostData,
		Debug: r.Policy&policyDebug != 0, Migration: r.Policy&policyMigration != 0, SMT: r.Policy&policySMT != 0,
		SMTEnabled: r.PlatformInfo&1 != 0, VMPL: r.Vmpl, GuestSVN: r.GuestSvn,
		ReportedTCB: tcb(line, r.ReportedTcb), CommittedTCB: tcb(line, r.CommittedTcb),
		CurrentTCB: tcb(line, r.CurrentTcb), LaunchTCB: tcb(line, r.LaunchTcb),
		ChipID: r.ChipId, FamilyID: r.FamilyId, ImageID: r.ImageId, IDKeyDigest: r.IdKeyDigest, AuthorKeyDigest: r.AuthorKeyDigest,
		SNP: &SNP{
			Policy: r.Policy, PlatformInfo: r.PlatformInfo, ReportID: r.ReportId, ReportIDMA: r.ReportIdMa, AuthorKey: r.SignerInfo&1 != 0,
			Current:          Firmware{uint8(r.CurrentMajor), uint8(r.CurrentMinor), uint8(r.CurrentBuild)},
			Committed:        Firmware{uint8(r.CommittedMajor), uint8(r.CommittedMinor), uint8(r.CommittedBuild)},
			LaunchMitigation: r.LaunchMitVector, CurrentMitigation: r.CurrentMitVector,
		},
	}
	copy(c.ReportData[:], r.ReportData)
	return c
}

// Bits of the guest policy (AMD 56860, table "Guest policy").
const (
	policySMT       = 1 << 16
	policyMigration = 1 << 18
	policyDebug     = 1 << 19
)

// tcb reads a TCB_VERSION (AMD 56860, section "TCB version"): one byte a part, the
// layout being the product line's.
func tcb(line string, v uint64) TCB {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	if line == turin {
		return TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}

func tcbText(v uint64) string { return fmt.Sprintf("%016x", v) }

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func ledgerText(id []byte, backend string, number uint64) string {
	return fmt.Sprintf("%s (%s, number %d)", hex.EncodeToString(id), backend, number)
}
