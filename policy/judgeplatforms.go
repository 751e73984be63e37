package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/passclave/passclave/attestation"
)

func (j *judgement) snp(p *SNP) {
	c := j.c
	j.products(p)
	if !j.leave(FieldSigners, c.Signer != "") {
		j.add(FieldSigners, "", slices.Contains(p.signers(), c.Signer), join(p.signers()), orNone(c.Signer))
	}
	j.providers(p)
	j.oneOf(FieldChipIDs, p.ChipIDs, c.ChipID, "any genuine chip")
	j.oneOf(FieldIDKeys, p.IDKeyDigests, c.IDKeyDigest, "any key, or none")
	author := c.AuthorKeyDigest
	if c.SNP != nil && !c.SNP.AuthorKey {
		author = nil // the report says that these bytes are no key's
	}
	j.oneOf(FieldAuthorKeys, p.AuthorKeyDigests, author, "any key, or none")
	j.oneOf(FieldFamilyIDs, p.FamilyIDs, c.FamilyID, "any family")
	j.oneOf(FieldImageIDs, p.ImageIDs, c.ImageID, "any image")
	s, known := c.SNP, c.SNP != nil
	if !known {
		s = &attestation.SNP{}
	}
	j.narrowedFlags(FieldGuestPolicy, p.GuestPolicy, known, s.Policy, policyElsewhere)
	j.narrowedFlags(FieldPlatformInfo, p.PlatformInfo, known, s.PlatformInfo, 0)
	both := Bits(s.LaunchMitigation & s.CurrentMitigation)
	j.add(FieldMitigations, "", both&p.RequiredMitigations == p.RequiredMitigations, "at least "+p.RequiredMitigations.String(), both.String())
	j.add(FieldGuestSVN, "", c.GuestSVN >= p.MinimumGuestSVN, fmt.Sprint("at least ", p.MinimumGuestSVN), fmt.Sprint(c.GuestSVN))
	j.add(FieldMigration, p.Migration.Waived, !c.Migration, string(p.Migration.Want), permission(c.Migration))
	j.add(FieldSMT, "", p.SMT == Allowed || !c.SMT, string(p.SMT), permission(c.SMT))
	j.add(FieldVMPL, "", c.VMPL <= p.MaximumVMPL, fmt.Sprint("at most ", p.MaximumVMPL), fmt.Sprint(c.VMPL))
}

// providers judges whose VLEK it is.
func (j *judgement) providers(p *SNP) {
	expected := orNone(strings.Join(p.VLEKProviders, " or "))
	if j.c.Signer != attestation.SignerVLEK {
		j.add(FieldProviders, "", true, expected, "no cloud's key")
		return
	}
	csp := ""
	if j.c.SNP != nil {
		csp = j.c.SNP.CSP
	}
	j.add(FieldProviders, "", slices.Contains(p.VLEKProviders, csp), expected, firstOf(csp, "unknown"))
}

func (j *judgement) narrowedFlags(f Field, r *Flags, known bool, v uint64, elsewhere Bits) {
	if r == nil {
		j.add(f, "", true, "any", Bits(v).String())
		return
	}
	j.flags(f, Require(*r), known, v, elsewhere)
}

func (j *judgement) products(p *SNP) {
	c := j.c
	var names []string
	for _, q := range p.Products {
		names = append(names, q.Name)
	}
	if j.leave(FieldProducts, c.Product != "") {
		// Levels of two product lines cannot be compared: not knowing which, all floors count.
		waived, ok, floors := "", true, []string(nil)
		for _, q := range p.Products {
			waived = firstOf(waived, q.MinimumTCB.Waived)
			ok = ok && (q.MinimumTCB.Waived != "" || leastTCB(c).AtLeast(q.MinimumTCB.Want))
			floors = append(floors, q.Name+" "+showRule(q.MinimumTCB, showTCB))
		}
		if ok && waived == "" || !ok {
			j.add(FieldTCB, "", ok, "at least "+strings.Join(floors, " and "), showTCBs(c))
		} else {
			j.add(FieldTCB, waived, ok, "", showTCBs(c))
		}
		return
	}
	i := slices.Index(names, c.Product)
	j.add(FieldProducts, "", i >= 0, join(names), orNone(c.Product))
	if i >= 0 { // floors are those of the product; without it everything is refused already
		floor := p.Products[i].MinimumTCB
		j.add(FieldTCB, floor.Waived, leastTCB(c).AtLeast(floor.Want), "at least "+showTCB(floor.Want), showTCBs(c))
	}
}

func (j *judgement) intel(p *Intel) {
	i := j.c.Intel
	if i == nil {
		i = &attestation.Intel{}
	}
	if !j.leave(FieldTCBStatus, i.TCBStatus != "") {
		actual := "unknown: no collateral is stapled"
		if i.TCBStatus != "" {
			actual = i.TCBStatus + ", of " + i.TCBDate.UTC().Format(time.DateOnly)
		}
		j.add(FieldTCBStatus, p.TCBStatus.Waived, slices.Contains(p.TCBStatus.Want, i.TCBStatus), strings.Join(p.TCBStatus.Want, " or "), actual)
	}
	if !j.leave(FieldEvaluation, i.EvaluationNumber != 0) {
		j.add(FieldEvaluation, "", i.EvaluationNumber >= p.MinimumEvaluationNumber,
			fmt.Sprint("at least ", p.MinimumEvaluationNumber), fmt.Sprint(i.EvaluationNumber))
	}
	j.oneOf(FieldFMSPCs, p.FMSPCs, i.FMSPC, "every genuine machine")
	actual := orNone(strings.Join(i.Advisories, ", "))
	if p.Advisories == nil {
		j.add(FieldAdvisories, "", true, "any that the status lets through", actual)
		return
	}
	ok := i.TCBStatus != "" // else nobody knows which apply
	for _, a := range i.Advisories {
		ok = ok && slices.Contains(p.Advisories, a)
	}
	if i.TCBStatus == "" {
		actual = "unknown"
	}
	j.add(FieldAdvisories, "", ok, "only "+orNone(strings.Join(p.Advisories, ", ")), actual)
}

func (j *judgement) tdx(p *TDX) {
	t, known := j.c.TDX, j.c.TDX != nil
	if !known {
		t = &attestation.TDX{} // and nothing but a waiver lets it through
	}
	same := func(f Field, r Rule[Hex], actual []byte) {
		j.add(f, r.Waived, known && bytes.Equal(r.Want, actual), r.Want.String(), orNone(Hex(actual).String()))
	}
	j.add(FieldMRSEAM, p.MRSEAM.Waived, contains(p.MRSEAM.Want, t.MRSEAM), join(p.MRSEAM.Want), orNone(Hex(t.MRSEAM).String()))
	same(FieldMRSignerSEAM, p.MRSignerSEAM, t.MRSignerSEAM)
	same(FieldMROwner, p.MROwner, t.MROwner)
	same(FieldMROwnerConfig, p.MROwnerConfig, t.MROwnerConfig)
	j.flags(FieldTDXAttributes, p.Attributes, known, t.Attributes, tdxDebug)
	j.flags(FieldXFAM, p.XFAM, known, t.XFAM, 0)
	j.add(FieldTEETCBSVN, p.MinimumTEETCBSVN.Waived, atLeastEach(t.TEETCBSVN, p.MinimumTEETCBSVN.Want),
		"each byte at least "+p.MinimumTEETCBSVN.Want.String(), orNone(Hex(t.TEETCBSVN).String()))
}

func (j *judgement) sgx(p *SGX) {
	s, known := j.c.SGX, j.c.SGX != nil
	if !known {
		s = &attestation.SGX{}
	}
	// The bits of an enclave that runs are never all zero: a token then says nothing of them.
	said := s.Attributes != 0
	for _, x := range []struct {
		field     Field
		rule      Rule[Flags]
		actual    uint64
		elsewhere Bits
	}{
		{FieldSGXAttributes, p.Attributes, s.Attributes, sgxDebug},
		{FieldXFRM, p.XFRM, s.XFRM, 0},
		{FieldMiscSelect, p.MiscSelect, uint64(s.MiscSelect), 0},
	} {
		if !j.leave(x.field, said) {
			j.flags(x.field, x.rule, known, x.actual, x.elsewhere)
		}
	}
	actual := none
	if known {
		actual = fmt.Sprint(s.ConfigSVN)
	}
	j.add(FieldConfigSVN, "", known && s.ConfigSVN >= p.MinimumConfigSVN, fmt.Sprint("at least ", p.MinimumConfigSVN), actual)
}

// flags judges bits; elsewhere are those that other fields judge.
func (j *judgement) flags(f Field, r Rule[Flags], known bool, v uint64, elsewhere Bits) {
	actual := none
	if known {
		actual = Bits(v).String()
	}
	j.add(f, r.Waived, known && r.Want.accepts(v&^uint64(elsewhere)), r.Want.String(), actual)
}
