package policy

import (
	"bytes"
	"encoding/hex"
	"slices"

	"github.com/passclave/passclave/attestation"
)

// sections checks that a platform's members are there if the platform is named, and
// not otherwise, where they would look like a check.
func (c *checker) sections(p *TrustPolicy) {
	const snp, tdx, sgx = attestation.PlatformSEVSNP, attestation.PlatformTDX, attestation.PlatformSGX
	for _, s := range []struct {
		member    string
		there     bool
		platforms []attestation.Platform
	}{
		{"products", p.SNP != nil, []attestation.Platform{snp}},
		{"intel", p.Intel != nil, []attestation.Platform{tdx, sgx}},
		{"tdx", p.TDX != nil, []attestation.Platform{tdx}},
		{"sgx", p.SGX != nil, []attestation.Platform{sgx}},
	} {
		if p.has(s.platforms...) {
			if !s.there {
				c.missing(s.member)
			}
		} else {
			c.that(!s.there, s.member, "belongs to a policy that names %s among its platforms", join(s.platforms))
		}
	}
	if p.SNP != nil {
		c.snp(p.SNP)
	}
	if p.Intel != nil {
		c.intel(p.Intel)
	}
	if p.TDX != nil {
		c.tdx(p.TDX)
	}
	if p.SGX != nil {
		c.flags("sgx.attributes", p.SGX.Attributes, sgxDebug)
		c.flags("sgx.xfrm", p.SGX.XFRM, 0)
		c.flags("sgx.miscselect", p.SGX.MiscSelect, 0)
	}
}

func (c *checker) snp(s *SNP) {
	c.products(s.Products)
	if s.ReportSigners != nil {
		known(c, "report_signers", s.ReportSigners, knownSigners)
	}
	if slices.Contains(s.signers(), attestation.SignerVLEK) {
		if s.VLEKProviders == nil {
			c.missing("vlek_providers")
		}
		c.words("vlek_providers", s.VLEKProviders)
	} else {
		c.that(s.VLEKProviders == nil, "vlek_providers", "belongs to a policy that names %q among report_signers", attestation.SignerVLEK)
	}
	if s.GuestPolicy != nil {
		c.flags("guest_policy", Require(*s.GuestPolicy), policyElsewhere)
	}
	if s.PlatformInfo != nil {
		c.flags("platform_info", Require(*s.PlatformInfo), 0)
	}
	for _, l := range []struct {
		member string
		list   []Hex
		size   int
		why    string
	}{
		{"chip_ids", s.ChipIDs, chipSize, "zero is what hosts show that hide the chip: it names none"},
		{"id_key_digests", s.IDKeyDigests, digestSize, "zero is a launch without ID block: nobody signed it"},
		{"author_key_digests", s.AuthorKeyDigests, digestSize, "zero is a launch without author key: nobody signed it"},
		{"family_ids", s.FamilyIDs, idSize, ""},
		{"image_ids", s.ImageIDs, idSize, ""},
	} {
		if l.list == nil {
			continue
		}
		c.distinct(l.member, l.list, l.size)
		for i, h := range l.list {
			c.that(l.why == "" || !bytes.Equal(h, make([]byte, l.size)), at(l.member, i), "%s", l.why)
		}
	}
	c.forbidden("migration", s.Migration)
	c.that(s.SMT == Allowed || s.SMT == Forbidden, "smt", "must be %q or %q", Allowed, Forbidden)
	c.that(s.MaximumVMPL <= maxVMPL, "maximum_vmpl", "must be 0 to %d", maxVMPL)
}

func (c *checker) products(list []Product) {
	c.that(len(list) > 0, "products", "must name at least one")
	for i, p := range list {
		where := at("products", i)
		c.that(slices.Contains(knownProducts, p.Name), where+".name", "must be one of %q", knownProducts)
		c.that(!slices.ContainsFunc(list[:i], func(q Product) bool { return q.Name == p.Name }), where+".name", "stands twice")
		if c.rule(where+".minimum_tcb", p.MinimumTCB.Waived) {
			c.that(p.Name == hasFMC || p.MinimumTCB.Want.FMC == 0, where+".minimum_tcb.fmc", "belongs to %s", hasFMC)
		}
	}
}

func (c *checker) intel(i *Intel) {
	if c.rule("intel.tcb_status", i.TCBStatus.Waived) {
		known(c, "intel.tcb_status", i.TCBStatus.Want, knownStatus)
	}
	if i.FMSPCs != nil {
		c.distinct("intel.fmspcs", i.FMSPCs, fmspcSize)
	}
	if len(i.Advisories) > 0 {
		c.words("intel.advisories", i.Advisories)
	}
}

func (c *checker) tdx(t *TDX) {
	if c.rule("tdx.mrseam", t.MRSEAM.Waived) {
		c.distinct("tdx.mrseam", t.MRSEAM.Want, digestSize)
	}
	c.hexRule("tdx.mrsignerseam", t.MRSignerSEAM, digestSize)
	c.hexRule("tdx.mrowner", t.MROwner, digestSize)
	c.hexRule("tdx.mrownerconfig", t.MROwnerConfig, digestSize)
	c.flags("tdx.attributes", t.Attributes, tdxDebug)
	c.flags("tdx.xfam", t.XFAM, 0)
	c.hexRule("tdx.minimum_tee_tcb_svn", t.MinimumTEETCBSVN, idSize)
}

// flags checks a rule over bits; elsewhere are those that other fields judge.
func (c *checker) flags(member string, r Rule[Flags], elsewhere Bits) {
	if c.rule(member, r.Waived) {
		f := r.Want
		c.that(f.Required&^f.Allowed == 0, member, "allowed must include required")
		c.that((f.Required|f.Allowed)&elsewhere == 0, member, "bits %s are judged by members of their own", elsewhere)
	}
}

func (c *checker) releases(p *TrustPolicy) {
	list := p.Releases
	c.that(len(list) > 0 && len(list) <= maxItems, "releases", "must have 1 to %d elements", maxItems)
	for i, r := range list {
		where := at("releases", i)
		c.name(where+".name", r.Name)
		c.that(!slices.ContainsFunc(list[:i], func(q Release) bool { return q.Name == r.Name }), where+".name", "stands twice")
		c.that(slices.Contains(p.Platforms, r.Platform), where+".platform", "must be one of platforms")
		c.release(where, r)
	}
	for _, x := range p.Platforms {
		c.that(slices.ContainsFunc(list, func(r Release) bool { return r.Platform == x }), "releases", "must have one of %s", x)
	}
}

func (c *checker) release(where string, r Release) {
	ways := 0
	if r.Measurement.Waived != "" || r.Measurement.Want != nil || r.UVM == nil && r.Signer == nil {
		ways++
		c.hexRule(where+".measurement", r.Measurement, measurementSize[r.Platform])
	}
	if u := r.UVM; u != nil {
		ways++
		c.that(r.Platform == attestation.PlatformSEVSNP, where+".uvm", "belongs to %s", attestation.PlatformSEVSNP)
		c.text(where+".uvm.issuer", u.Issuer)
		c.text(where+".uvm.feed", u.Feed)
	}
	if s := r.Signer; s != nil {
		ways++
		c.that(r.Platform == attestation.PlatformSGX, where+".signer", "belongs to %s", attestation.PlatformSGX)
		c.size(where+".signer.mrsigner", s.MRSigner, hashSize)
	}
	c.that(ways == 1, where, "only one of measurement, uvm and signer says what the enclave is")
	if r.Platform == attestation.PlatformTDX {
		if r.RTMRs == nil {
			c.missing(where + ".rtmrs")
		}
		c.that(len(r.RTMRs) == rtmrs, where+".rtmrs", "must have %d elements", rtmrs)
		for i, m := range r.RTMRs {
			c.hexRule(at(where+".rtmrs", i), m, digestSize)
		}
	} else {
		c.that(r.RTMRs == nil, where+".rtmrs", "belongs to %s", attestation.PlatformTDX)
	}
	c.hexRule(where+".configuration", r.Configuration, hashSize)
	if c.rule(where+".host_data", r.HostData.Waived) {
		size := hostDataSize[r.Platform]
		b, err := hex.DecodeString(r.HostData.Want)
		c.that(r.HostData.Want == HostDataConfiguration || err == nil && len(b) == size && Hex(b).String() == r.HostData.Want,
			where+".host_data", "must be %q, or %d bytes in lower-case hexadecimal", HostDataConfiguration, size)
	}
}
