// Package machine is the simulated hardware: it plays AMD (a root, an intermediate
// certificate, the root's revocation list), the chip (a VCEK that signs reports) and the firmware
// (which fills a report in); for TDX and SGX, package intel plays Intel in the same
// way, under a root of its own. Reports and quotes have the real byte formats and pass
// the real verifiers. They prove nothing to whoever does not trust this very root by name.
//
// It owns the simulation's keys, in one state folder of one process. Whoever reads
// that folder can make any evidence under its root. The enclave never holds these
// keys: it asks over a socket ([Machine.Serve]), and the machine measures the binary
// that asks.
package machine

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"fmt"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/simtee/intel"
)

// Machine is simulated hardware. It is safe for concurrent use.
type Machine struct {
	ark, ask authority
	chip     Chip
	vcek     *x509.Certificate
	key      *ecdsa.PrivateKey // P-384
	intel    *intel.Hardware
	binaries measured
	revoked  revocations
}

// authority is a certificate with the key that issues others under it.
type authority struct {
	certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// Root returns AMD's root certificate, which verifiers of SEV-SNP have to trust by name.
func (m *Machine) Root() *x509.Certificate { return m.ark.certificate }

// RootOf returns the root certificate that a platform's verifiers have to trust by name.
func (m *Machine) RootOf(p attestation.Platform) *x509.Certificate {
	if p == attestation.PlatformSEVSNP {
		return m.Root()
	}
	return m.intel.Certificate(intel.Root)
}

// Intel returns the hardware that makes quotes of TDX and SGX.
func (m *Machine) Intel() *intel.Hardware { return m.intel }

// Certificates returns VCEK, ASK and ARK in DER.
func (m *Machine) Certificates() [][]byte {
	return [][]byte{m.vcek.Raw, m.ask.certificate.Raw, m.ark.certificate.Raw}
}

// Report makes what an ordinary guest gets: a report of version 3 with the debug bit
// off, at VMPL 0. measurement, hostData and reportData are taken as they are given:
// [Machine.Serve] measures for itself.
func (m *Machine) Report(measurement [48]byte, hostData [32]byte, reportData [64]byte) (report []byte, certificates [][]byte, err error) {
	r, err := m.Template()
	if err != nil {
		return nil, nil, err
	}
	r.Measurement, r.HostData, r.ReportData = measurement[:], hostData[:], reportData[:]
	report, err = m.Sign(r)
	if err != nil {
		return nil, nil, err
	}
	return report, m.Certificates(), nil
}

// Guest policy of AMD 56860, table 9: ABI 1.31, SMT allowed, no migration, no debugging.
var guestPolicy = abi.SnpPolicyToBytes(abi.SnpPolicy{ABIMajor: 1, ABIMinor: 31, SMT: true})

// Template returns an unsigned report of an ordinary guest on this chip, with zero
// measurement, host data and report data.
func (m *Machine) Template() (*sevsnp.Report, error) {
	tcb, err := m.chip.TCB.encode()
	if err != nil {
		return nil, err
	}
	id := make([]byte, abi.ReportIDSize)
	rand.Read(id)
	return &sevsnp.Report{
		Version:         abi.ReportVersion3,
		Policy:          guestPolicy,
		FamilyId:        make([]byte, abi.FamilyIDSize),
		ImageId:         make([]byte, abi.ImageIDSize),
		SignatureAlgo:   abi.SignEcdsaP384Sha384,
		CurrentTcb:      uint64(tcb),
		PlatformInfo:    1, // SMT is on
		ReportData:      make([]byte, abi.ReportDataSize),
		Measurement:     make([]byte, abi.MeasurementSize),
		HostData:        make([]byte, abi.HostDataSize),
		IdKeyDigest:     make([]byte, abi.IDKeyDigestSize),
		AuthorKeyDigest: make([]byte, abi.AuthorKeyDigestSize),
		ReportId:        id,
		ReportIdMa:      bytes.Repeat([]byte{0xff}, abi.ReportIDMASize), // no migration agent
		ReportedTcb:     uint64(tcb),
		Cpuid1EaxFms:    milanB1,
		ChipId:          bytes.Clone(m.chip.ID[:]),
		CommittedTcb:    uint64(tcb),
		CurrentBuild:    29, CurrentMinor: 55, CurrentMajor: 1,
		CommittedBuild: 29, CommittedMinor: 55, CommittedMajor: 1,
		LaunchTcb: uint64(tcb),
		Signature: make([]byte, abi.SignatureSize),
	}, nil
}

// Sign signs any report, however false: it is what the holder of these keys can do.
// Its signature is replaced.
func (m *Machine) Sign(r *sevsnp.Report) ([]byte, error) {
	r.Signature = make([]byte, abi.SignatureSize)
	report, err := abi.ReportToAbiBytes(r)
	if err != nil {
		return nil, fmt.Errorf("simulated report: %w", err)
	}
	return report, m.SignRaw(report)
}

// SignRaw signs the bytes of a report where they stand, whatever they are.
func (m *Machine) SignRaw(report []byte) error {
	digest := sha512.Sum384(abi.SignedComponent(report))
	r, s, err := ecdsa.Sign(rand.Reader, m.key, digest[:])
	if err != nil {
		return err
	}
	return abi.SetSignature(r, s, report)
}

// Chip is what a VCEK certificate says about a chip and its firmware.
type Chip struct {
	ID  [64]byte
	TCB TCB
}

// TCB holds security patch levels as Milan has them.
type TCB struct{ Bootloader, TEE, SNP, Microcode uint8 }

// firmware is what a machine of 2025 had.
var firmware = TCB{Bootloader: 4, TEE: 0, SNP: 24, Microcode: 219}

func (t TCB) encode() (kds.TCBVersion, error) {
	return kds.ComposeTCBParts(kds.TCBParts{BlSpl: t.Bootloader, TeeSpl: t.TEE, SnpSpl: t.SNP, UcodeSpl: t.Microcode})
}
