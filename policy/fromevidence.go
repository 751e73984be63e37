package policy

import (
	"bytes"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// FromEvidence returns the strictest policy for evidence that a person has decided
// to trust: its measurement (on ACI, who endorsed it and at which SVN),
// configuration and ledger, its firmware as the floor, and simulation only under its
// root. The expiry is waived as "unset", chips are not named: both are for the
// person to narrow. Revocation is waived as "not-stapled" where no list came along.
//
// What is dangerous is not taken over: a policy made from evidence with debugging,
// with migration, with a cheap PIN, with firmware that Intel calls old or nobody
// knows, or without its configuration file, refuses that evidence, and says so.
//
// Evidence without runtime data says nothing of configuration and ledger. Its policy
// waives runtime data as "unbound" and names zeros for the rest: it accepts such
// evidence alone, which is good for looking at, and no service a client could use.
//
// c must come from [attestation.Genuine].
func FromEvidence(c *attestation.Claims) *TrustPolicy {
	const name = "from evidence"
	p := &TrustPolicy{
		Version:         Version,
		Name:            name,
		Expires:         Waive[time.Time]("unset"),
		Platforms:       []attestation.Platform{c.Platform},
		Revocation:      Require(Required),
		Debug:           Require(Forbidden),
		MinimumArgon2id: Require(ProductionArgon2id),
	}
	if !c.RevocationChecked && c.Token == nil {
		p.Revocation = Waive[Demand]("not-stapled")
	}
	if c.Simulated {
		p.Simulation = &Simulation{Roots: []Hex{c.Root[:]}}
	}
	if t := c.Token; t != nil {
		s := AttestationService{Issuer: t.Issuer}
		if t.Compliance != "" {
			s.Compliance = []string{t.Compliance}
		}
		p.AttestationServices = []AttestationService{s}
	}
	switch c.Platform {
	case attestation.PlatformSEVSNP:
		p.SNP = snpOf(c)
	case attestation.PlatformTDX:
		p.Intel, p.TDX = intelOf(c.Intel), tdxOf(c.TDX)
	case attestation.PlatformSGX:
		p.Intel, p.SGX = intelOf(c.Intel), sgxOf(c.SGX)
	}
	switch r := c.RuntimeData; {
	case c.Configuration != nil:
		p.Ledger = ledgerOf(c.Configuration.Ledger)
	case r != nil && r.Ledger != nil:
		p.Ledger = ledgerOf(identity(r.Ledger))
	case r == nil:
		p.RuntimeData = Waive[Demand]("unbound")
		zero := make([]byte, hashSize)
		p.Ledger = ledgerOf(wire.LedgerIdentity{ID: zero, Backend: wire.BackendLocal, Genesis: zero, Number: 1})
	}
	r := releaseOf(c)
	r.Name = name
	p.Releases = []Release{r}
	return p
}

func releaseOf(c *attestation.Claims) Release {
	r := Release{
		Platform:      c.Platform,
		Configuration: Require(Hex(c.ConfigurationHash[:])),
		HostData:      Require(Hex(c.HostData).String()),
	}
	if c.RuntimeData != nil && bytes.Equal(c.HostData, pad(c.ConfigurationHash[:], c.Platform)) {
		r.HostData = Require(HostDataConfiguration)
	}
	if u := c.UVM; u != nil {
		r.UVM = &UVM{Issuer: u.Issuer, Feed: u.Feed, MinimumSVN: u.SVN}
	} else {
		r.Measurement = Require(Hex(c.Measurement))
	}
	if c.TDX != nil {
		for _, m := range c.TDX.RTMRs {
			r.RTMRs = append(r.RTMRs, Require(Hex(m)))
		}
	}
	return r
}

func snpOf(c *attestation.Claims) *SNP {
	out := &SNP{
		MinimumGuestSVN:  c.GuestSVN,
		Migration:        Require(Forbidden),
		SMT:              Permission(permission(c.SMT)),
		MaximumVMPL:      min(c.VMPL, maxVMPL), // above it, the host asked for the report
		IDKeyDigests:     unlessZero(c.IDKeyDigest),
		AuthorKeyDigests: unlessZero(c.AuthorKeyDigest),
		FamilyIDs:        unlessZero(c.FamilyID),
		ImageIDs:         unlessZero(c.ImageID),
	}
	if s := c.SNP; s != nil {
		out.GuestPolicy = &Flags{Required: Bits(s.Policy) &^ policyElsewhere, Allowed: Bits(s.Policy) &^ policyElsewhere}
		out.PlatformInfo = &Flags{Required: Bits(s.PlatformInfo) & platformGood, Allowed: Bits(s.PlatformInfo) | platformGood | platformSMT}
		out.RequiredMitigations = Bits(s.LaunchMitigation & s.CurrentMitigation)
		if c.Signer == attestation.SignerVLEK && s.CSP != "" {
			out.VLEKProviders = []string{s.CSP}
		}
	}
	if c.Product == "" && c.Token != nil { // which line it is, is left to the service: its floor holds for all
		for _, name := range knownProducts {
			out.Products = append(out.Products, Product{Name: name, MinimumTCB: Require(leastTCB(c))})
		}
	} else {
		out.Products = []Product{{Name: c.Product, MinimumTCB: Require(leastTCB(c))}}
	}
	if c.Signer != "" && c.Signer != attestation.SignerVCEK {
		out.ReportSigners = []string{c.Signer}
	}
	return out
}

// unlessZero is a list of one, or none where the launch declared nothing.
func unlessZero(b []byte) []Hex {
	if bytes.Equal(b, make([]byte, len(b))) {
		return nil
	}
	return []Hex{b}
}

// goodStatus are the statuses that a policy takes over from evidence: nothing is
// known against the firmware that software has not been hardened for.
var goodStatus = []string{"UpToDate", "SWHardeningNeeded"}

func intelOf(i *attestation.Intel) *Intel {
	out := &Intel{TCBStatus: Require(goodStatus[:1])}
	if i == nil {
		return out
	}
	if i.TCBStatus == goodStatus[1] {
		out.TCBStatus = Require(goodStatus)
	}
	out.MinimumEvaluationNumber = i.EvaluationNumber
	return out
}

// tdxMigratable lets a migration TD take the TD: not taken over from evidence.
const tdxMigratable Bits = 1 << 29

func tdxOf(t *attestation.TDX) *TDX {
	if t == nil {
		return nil
	}
	const underDebug = 0xff // any of these bits takes the TD's protection away; bit 0 is in use
	attributes := Bits(t.Attributes) &^ (underDebug | tdxMigratable)
	return &TDX{
		MRSEAM:           Require([]Hex{t.MRSEAM}),
		MRSignerSEAM:     Require(Hex(t.MRSignerSEAM)),
		MROwner:          Require(Hex(t.MROwner)),
		MROwnerConfig:    Require(Hex(t.MROwnerConfig)),
		Attributes:       Require(Flags{Required: attributes, Allowed: attributes}),
		XFAM:             Require(Flags{Allowed: Bits(t.XFAM)}), // fewer features take nothing away
		MinimumTEETCBSVN: Require(Hex(t.TEETCBSVN)),
	}
}

func sgxOf(s *attestation.SGX) *SGX {
	if s == nil {
		return nil
	}
	attributes, misc := Bits(s.Attributes)&^sgxDebug, Bits(s.MiscSelect)
	return &SGX{
		Attributes:       Require(Flags{Required: attributes, Allowed: attributes}),
		XFRM:             Require(Flags{Allowed: Bits(s.XFRM)}),
		MiscSelect:       Require(Flags{Required: misc, Allowed: misc}),
		MinimumConfigSVN: s.ConfigSVN,
	}
}
