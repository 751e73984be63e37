package policy

import (
	"slices"
	"strings"
)

func (d *differ) snp(a, b *SNP, tokens bool) {
	d.products(a.Products, b.Products, tokens)
	diffSet(d, FieldSigners, a.signers(), b.signers())
	diffSet(d, FieldProviders, a.VLEKProviders, b.VLEKProviders)
	narrowed(d, FieldChipIDs, a.ChipIDs, b.ChipIDs, "any genuine chip")
	narrowed(d, FieldIDKeys, a.IDKeyDigests, b.IDKeyDigests, "any key, or none")
	narrowed(d, FieldAuthorKeys, a.AuthorKeyDigests, b.AuthorKeyDigests, "any key, or none")
	narrowed(d, FieldFamilyIDs, a.FamilyIDs, b.FamilyIDs, "any family")
	narrowed(d, FieldImageIDs, a.ImageIDs, b.ImageIDs, "any image")
	d.flags(FieldGuestPolicy, a.GuestPolicy, b.GuestPolicy)
	d.flags(FieldPlatformInfo, a.PlatformInfo, b.PlatformInfo)
	d.scalar(FieldMitigations, "", a.RequiredMitigations, b.RequiredMitigations, a.RequiredMitigations&^b.RequiredMitigations != 0)
	d.scalar(FieldGuestSVN, "", a.MinimumGuestSVN, b.MinimumGuestSVN, b.MinimumGuestSVN < a.MinimumGuestSVN)
	diffRule(d, FieldMigration, "", a.Migration, b.Migration, show[Permission], nil)
	d.scalar(FieldSMT, "", a.SMT, b.SMT, b.SMT == Allowed)
	d.scalar(FieldVMPL, "", a.MaximumVMPL, b.MaximumVMPL, b.MaximumVMPL > a.MaximumVMPL)
}

// products compares product lines. Where tokens are accepted, one that does not say
// its product line must reach every floor: a product line less then accepts more.
func (d *differ) products(a, b []Product, tokens bool) {
	names := func(list []Product) (out []string) {
		for _, p := range list {
			out = append(out, p.Name)
		}
		return out
	}
	diffSet(d, FieldProducts, names(a), names(b))
	for _, x := range a {
		if tokens && !slices.Contains(names(b), x.Name) {
			d.scalar(FieldTCB, x.Name, showRule(x.MinimumTCB, showTCB), "", true)
		}
	}
	for _, y := range b {
		if i := slices.Index(names(a), y.Name); i >= 0 {
			diffRule(d, FieldTCB, y.Name, a[i].MinimumTCB, y.MinimumTCB, showTCB, narrowsTCB)
		}
	}
}

// flags compares two rules that may be left out.
func (d *differ) flags(f Field, a, b *Flags) {
	text := func(r *Flags) string {
		if r == nil {
			return "any"
		}
		return r.String()
	}
	d.scalar(f, "", text(a), text(b), a != nil && (b == nil || !narrowsFlags(*a, *b)))
}

func (d *differ) intel(a, b *Intel) {
	diffRule(d, FieldTCBStatus, "", a.TCBStatus, b.TCBStatus,
		func(l []string) string { return strings.Join(sorted(l), ", ") },
		func(x, y []string) bool { return subset(y, x) })
	d.scalar(FieldEvaluation, "", a.MinimumEvaluationNumber, b.MinimumEvaluationNumber, b.MinimumEvaluationNumber < a.MinimumEvaluationNumber)
	narrowed(d, FieldFMSPCs, a.FMSPCs, b.FMSPCs, "every genuine machine")
	narrowed(d, FieldAdvisories, a.Advisories, b.Advisories, "any that the status lets through")
}

func (d *differ) tdx(a, b *TDX) {
	diffRule(d, FieldMRSEAM, "", a.MRSEAM, b.MRSEAM,
		func(l []Hex) string { return strings.Join(sorted(l), ", ") },
		func(x, y []Hex) bool { return subset(sorted(y), sorted(x)) })
	diffRule(d, FieldMRSignerSEAM, "", a.MRSignerSEAM, b.MRSignerSEAM, Hex.String, nil)
	diffRule(d, FieldMROwner, "", a.MROwner, b.MROwner, Hex.String, nil)
	diffRule(d, FieldMROwnerConfig, "", a.MROwnerConfig, b.MROwnerConfig, Hex.String, nil)
	diffRule(d, FieldTDXAttributes, "", a.Attributes, b.Attributes, Flags.String, narrowsFlags)
	diffRule(d, FieldXFAM, "", a.XFAM, b.XFAM, Flags.String, narrowsFlags)
	diffRule(d, FieldTEETCBSVN, "", a.MinimumTEETCBSVN, b.MinimumTEETCBSVN, Hex.String,
		func(x, y Hex) bool { return atLeastEach(y, x) })
}

func (d *differ) sgx(a, b *SGX) {
	diffRule(d, FieldSGXAttributes, "", a.Attributes, b.Attributes, Flags.String, narrowsFlags)
	diffRule(d, FieldXFRM, "", a.XFRM, b.XFRM, Flags.String, narrowsFlags)
	diffRule(d, FieldMiscSelect, "", a.MiscSelect, b.MiscSelect, Flags.String, narrowsFlags)
	d.scalar(FieldConfigSVN, "", a.MinimumConfigSVN, b.MinimumConfigSVN, b.MinimumConfigSVN < a.MinimumConfigSVN)
}

func narrowsFlags(x, y Flags) bool {
	return y.Required&x.Required == x.Required && y.Allowed&^x.Allowed == 0
}
