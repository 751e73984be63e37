package policy

import (
	"strconv"

	"github.com/passclave/passclave/attestation"
)

func readSNP(m map[string]node) *SNP {
	s := &SNP{}
	if n, ok := m["products"]; ok {
		s.Products = list(n, readProduct)
	}
	if n, ok := m["minimum_guest_svn"]; ok {
		s.MinimumGuestSVN = uint32(n.number(32))
	}
	if n, ok := m["migration"]; ok {
		s.Migration = rule(n, readPermission)
	}
	if n, ok := m["smt"]; ok {
		s.SMT = readPermission(n)
	}
	if n, ok := m["maximum_vmpl"]; ok {
		s.MaximumVMPL = uint32(n.number(32))
	}
	if n, ok := m["report_signers"]; ok {
		s.ReportSigners = narrowing(n, node.text)
	}
	if n, ok := m["vlek_providers"]; ok {
		s.VLEKProviders = narrowing(n, node.text)
	}
	if n, ok := m["guest_policy"]; ok {
		f := readFlags(n)
		s.GuestPolicy = &f
	}
	if n, ok := m["platform_info"]; ok {
		f := readFlags(n)
		s.PlatformInfo = &f
	}
	if n, ok := m["required_mitigations"]; ok {
		s.RequiredMitigations = n.bits()
	}
	for name, to := range map[string]*[]Hex{
		"chip_ids": &s.ChipIDs, "id_key_digests": &s.IDKeyDigests, "author_key_digests": &s.AuthorKeyDigests,
		"family_ids": &s.FamilyIDs, "image_ids": &s.ImageIDs,
	} {
		if n, ok := m[name]; ok {
			*to = narrowing(n, node.hex)
		}
	}
	return s
}

func readProduct(n node) Product {
	m := n.members([]string{"name", "minimum_tcb"}, nil)
	name := m["name"].text()
	return Product{Name: name, MinimumTCB: rule(m["minimum_tcb"], func(n node) attestation.TCB { return readTCB(n, name == hasFMC) })}
}

// readTCB demands the FMC's level where the product has one: left out, it would read as
// a floor of zero.
func readTCB(n node, fmc bool) (t attestation.TCB) {
	levels := []string{"bootloader", "tee", "snp", "microcode"}
	if fmc {
		levels = append(levels, "fmc")
	}
	m := n.members(levels, nil)
	level := func(name string) uint8 { return uint8(m[name].number(8)) }
	t = attestation.TCB{Bootloader: level("bootloader"), TEE: level("tee"), SNP: level("snp"), Microcode: level("microcode")}
	if fmc {
		t.FMC = level("fmc")
	}
	return t
}

func readIntel(n node) *Intel {
	m := n.members([]string{"tcb_status", "minimum_evaluation_number"}, []string{"fmspcs", "advisories"})
	i := &Intel{
		TCBStatus:               rule(m["tcb_status"], func(n node) []string { return list(n, node.text) }),
		MinimumEvaluationNumber: uint32(m["minimum_evaluation_number"].number(32)),
	}
	if n, ok := m["fmspcs"]; ok {
		i.FMSPCs = narrowing(n, node.hex)
	}
	if n, ok := m["advisories"]; ok {
		i.Advisories = list(n, node.text) // an empty list accepts none
		if i.Advisories == nil {
			i.Advisories = []string{}
		}
	}
	return i
}

func readTDX(n node) *TDX {
	m := n.members([]string{"mrseam", "mrsignerseam", "mrowner", "mrownerconfig", "attributes", "xfam", "minimum_tee_tcb_svn"}, nil)
	return &TDX{
		MRSEAM:           rule(m["mrseam"], func(n node) []Hex { return list(n, node.hex) }),
		MRSignerSEAM:     rule(m["mrsignerseam"], node.hex),
		MROwner:          rule(m["mrowner"], node.hex),
		MROwnerConfig:    rule(m["mrownerconfig"], node.hex),
		Attributes:       rule(m["attributes"], readFlags),
		XFAM:             rule(m["xfam"], readFlags),
		MinimumTEETCBSVN: rule(m["minimum_tee_tcb_svn"], node.hex),
	}
}

func readSGX(n node) *SGX {
	m := n.members([]string{"attributes", "xfrm", "miscselect", "minimum_config_svn"}, nil)
	return &SGX{
		Attributes:       rule(m["attributes"], readFlags),
		XFRM:             rule(m["xfrm"], readFlags),
		MiscSelect:       rule(m["miscselect"], readFlags),
		MinimumConfigSVN: uint16(m["minimum_config_svn"].number(16)),
	}
}

func readFlags(n node) Flags {
	m := n.members([]string{"required", "allowed"}, nil)
	return Flags{Required: m["required"].bits(), Allowed: m["allowed"].bits()}
}

// bits reads "0x" and hexadecimal digits in the one form that [Bits] is written in.
func (n node) bits() Bits {
	s := n.text()
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil || Bits(v).String() != s {
		n.fail(ReasonValue, "must be a number such as 0x618e7")
	}
	return Bits(v)
}

func readRelease(n node) Release {
	identities := []string{"measurement", "uvm", "signer"}
	m := n.members([]string{"name", "platform", "configuration", "host_data"}, append(identities, "rtmrs"))
	r := Release{
		Name:          m["name"].text(),
		Platform:      readPlatform(m["platform"]),
		Configuration: rule(m["configuration"], node.hex),
		HostData:      rule(m["host_data"], node.text),
	}
	var given []node
	for _, name := range identities {
		if n, ok := m[name]; ok {
			given = append(given, n)
		}
	}
	switch len(given) {
	case 0:
		n.at("measurement", nil).fail(ReasonMissing, "")
	case 1:
	default:
		given[1].fail(ReasonValue, "only one of measurement, uvm and signer says what the enclave is")
	}
	if n, ok := m["measurement"]; ok {
		r.Measurement = rule(n, node.hex)
	}
	if n, ok := m["uvm"]; ok {
		m := n.members([]string{"issuer", "feed", "minimum_svn"}, nil)
		r.UVM = &UVM{Issuer: m["issuer"].text(), Feed: m["feed"].text(), MinimumSVN: m["minimum_svn"].number(64)}
	}
	if n, ok := m["signer"]; ok {
		m := n.members([]string{"mrsigner", "product_id", "minimum_svn"}, nil)
		r.Signer = &Signer{MRSigner: m["mrsigner"].hex(), ProductID: uint16(m["product_id"].number(16)), MinimumSVN: uint16(m["minimum_svn"].number(16))}
	}
	if n, ok := m["rtmrs"]; ok {
		r.RTMRs = narrowing(n, func(n node) Rule[Hex] { return rule(n, node.hex) })
	}
	return r
}
