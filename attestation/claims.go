package attestation

import (
	"time"

	"github.com/passclave/passclave/wire"
)

// Roots are the roots of trust that a verifier adds to the hardware makers' own,
// which are compiled in and always count. The zero value adds none.
type Roots struct {
	// Simulation holds the SHA-256 of simulation root certificates (DER). Evidence
	// that ends at one of them is genuine, with Claims.Simulated set: it was made by
	// who holds that root's key, and no hardware protects anything.
	Simulation []wire.Digest
}

// Claims are what genuine evidence says. Byte strings have the length that the
// platform gives them; those that a platform does not have are nil.
type Claims struct {
	Platform      Platform
	Simulated     bool        // the chain ends at a simulation root
	Root          wire.Digest // SHA-256 of the root certificate (DER)
	Time          time.Time   // what Genuine took for now
	ReportVersion uint32
	Product       string // SNP: "Milan", "Genoa"

	Measurement []byte   // SNP: launch digest, 48 bytes
	HostData    []byte   // SNP: HOST_DATA, 32 bytes: declared by the host at launch, fixed since
	ReportData  [64]byte // chosen by the guest

	Debug      bool // the host may read the guest's memory
	Migration  bool // the guest may move, by a migration agent
	SMT        bool // the guest may run beside another thread of its core
	SMTEnabled bool // SNP, PLATFORM_INFO: the machine has SMT on
	VMPL       uint32
	GuestSVN   uint32

	ReportedTCB  TCB // equal to the certificate's: the one that the signing key is derived from
	CommittedTCB TCB // the host cannot go back behind it
	CurrentTCB   TCB
	LaunchTCB    TCB

	ChipID          []byte // SNP: 64 bytes
	FamilyID        []byte // SNP: 16 bytes, from the ID block
	ImageID         []byte // SNP: 16 bytes, from the ID block
	IDKeyDigest     []byte // SNP: 48 bytes, SHA-384 of the key that signed the ID block
	AuthorKeyDigest []byte // SNP: 48 bytes

	RuntimeData       *RuntimeData
	ConfigurationHash wire.Digest         // as the runtime data has it
	Configuration     *wire.Configuration // nil where the bundle has none
}

// TCB holds the security patch levels of SNP's firmware (AMD 56860, TCB_VERSION, in
// the layout of Milan and Genoa).
type TCB struct {
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// AtLeast reports whether no part of t lies under that of least.
func (t TCB) AtLeast(least TCB) bool {
	return t.Bootloader >= least.Bootloader && t.TEE >= least.TEE && t.SNP >= least.SNP && t.Microcode >= least.Microcode
}
