package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
)

// render writes JSON with each member as member gives it; an empty text leaves it out.
func render(v any, path string, member func(path, name, value string) string) string {
	switch v := v.(type) {
	case map[string]any:
		var out []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			inside := strings.TrimPrefix(path+"."+name, ".")
			if m := member(inside, name, render(v[name], inside, member)); m != "" {
				out = append(out, m)
			}
		}
		return "{" + strings.Join(out, ",") + "}"
	case []any:
		var out []string
		for i, x := range v {
			out = append(out, render(x, fmt.Sprintf("%s[%d]", path, i), member))
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func plain(name, value string) string { return fmt.Sprintf("%q: %s", name, value) }

// variants are whole policies: one that demands everything, two releases, and one
// with every waiver.
func variants() map[string]*TrustPolicy {
	waived := testPolicy()
	s := &scene{p: waived}
	for _, w := range waivers {
		w.waive(s)
	}
	turin := testPolicy() // whose floor has one level more, here zero
	turin.Products = append(turin.Products, Product{Name: "Turin", MinimumTCB: Require(attestation.TCB{Bootloader: 1, SNP: 4, Microcode: 70})})
	waivedTDX, waivedSGX := tdxScene(), sgxScene()
	for _, w := range tdxWaivers {
		w.waive(waivedTDX)
	}
	for _, w := range sgxWaivers {
		w.waive(waivedSGX)
	}
	return map[string]*TrustPolicy{
		"strict": testPolicy(), "two releases": twoReleases(), "waived": waived, "tdx": tdxPolicy(), "sgx": sgxPolicy(),
		"tdx waived": waivedTDX.p, "sgx waived": waivedSGX.p, "all": allPlatforms(), "turin": turin,
	}
}

// tree returns the members of a policy's file and their paths.
func tree(t *testing.T, p *TrustPolicy) (any, []string) {
	t.Helper()
	var v any
	if err := json.Unmarshal(p.Encode(), &v); err != nil {
		t.Fatal(err)
	}
	var paths []string
	render(v, "", func(path, name, value string) string {
		paths = append(paths, path)
		return plain(name, value)
	})
	return v, paths
}

func refusedAs(t *testing.T, text, member string, reason Reason) {
	t.Helper()
	p, err := Parse([]byte(text))
	if p != nil || !errors.Is(err, &Error{Member: member, Reason: reason}) {
		t.Errorf("want %s of %q, got %v in\n%s", reason, member, err, text)
	}
}

// mayGo are members that may be left out.
var mayGo = map[string]bool{
	"simulation": true, "attestation_services": true, "attestation_services.compliance": true, "runtime_data": true,
	"guest_policy": true, "platform_info": true, "required_mitigations": true, "chip_ids": true, "id_key_digests": true, "author_key_digests": true, "family_ids": true, "image_ids": true,
	"intel.fmspcs": true, "intel.advisories": true,
}

func TestMissingMembers(t *testing.T) {
	t.Parallel()
	for name, p := range variants() {
		v, paths := tree(t, p)
		for _, gone := range paths {
			text := render(v, "", func(path, name, value string) string {
				if path == gone {
					return ""
				}
				return plain(name, value)
			})
			switch {
			case mayGo[regexp.MustCompile(`\[\d+\]`).ReplaceAllString(gone, "")]:
				if _, err := Parse([]byte(text)); err != nil {
					t.Errorf("%s without %s: %v", name, gone, err)
				}
			case strings.HasSuffix(gone, ".waived"):
				if _, err := Parse([]byte(text)); err == nil {
					t.Errorf("%s without %s parses", name, gone)
				}
			case gone == "report_signers": // the others are then without it
				refusedAs(t, text, "vlek_providers", ReasonValue)
			case strings.HasSuffix(gone, ".uvm"), strings.HasSuffix(gone, ".signer"):
				refusedAs(t, text, gone[:strings.LastIndex(gone, ".")]+".measurement", ReasonMissing)
			default:
				refusedAs(t, text, gone, ReasonMissing)
			}
		}
	}
}

func TestMembersMadeWrong(t *testing.T) {
	t.Parallel()
	for name, p := range variants() {
		if name == "strict" || name == "tdx" || name == "sgx" {
			continue // all of it is in "all"
		}
		v, paths := tree(t, p)
		for _, at := range paths {
			edit := func(change func(name, value string) string) string {
				return render(v, "", func(path, name, value string) string {
					if path == at {
						return change(name, value)
					}
					return plain(name, value)
				})
			}
			parent := strings.TrimSuffix(at, at[strings.LastIndex(at, ".")+1:])
			refusedAs(t, edit(func(name, value string) string { return plain(name, value) + "," + plain(name, value) }), at, ReasonDuplicate)
			refusedAs(t, edit(func(name, value string) string { return plain(name, value) + "," + plain(name, "1") }), at, ReasonDuplicate)
			refusedAs(t, edit(func(name, value string) string { return plain(name, value) + "," + plain("extra", "1") }), parent+"extra", ReasonUnknown)
			refusedAs(t, edit(func(name, value string) string { return plain(name, "null") }), at, ReasonValue)
			if !strings.HasSuffix(at, ".waived") {
				upper := strings.ToUpper(at[len(parent):])
				refusedAs(t, edit(func(name, value string) string { return plain(upper, value) }), parent+upper, ReasonUnknown)
				refusedAs(t, edit(func(name, value string) string { return plain(name, value) + "," + plain(upper, value) }), parent+upper, ReasonUnknown)
			}
			for _, wrong := range []string{"true", "-1", "1.5", "1e1", `"` + strings.Repeat("f", 30) + `"`, "[]", "[[]]", "{}"} {
				if at == "intel.advisories" && wrong == "[]" || strings.Contains(at, ".uvm.") && wrong[0] == '"' || at == "name" && wrong[0] == '"' || strings.HasSuffix(at, ".name") && wrong[0] == '"' || strings.HasSuffix(at, ".waived") && wrong[0] == '"' {
					continue // a name like any other
				}
				if _, err := Parse([]byte(edit(func(name, value string) string { return plain(name, wrong) }))); err == nil {
					t.Errorf("%s: %s parses", at, wrong)
				}
			}
		}
	}
}

func TestNotOneValue(t *testing.T) {
	t.Parallel()
	whole := string(testPolicy().Encode())
	for name, x := range map[string]struct {
		text   string
		member string
		reason Reason
	}{
		"nothing":        {"", "", ReasonSyntax},
		"space":          {" \n", "", ReasonSyntax},
		"null":           {"null", "", ReasonValue},
		"array":          {"[]", "", ReasonValue},
		"empty object":   {"{}", "version", ReasonMissing},
		"cut":            {whole[:len(whole)-3], "", ReasonSyntax},
		"more":           {whole + "{}", "", ReasonSyntax},
		"rest":           {whole + "]", "", ReasonSyntax},
		"comma":          {`{"version":1,}`, "", ReasonSyntax},
		"wrong end":      {`{"version":1]`, "", ReasonSyntax},
		"not UTF-8":      {strings.Replace(whole, "test", "\xff", 1), "", ReasonSyntax},
		"too large":      {whole + strings.Repeat(" ", maxFile), "", ReasonSize},
		"nested too far": {`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "a[0][0][0][0][0][0][0]", ReasonSyntax},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusedAs(t, x.text, x.member, x.reason)
		})
	}
}

// Values that have the right type and that no policy may have.
func TestValues(t *testing.T) {
	t.Parallel()
	for i, x := range []struct {
		member string
		wrong  func(*TrustPolicy)
	}{
		{"version", func(p *TrustPolicy) { p.Version = 2 }},
		{"version", func(p *TrustPolicy) { p.Version = 0 }},
		{"name", func(p *TrustPolicy) { p.Name = "" }},
		{"name", func(p *TrustPolicy) { p.Name = "\x1b[2J" }},
		{"name", func(p *TrustPolicy) { p.Name = strings.Repeat("a", 129) }},
		{"expires", func(p *TrustPolicy) { p.Expires.Want = time.Time{} }},
		{"expires", func(p *TrustPolicy) { p.Expires.Want = time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC) }},
		{"expires", func(p *TrustPolicy) { p.Expires.Want = p.Expires.Want.Add(time.Millisecond) }},
		{"expires", func(p *TrustPolicy) { p.Expires.Waived = "no reason" }},
		{"expires", func(p *TrustPolicy) { p.Expires.Waived = strings.Repeat("a", 33) }},
		{"platforms", func(p *TrustPolicy) { p.Platforms = []attestation.Platform{} }},
		{"platforms[1]", func(p *TrustPolicy) { p.Platforms = append(p.Platforms, "azure-attestation") }},
		{"platforms[1]", func(p *TrustPolicy) { p.Platforms = append(p.Platforms, p.Platforms[0]) }},
		{"attestation_services", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "http://maa.test"}} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "https://maa.test?x"}} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "https://a@maa.test"}} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "https://"}} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "https://maa.test#x"}} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) { p.AttestationServices = []AttestationService{{Issuer: "https://%zz"}} }},
		{"attestation_services[0].issuer", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test/\u200b"}}
		}},
		{"attestation_services[0].issuer", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test/" + strings.Repeat("a", 512)}}
		}},
		{"attestation_services[0].compliance", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test", Compliance: []string{}}}
		}},
		{"attestation_services[0].compliance", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test", Compliance: many(func(i int) string { return fmt.Sprint(i) })}}
		}},
		{"attestation_services", func(p *TrustPolicy) {
			p.AttestationServices = many(func(i int) AttestationService { return AttestationService{Issuer: fmt.Sprint("https://maa.test/", i)} })
		}},
		{"chip_ids", func(p *TrustPolicy) {
			p.ChipIDs = many(func(i int) Hex { return append(Hex{byte(i), byte(i >> 8), 1}, make(Hex, 61)...) })
		}},
		{"attestation_services[1].issuer", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test"}, {Issuer: "https://maa.test", Compliance: []string{"a"}}}
		}},
		{"attestation_services[0].compliance[1]", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test", Compliance: []string{"a", "a"}}}
		}},
		{"attestation_services[0].compliance[0]", func(p *TrustPolicy) {
			p.AttestationServices = []AttestationService{{Issuer: "https://maa.test", Compliance: []string{""}}}
		}},
		{"runtime_data", func(p *TrustPolicy) { p.RuntimeData.Want = "optional" }},
		{"revocation", func(p *TrustPolicy) { p.Revocation.Want = "optional" }},
		{"intel", func(p *TrustPolicy) { p.Intel = intelPolicy() }},
		{"tdx", func(p *TrustPolicy) { p.TDX = tdxPolicy().TDX }},
		{"sgx", func(p *TrustPolicy) { p.SGX = sgxPolicy().SGX }},
		{"report_signers[0]", func(p *TrustPolicy) { p.ReportSigners = []string{"anybody"} }},
		{"report_signers[1]", func(p *TrustPolicy) { p.ReportSigners = []string{"vcek", "vcek"} }},
		{"vlek_providers", func(p *TrustPolicy) { p.VLEKProviders = []string{"cloud"} }},
		{"id_key_digests[0]", func(p *TrustPolicy) { p.IDKeyDigests[0] = Hex{1} }},
		{"id_key_digests[1]", func(p *TrustPolicy) { p.IDKeyDigests[1] = make(Hex, 48) }},
		{"author_key_digests[1]", func(p *TrustPolicy) { p.AuthorKeyDigests[1] = make(Hex, 48) }},
		{"family_ids[0]", func(p *TrustPolicy) { p.FamilyIDs[0] = make(Hex, 48) }},
		{"image_ids[1]", func(p *TrustPolicy) { p.ImageIDs[1] = p.ImageIDs[0] }},
		{"guest_policy", func(p *TrustPolicy) { p.GuestPolicy = &Flags{Required: 1 << 17} }},
		{"guest_policy", func(p *TrustPolicy) { p.GuestPolicy = &Flags{Allowed: 1 << 19} }},
		{"platform_info", func(p *TrustPolicy) { p.PlatformInfo = &Flags{Required: 1} }},
		{"releases[0].platform", func(p *TrustPolicy) { p.Releases[0].Platform = "tdx" }},
		{"releases[0].rtmrs", func(p *TrustPolicy) { p.Releases[0].RTMRs = tdxPolicy().Releases[0].RTMRs }},
		{"releases[0].signer", func(p *TrustPolicy) { p.Releases[0].Measurement, p.Releases[0].Signer = Rule[Hex]{}, testSigner() }},
		{"releases[0].uvm.feed", func(p *TrustPolicy) {
			p.Releases[0].Measurement, p.Releases[0].UVM = Rule[Hex]{}, &UVM{Issuer: "did:x509"}
		}},
		{"releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = strings.Repeat("00", 48) }},
		{"simulation.roots", func(p *TrustPolicy) { p.Simulation.Roots = []Hex{} }},
		{"simulation.roots[0]", func(p *TrustPolicy) { p.Simulation.Roots[0] = Hex{1} }},
		{"simulation.roots[1]", func(p *TrustPolicy) { p.Simulation.Roots = append(p.Simulation.Roots, p.Simulation.Roots[0]) }},
		{"products", func(p *TrustPolicy) { p.Products = []Product{} }},
		{"products[0].name", func(p *TrustPolicy) { p.Products[0].Name = "Rome" }},
		{"products[1].name", func(p *TrustPolicy) { p.Products = append(p.Products, p.Products[0]) }},
		{"products[0].minimum_tcb", func(p *TrustPolicy) { p.Products[0].MinimumTCB.Waived = "A" }},
		{"chip_ids[0]", func(p *TrustPolicy) { p.ChipIDs[0] = Hex{1} }},
		{"chip_ids[1]", func(p *TrustPolicy) { p.ChipIDs[1] = p.ChipIDs[0] }},
		{"chip_ids[1]", func(p *TrustPolicy) { p.ChipIDs[1] = make(Hex, 64) }},
		{"releases", func(p *TrustPolicy) { p.Releases = []Release{} }},
		{"releases[0].name", func(p *TrustPolicy) { p.Releases[0].Name = "" }},
		{"releases[1].name", func(p *TrustPolicy) { p.Releases = append(p.Releases, p.Releases[0]) }},
		{"releases[0].measurement", func(p *TrustPolicy) { p.Releases[0].Measurement.Want = Hex{} }},
		{"releases[0].measurement", func(p *TrustPolicy) { p.Releases[0].Measurement.Want = make(Hex, 32) }},
		{"releases[0].configuration", func(p *TrustPolicy) { p.Releases[0].Configuration.Want = Hex{} }},
		{"releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = "" }},
		{"releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = "any" }},
		{"releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = "00" }},
		{"releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = strings.Repeat("AA", 32) }},
		{"ledger.id", func(p *TrustPolicy) { p.Ledger.ID.Want = Hex{} }},
		{"ledger.genesis", func(p *TrustPolicy) { p.Ledger.Genesis.Want = Hex{} }},
		{"ledger.number", func(p *TrustPolicy) { p.Ledger.Number = 0 }},
		{"ledger.backends", func(p *TrustPolicy) { p.Ledger.Backends = []string{} }},
		{"ledger.backends[0]", func(p *TrustPolicy) { p.Ledger.Backends[0] = "other" }},
		{"debug", func(p *TrustPolicy) { p.Debug.Want = Allowed }},
		{"debug", func(p *TrustPolicy) { p.Debug.Want = "" }},
		{"migration", func(p *TrustPolicy) { p.Migration.Want = Allowed }},
		{"smt", func(p *TrustPolicy) { p.SMT = "" }},
		{"maximum_vmpl", func(p *TrustPolicy) { p.MaximumVMPL = 4 }},
		{"minimum_argon2id", func(p *TrustPolicy) { p.MinimumArgon2id.Want.Time = 0 }},
		{"minimum_argon2id", func(p *TrustPolicy) { p.MinimumArgon2id.Want.MemoryKiB = 7 }},
	} {
		p := testPolicy()
		x.wrong(p)
		t.Run(fmt.Sprint(i, " ", x.member), func(t *testing.T) {
			t.Parallel()
			refusedAs(t, string(p.Encode()), x.member, ReasonValue)
			if problem := p.check(); problem == nil || problem.Member != x.member {
				t.Errorf("made in code: %v", problem)
			}
		})
	}
}

// many is a list of one element too many.
func many[T any](element func(int) T) (list []T) {
	for i := range maxItems + 1 {
		list = append(list, element(i))
	}
	return list
}

// What no file can hold: a policy made in code.
func TestValuesMadeInCode(t *testing.T) {
	t.Parallel()
	for i, x := range []struct {
		member string
		wrong  func(*TrustPolicy)
	}{
		{"expires", func(p *TrustPolicy) { p.Expires.Want = p.Expires.Want.In(time.FixedZone("", 3600)) }},
		{"releases", func(p *TrustPolicy) {
			r := p.Releases[0]
			p.Releases = many(func(i int) Release { r.Name = fmt.Sprint(i); return r })
		}},
		{"releases[0].measurement", func(p *TrustPolicy) { p.Releases[0].Measurement = Rule[Hex]{} }},
		{"releases[0]", func(p *TrustPolicy) { p.Releases[0].Measurement, p.Releases[0].UVM = Waive[Hex]("test"), testUVM() }},
	} {
		p := testPolicy()
		x.wrong(p)
		if problem := p.check(); problem == nil || problem.Member != x.member {
			t.Errorf("case %d, %s: %v", i, x.member, problem)
		}
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	whole := string(testPolicy().Encode())
	for _, x := range []struct{ old, wrong, member string }{
		{"3e3e", "3E3E", "releases[0].measurement"},
		{"3e3e", "3e3", "releases[0].measurement"},
		{"3e3e", "zz3e", "releases[0].measurement"},
		{"2026-11-23T13:00:00Z", "2026-11-23", "expires"},
		{"2026-11-23T13:00:00Z", "never", "expires"},
		{"2026-11-23T13:00:00Z", "2026-11-23T13:00:00.5Z", "expires"},
		{"2026-11-23T13:00:00Z", "9999-12-31T23:59:59-23:59", "expires"},
		{`"chip_ids": [`, `"chip_ids": [], "": [`, ""},
	} {
		reason := ReasonValue
		if x.member == "" {
			reason = ReasonUnknown
		}
		refusedAs(t, strings.Replace(whole, x.old, x.wrong, 1), x.member, reason)
	}
	if shown := (&Error{Member: "\x1b[2J\n", Reason: ReasonUnknown}).Error(); strings.ContainsAny(shown, "\x1b\n") {
		t.Errorf("a member's name reaches the terminal: %q", shown)
	}
	p := testPolicy()
	p.ChipIDs = nil
	refusedAs(t, strings.Replace(string(p.Encode()), `"smt"`, `"chip_ids": [], "smt"`, 1), "chip_ids", ReasonValue)
	// No other product line has that level: a floor for it would refuse everything.
	const fmc = "products[0].minimum_tcb.fmc"
	refusedAs(t, strings.Replace(whole, `"bootloader": 4`, `"fmc": 0, "bootloader": 4`, 1), fmc, ReasonUnknown)
	milan := testPolicy()
	milan.Products[0].MinimumTCB.Want.FMC = 1
	if problem := milan.check(); problem == nil || problem.Member != fmc {
		t.Errorf("an FMC of Milan: %v", problem)
	}
	// An empty reason would demand firmware of level zero: nothing, and by no name.
	tcb := testPolicy()
	tcb.Products[0].MinimumTCB = Waive[attestation.TCB]("test")
	for _, word := range []string{"", "Two words", "ü", strings.Repeat("a", 33)} {
		refusedAs(t, strings.Replace(whole, `"debug": "forbidden"`, `"debug": {"waived": "`+word+`"}`, 1), "debug", ReasonValue)
		refusedAs(t, strings.Replace(string(tcb.Encode()), `"waived": "test"`, `"waived": "`+word+`"`, 1), "products[0].minimum_tcb", ReasonValue)
	}
}

func TestFreeFormatting(t *testing.T) {
	t.Parallel()
	for name, p := range variants() {
		v, _ := tree(t, p)
		sorted := render(v, "", func(_, name, value string) string { return "\n\t" + plain(name, value) + " " })
		if got := mustParse(t, []byte(sorted)); !reflect.DeepEqual(got, p) {
			t.Errorf("%s: other order and spacing gives another policy:\n%s", name, got.Encode())
		}
	}
	offset := strings.Replace(string(testPolicy().Encode()), "2026-11-23T13:00:00Z", "2026-11-23T14:00:00+01:00", 1)
	if got := mustParse(t, []byte(offset)); !reflect.DeepEqual(got, testPolicy()) {
		t.Error("a time with an offset is another time")
	}
}

// Values that no policy for TDX or SGX may have.
func TestValuesOfIntel(t *testing.T) {
	t.Parallel()
	for i, x := range []struct {
		base   func() *TrustPolicy
		member string
		wrong  func(*TrustPolicy)
		reason Reason
	}{
		{tdxPolicy, "intel", func(p *TrustPolicy) { p.Intel = nil }, ReasonMissing},
		{tdxPolicy, "tdx", func(p *TrustPolicy) { p.TDX = nil }, ReasonMissing},
		{sgxPolicy, "sgx", func(p *TrustPolicy) { p.SGX = nil }, ReasonMissing},
		{tdxPolicy, "intel.tcb_status", func(p *TrustPolicy) { p.Intel.TCBStatus.Want = []string{} }, ReasonValue},
		{tdxPolicy, "intel.tcb_status[0]", func(p *TrustPolicy) { p.Intel.TCBStatus.Want = []string{"Revoked"} }, ReasonValue},
		{tdxPolicy, "intel.tcb_status[0]", func(p *TrustPolicy) { p.Intel.TCBStatus.Want = []string{""} }, ReasonValue},
		{tdxPolicy, "intel.fmspcs[0]", func(p *TrustPolicy) { p.Intel.FMSPCs[0] = Hex{1} }, ReasonValue},
		{tdxPolicy, "intel.advisories[1]", func(p *TrustPolicy) { p.Intel.Advisories[1] = p.Intel.Advisories[0] }, ReasonValue},
		{tdxPolicy, "tdx.mrseam", func(p *TrustPolicy) { p.TDX.MRSEAM.Want = []Hex{} }, ReasonValue},
		{tdxPolicy, "tdx.mrseam[0]", func(p *TrustPolicy) { p.TDX.MRSEAM.Want[0] = Hex{1} }, ReasonValue},
		{tdxPolicy, "tdx.mrsignerseam", func(p *TrustPolicy) { p.TDX.MRSignerSEAM.Want = Hex{} }, ReasonValue},
		{tdxPolicy, "tdx.mrowner", func(p *TrustPolicy) { p.TDX.MROwner.Want = Hex{} }, ReasonValue},
		{tdxPolicy, "tdx.mrownerconfig", func(p *TrustPolicy) { p.TDX.MROwnerConfig.Want = Hex{} }, ReasonValue},
		{tdxPolicy, "tdx.attributes", func(p *TrustPolicy) { p.TDX.Attributes.Want.Allowed = 0 }, ReasonValue},
		{tdxPolicy, "tdx.attributes", func(p *TrustPolicy) { p.TDX.Attributes.Want.Allowed |= 1 }, ReasonValue},
		{tdxPolicy, "tdx.xfam", func(p *TrustPolicy) { p.TDX.XFAM.Want.Allowed = 0 }, ReasonValue},
		{tdxPolicy, "tdx.minimum_tee_tcb_svn", func(p *TrustPolicy) { p.TDX.MinimumTEETCBSVN.Want = make(Hex, 15) }, ReasonValue},
		{tdxPolicy, "releases[0].rtmrs", func(p *TrustPolicy) { p.Releases[0].RTMRs = nil }, ReasonMissing},
		{tdxPolicy, "releases[0].rtmrs", func(p *TrustPolicy) { p.Releases[0].RTMRs = p.Releases[0].RTMRs[:3] }, ReasonValue},
		{tdxPolicy, "releases[0].rtmrs[2]", func(p *TrustPolicy) { p.Releases[0].RTMRs[2].Want = Hex{1} }, ReasonValue},
		{tdxPolicy, "releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = strings.Repeat("00", 32) }, ReasonValue},
		{tdxPolicy, "releases[0].uvm", func(p *TrustPolicy) { p.Releases[0].Measurement, p.Releases[0].UVM = Rule[Hex]{}, testUVM() }, ReasonValue},
		{sgxPolicy, "sgx.attributes", func(p *TrustPolicy) { p.SGX.Attributes.Want.Allowed |= 2 }, ReasonValue},
		{sgxPolicy, "sgx.xfrm", func(p *TrustPolicy) { p.SGX.XFRM.Want.Allowed = 0 }, ReasonValue},
		{sgxPolicy, "sgx.miscselect", func(p *TrustPolicy) { p.SGX.MiscSelect.Want.Required = 8 }, ReasonValue},
		{sgxPolicy, "releases[0].measurement", func(p *TrustPolicy) { p.Releases[0].Measurement.Want = make(Hex, 48) }, ReasonValue},
		{sgxPolicy, "releases[0].host_data", func(p *TrustPolicy) { p.Releases[0].HostData.Want = strings.Repeat("00", 48) }, ReasonValue},
		{sgxPolicy, "releases[0].signer.mrsigner", func(p *TrustPolicy) {
			p.Releases[0].Measurement, p.Releases[0].Signer = Rule[Hex]{}, &Signer{MRSigner: Hex{1}}
		}, ReasonValue},
		{allPlatforms, "vlek_providers", func(p *TrustPolicy) { p.VLEKProviders = nil }, ReasonMissing},
		{allPlatforms, "releases", func(p *TrustPolicy) { p.Releases = p.Releases[:3] }, ReasonValue},
		{sgxPolicy, "products", func(p *TrustPolicy) { p.SNP = testPolicy().SNP }, ReasonValue},
	} {
		p := x.base()
		x.wrong(p)
		t.Run(fmt.Sprint(i, " ", x.member), func(t *testing.T) {
			t.Parallel()
			refusedAs(t, string(p.Encode()), x.member, x.reason)
			if problem := p.check(); problem == nil || problem.Member != x.member {
				t.Errorf("made in code: %v", problem)
			}
		})
	}
	p := sgxPolicy()
	p.Releases[0].Signer = testSigner()
	refusedAs(t, string(p.Encode()), "releases[0].signer", ReasonValue)
	if problem := p.check(); problem == nil || problem.Member != "releases[0]" {
		t.Errorf("two identities, made in code: %v", problem)
	}
	// Bits have one spelling.
	whole := string(tdxPolicy().Encode())
	for _, wrong := range []string{"0x0618e7", "0X618e7", "0x618E7", "399591", "618e7", "0x", "-0x1", "0x1_0", "0x10000000000000000"} {
		refusedAs(t, strings.Replace(whole, `"0x618e7"`, `"`+wrong+`"`, 1), "tdx.xfam.allowed", ReasonValue)
	}
	p = tdxPolicy()
	p.Intel.Advisories = []string{} // accepts none: another thing than any
	if got := mustParse(t, p.Encode()); got.Intel.Advisories == nil {
		t.Error("no advisory became any advisory")
	}
}

// Values at the limits of their ranges.
func TestLimits(t *testing.T) {
	t.Parallel()
	for i, change := range []func(*TrustPolicy){
		func(p *TrustPolicy) { p.Name = strings.Repeat("a", maxName) },
		func(p *TrustPolicy) { p.Debug = Waive[Permission]("az09-" + strings.Repeat("z", maxWord-5)) },
		func(p *TrustPolicy) { p.MinimumArgon2id.Want = Argon2id{MemoryKiB: 8, Time: 1} },
		func(p *TrustPolicy) { p.MaximumVMPL = 3 },
	} {
		p := testPolicy()
		change(p)
		if got := mustParse(t, p.Encode()); !reflect.DeepEqual(got, p) {
			t.Errorf("case %d parses to another policy", i)
		}
	}
	for _, x := range []time.Time{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		p := testPolicy()
		p.Expires.Want = x
		if got := mustParse(t, p.Encode()); !reflect.DeepEqual(got, p) {
			t.Errorf("%s is another time", x)
		}
	}
}

func FuzzParse(f *testing.F) {
	for name, p := range variants() {
		if _, err := Parse(p.Encode()); err != nil {
			f.Fatalf("seed %s: %v", name, err)
		}
		f.Add(p.Encode())
	}
	f.Add([]byte(`{"version":1,"version":1}`))
	f.Add([]byte(`{"debug":{"waived":"a","waived":"b"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			var e *Error
			if p != nil || !errors.As(err, &e) || e.Error() == "" {
				t.Fatalf("refused with %T", err)
			}
			return
		}
		again := mustParse(t, p.Encode())
		if !reflect.DeepEqual(again, p) || string(again.Encode()) != string(p.Encode()) {
			t.Fatalf("encodes to another policy:\n%s", p.Encode())
		}
		if Diff(p, again) != nil {
			t.Fatal("differs from itself")
		}
		if Accept(nil, p, "client", testNow) == nil {
			t.Fatal("accepts without claims")
		}
	})
}
