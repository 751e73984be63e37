package guest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// snpReport is a SEV-SNP report as the Rust crate sev writes it in JSON
// (virtee/sev, firmware/guest/types/snp.rs): the forms of its versions 4 and 6, which
// have different members for the same bytes. A member that stands in neither is
// refused: its bits would be missing under the signature.
type snpReport struct {
	Version         uint32     `json:"version"`
	GuestSVN        uint32     `json:"guest_svn"`
	Policy          uint64     `json:"policy"`
	FamilyID        octets     `json:"family_id"`
	ImageID         octets     `json:"image_id"`
	VMPL            uint32     `json:"vmpl"`
	SigAlgo         uint32     `json:"sig_algo"`
	CurrentTCB      snpTCB     `json:"current_tcb"`
	PlatInfo        uint64     `json:"plat_info"`
	KeyInfo         uint32     `json:"key_info"`       // 6
	AuthorKeyEn     uint32     `json:"_author_key_en"` // 4: the same
	ReportData      octets     `json:"report_data"`
	Measurement     octets     `json:"measurement"`
	HostData        octets     `json:"host_data"`
	IDKeyDigest     octets     `json:"id_key_digest"`
	AuthorKeyDigest octets     `json:"author_key_digest"`
	ReportID        octets     `json:"report_id"`
	ReportIDMA      octets     `json:"report_id_ma"`
	ReportedTCB     snpTCB     `json:"reported_tcb"`
	Family          uint8      `json:"cpuid_fam_id"` // 6, null in reports of version 2
	Model           uint8      `json:"cpuid_mod_id"`
	Stepping        uint8      `json:"cpuid_step"`
	ChipID          octets     `json:"chip_id"`
	CommittedTCB    snpTCB     `json:"committed_tcb"`
	Current         snpVersion `json:"current"` // 6
	Committed       snpVersion `json:"committed"`
	CurrentBuild    uint8      `json:"current_build"` // 4
	CurrentMinor    uint8      `json:"current_minor"`
	CurrentMajor    uint8      `json:"current_major"`
	CommittedBuild  uint8      `json:"committed_build"`
	CommittedMinor  uint8      `json:"committed_minor"`
	CommittedMajor  uint8      `json:"committed_major"`
	LaunchTCB       snpTCB     `json:"launch_tcb"`
	LaunchMit       uint64     `json:"launch_mit_vector"` // null before version 5
	CurrentMit      uint64     `json:"current_mit_vector"`
	Signature       struct {
		R        octets `json:"r"` // little-endian, as in the report
		S        octets `json:"s"`
		Reserved octets `json:"_reserved"` // 4
	} `json:"signature"`

	// 4. In reports of version 3 the second has the processor, the last the mitigations.
	Reserved0 uint32 `json:"_reserved_0"`
	Reserved1 octets `json:"_reserved_1"`
	Reserved2 uint8  `json:"_reserved_2"`
	Reserved3 uint8  `json:"_reserved_3"`
	Reserved4 octets `json:"_reserved_4"`
}

type snpVersion struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

// snpTCB is a TCB_VERSION. Turin's has the FMC, and another order.
type snpTCB struct {
	FMC        *uint8 `json:"fmc"`
	Bootloader uint8  `json:"bootloader"`
	TEE        uint8  `json:"tee"`
	Reserved   octets `json:"_reserved"` // 4
	SNP        uint8  `json:"snp"`
	Microcode  uint8  `json:"microcode"`
}

const reportSize = 1184 // bytes of ATTESTATION_REPORT

// encodeReport makes the 1184 bytes of a report again (AMD 56860, ATTESTATION_REPORT).
func encodeReport(text []byte) ([]byte, error) {
	var r snpReport
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the report")
	}
	w := &layout{out: make([]byte, reportSize)}
	le := binary.LittleEndian
	le.PutUint32(w.out, r.Version)
	le.PutUint32(w.out[0x04:], r.GuestSVN)
	le.PutUint64(w.out[0x08:], r.Policy)
	w.put(0x10, 16, r.FamilyID)
	w.put(0x20, 16, r.ImageID)
	le.PutUint32(w.out[0x30:], r.VMPL)
	le.PutUint32(w.out[0x34:], r.SigAlgo)
	w.tcb(0x38, &r.CurrentTCB)
	le.PutUint64(w.out[0x40:], r.PlatInfo)
	le.PutUint32(w.out[0x48:], r.KeyInfo|r.AuthorKeyEn)
	le.PutUint32(w.out[0x4c:], r.Reserved0)
	w.put(snpDataAt, 64, r.ReportData)
	w.put(0x90, 48, r.Measurement)
	w.put(0xc0, 32, r.HostData)
	w.put(0xe0, 48, r.IDKeyDigest)
	w.put(0x110, 48, r.AuthorKeyDigest)
	w.put(0x140, 32, r.ReportID)
	w.put(0x160, 32, r.ReportIDMA)
	w.tcb(0x180, &r.ReportedTCB)
	w.optional(0x188, 24, r.Reserved1)
	w.or(0x188, r.Family, r.Model, r.Stepping)
	w.put(0x1a0, 64, r.ChipID)
	w.tcb(0x1e0, &r.CommittedTCB)
	w.or(0x1e8, r.Current.Build, r.Current.Minor, r.Current.Major, r.Reserved2)
	w.or(0x1e8, r.CurrentBuild, r.CurrentMinor, r.CurrentMajor)
	w.or(0x1ec, r.Committed.Build, r.Committed.Minor, r.Committed.Major, r.Reserved3)
	w.or(0x1ec, r.CommittedBuild, r.CommittedMinor, r.CommittedMajor)
	w.tcb(0x1f0, &r.LaunchTCB)
	w.optional(0x1f8, 168, r.Reserved4)
	w.or(0x1f8, le.AppendUint64(nil, r.LaunchMit)...)
	w.or(0x200, le.AppendUint64(nil, r.CurrentMit)...)
	w.put(0x2a0, 72, r.Signature.R)
	w.put(0x2e8, 72, r.Signature.S)
	w.optional(0x330, 368, r.Signature.Reserved)
	return w.out, w.err
}

// layout puts members to their places, and remembers the first that does not fit.
type layout struct {
	out []byte
	err error
}

func (w *layout) put(at, size int, value octets) {
	if len(value) != size && w.err == nil {
		w.err = fmt.Errorf("%d bytes instead of %d at %#x", len(value), size, at)
	}
	copy(w.out[at:at+size], value)
}

// optional is put for what one of the forms does not have.
func (w *layout) optional(at, size int, value octets) {
	if value != nil {
		w.put(at, size, value)
	}
}

// or adds the bits of what the two forms have in different members.
func (w *layout) or(at int, value ...byte) {
	for i, b := range value {
		w.out[at+i] |= b
	}
}

func (w *layout) tcb(at int, t *snpTCB) {
	if t.FMC != nil {
		w.or(at, *t.FMC, t.Bootloader, t.TEE, t.SNP, 0, 0, 0, t.Microcode)
		return
	}
	w.optional(at+2, 4, t.Reserved)
	w.or(at, t.Bootloader, t.TEE)
	w.or(at+6, t.SNP, t.Microcode)
}
