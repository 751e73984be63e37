package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/wire"
)

// judged says of every member of Claims which field judges it, over which evidence,
// or why none does.
var judged = map[string]struct {
	base  func() *scene
	field Field
	not   string
}{
	"Platform":                {base: uvmScene, field: FieldPlatforms},
	"Simulated":               {base: newScene, field: FieldSimulation},
	"Root":                    {base: simulatedScene, field: FieldSimulation},
	"Time":                    {not: "the verifier's own clock"},
	"ReportVersion":           {not: "Genuine knows which versions it understands"},
	"Product":                 {base: newScene, field: FieldProducts},
	"Signer":                  {base: newScene, field: FieldSigners},
	"RevocationChecked":       {base: newScene, field: FieldRevocation},
	"Measurement":             {base: newScene, field: FieldMeasurement},
	"HostData":                {base: newScene, field: FieldHostData},
	"ReportData":              {not: "Genuine compares it with the runtime data"},
	"Debug":                   {base: newScene, field: FieldDebug},
	"Migration":               {base: newScene, field: FieldMigration},
	"SMT":                     {base: noSMTScene, field: FieldSMT},
	"SMTEnabled":              {not: "what the guest may do decides, not what the machine does now"},
	"VMPL":                    {base: newScene, field: FieldVMPL},
	"GuestSVN":                {base: newScene, field: FieldGuestSVN},
	"ReportedTCB.Bootloader":  {base: newScene, field: FieldTCB},
	"ReportedTCB.TEE":         {base: teeScene, field: FieldTCB},
	"ReportedTCB.SNP":         {base: newScene, field: FieldTCB},
	"ReportedTCB.Microcode":   {base: newScene, field: FieldTCB},
	"CommittedTCB.Bootloader": {base: newScene, field: FieldTCB},
	"CommittedTCB.TEE":        {base: teeScene, field: FieldTCB},
	"CommittedTCB.SNP":        {base: newScene, field: FieldTCB},
	"CommittedTCB.Microcode":  {base: newScene, field: FieldTCB},
	"CurrentTCB.Bootloader":   {base: newScene, field: FieldTCB},
	"CurrentTCB.TEE":          {base: teeScene, field: FieldTCB},
	"CurrentTCB.SNP":          {base: newScene, field: FieldTCB},
	"CurrentTCB.Microcode":    {base: newScene, field: FieldTCB},
	"LaunchTCB.Bootloader":    {base: newScene, field: FieldTCB},
	"LaunchTCB.TEE":           {base: teeScene, field: FieldTCB},
	"LaunchTCB.SNP":           {base: newScene, field: FieldTCB},
	"LaunchTCB.Microcode":     {base: newScene, field: FieldTCB},
	"ChipID":                  {base: newScene, field: FieldChipIDs},
	"FamilyID":                {base: newScene, field: FieldFamilyIDs},
	"ImageID":                 {base: newScene, field: FieldImageIDs},
	"IDKeyDigest":             {base: newScene, field: FieldIDKeys},
	"AuthorKeyDigest":         {base: newScene, field: FieldAuthorKeys},
	"SNP.Policy":              {base: newScene, field: FieldGuestPolicy},
	"SNP.PlatformInfo":        {base: newScene, field: FieldPlatformInfo},
	"SNP.ReportID":            {not: "another at every launch"},
	"SNP.ReportIDMA":          {not: "migration judges whether there may be an agent"},
	"SNP.AuthorKey":           {base: newScene, field: FieldAuthorKeys},
	"SNP.Current.Major":       {not: "minimum_tcb judges security versions, which count; this is a name"},
	"SNP.Current.Minor":       {not: "as above"},
	"SNP.Current.Build":       {not: "as above"},
	"SNP.Committed.Major":     {not: "as above"},
	"SNP.Committed.Minor":     {not: "as above"},
	"SNP.Committed.Build":     {not: "as above"},
	"SNP.LaunchMitigation":    {base: newScene, field: FieldMitigations},
	"SNP.CurrentMitigation":   {base: newScene, field: FieldMitigations},
	"SNP.CSP":                 {base: vlekScene, field: FieldProviders},
	"ReportedTCB.FMC":         {base: fmcScene, field: FieldTCB},
	"CommittedTCB.FMC":        {base: fmcScene, field: FieldTCB},
	"CurrentTCB.FMC":          {base: fmcScene, field: FieldTCB},
	"LaunchTCB.FMC":           {base: fmcScene, field: FieldTCB},
	"TDX.RTMRs[0]":            {base: tdxScene, field: FieldRTMR0},
	"TDX.RTMRs[1]":            {base: tdxScene, field: FieldRTMR1},
	"TDX.RTMRs[2]":            {base: tdxScene, field: FieldRTMR2},
	"TDX.RTMRs[3]":            {base: tdxScene, field: FieldRTMR3},
	"TDX.MRSEAM":              {base: tdxScene, field: FieldMRSEAM},
	"TDX.MRSignerSEAM":        {base: tdxScene, field: FieldMRSignerSEAM},
	"TDX.MROwner":             {base: tdxScene, field: FieldMROwner},
	"TDX.MROwnerConfig":       {base: tdxScene, field: FieldMROwnerConfig},
	"TDX.Attributes":          {base: tdxScene, field: FieldTDXAttributes},
	"TDX.XFAM":                {base: tdxScene, field: FieldXFAM},
	"TDX.TEETCBSVN":           {base: tdxScene, field: FieldTEETCBSVN},
	"SGX.MRSigner":            {base: signerScene, field: FieldSigner},
	"SGX.ProductID":           {base: signerScene, field: FieldSigner},
	"SGX.SVN":                 {base: signerScene, field: FieldSigner},
	"SGX.ConfigSVN":           {base: sgxScene, field: FieldConfigSVN},
	"SGX.MiscSelect":          {base: sgxScene, field: FieldMiscSelect},
	"SGX.Attributes":          {base: sgxScene, field: FieldSGXAttributes},
	"SGX.XFRM":                {base: sgxScene, field: FieldXFRM},
	"SGX.CPUSVN":              {not: "Genuine compares it with Intel's TCB info, whose verdict tcb_status judges"},
	"Intel.FMSPC":             {base: tdxScene, field: FieldFMSPCs},
	"Intel.PCESVN":            {not: "Genuine compares it with Intel's TCB info, whose verdict tcb_status judges"},
	"Intel.TCBStatus":         {base: statusScene, field: FieldTCBStatus},
	"Intel.TCBDate":           {not: "shown beside the status; minimum_evaluation_number bounds the age of Intel's word"},
	"Intel.Advisories":        {base: tdxScene, field: FieldAdvisories},
	"Intel.EvaluationNumber":  {base: tdxScene, field: FieldEvaluation},
	"UVM.Issuer":              {base: uvmScene, field: FieldUVM},
	"UVM.Feed":                {base: uvmScene, field: FieldUVM},
	"UVM.SVN":                 {base: uvmScene, field: FieldUVM},
	"UVM.Signed":              {not: "old utility VMs are retired by SVN"},
	"Token.Issuer":            {base: tokenScene, field: FieldServices},
	"Token.Compliance":        {base: tokenScene, field: FieldServices},
	"Token.Expires":           {not: "Genuine compares it with now"},
	"SecurityPolicy":          {not: "Genuine compares it with HOST_DATA; what is dangerous in it is a warning"},
	"RuntimeData":             {not: "purpose, ledger and presence have fields; keys and nonce are the caller's"},
	"ConfigurationHash":       {base: uvmScene, field: FieldConfig},
	"Configuration":           {not: "ledger and PIN parameters have fields; the hash decides the rest"},
}

func simulatedScene() *scene {
	s := newScene()
	s.c.Simulated, s.c.Root = true, wire.Digest(fill(0x51, 32))
	return s
}

func vlekScene() *scene {
	s := newScene()
	vlek(s)
	return s
}

func fmcScene() *scene {
	s := newScene()
	s.p.Products[0].Name, s.c.Product = "Turin", "Turin"
	s.p.Products[0].MinimumTCB.Want.FMC = 1
	s.c.ReportedTCB.FMC, s.c.CommittedTCB.FMC, s.c.CurrentTCB.FMC, s.c.LaunchTCB.FMC = 1, 1, 1, 1
	return s
}

// statusScene does not list advisories, which nobody knows without a status.
func statusScene() *scene {
	s := tdxScene()
	s.p.Intel.Advisories = nil
	return s
}

func noSMTScene() *scene {
	s := newScene()
	s.c.SMT, s.p.SMT = false, Forbidden
	return s
}

func teeScene() *scene {
	s := newScene()
	s.p.Products[0].MinimumTCB.Want.TEE = 1
	s.c.ReportedTCB.TEE, s.c.CommittedTCB.TEE, s.c.CurrentTCB.TEE, s.c.LaunchTCB.TEE = 1, 1, 1, 1
	return s
}

// leaf is one member of a struct, at any depth.
type leaf struct {
	path string
	at   func(root reflect.Value) reflect.Value
}

// leaves lists the members of a struct type that down does not stop at.
func leaves(t reflect.Type, path string, stop func(path string, t reflect.Type) bool, at func(reflect.Value) reflect.Value) []leaf {
	if t.Kind() == reflect.Pointer && !stop(path, t) {
		return leaves(t.Elem(), path, stop, func(v reflect.Value) reflect.Value { return at(v).Elem() })
	}
	if stop(path, t) || t.Kind() != reflect.Struct && t.Kind() != reflect.Array {
		return []leaf{{path, at}}
	}
	var out []leaf
	if t.Kind() == reflect.Array {
		for i := range t.Len() {
			out = append(out, leaves(t.Elem(), fmt.Sprintf("%s[%d]", path, i), stop, func(v reflect.Value) reflect.Value { return at(v).Index(i) })...)
		}
		return out
	}
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, leaves(f.Type, strings.TrimPrefix(path+"."+f.Name, "."), stop, func(v reflect.Value) reflect.Value { return at(v).Field(i) })...)
	}
	return out
}

func itself(v reflect.Value) reflect.Value { return v }

// wrongs are values beside v: every one that is different is tried.
func wrongs(v reflect.Value) []reflect.Value {
	out := []reflect.Value{reflect.Zero(v.Type())}
	add := func(x any) { out = append(out, reflect.ValueOf(x).Convert(v.Type())) }
	switch v.Kind() {
	case reflect.Bool:
		add(!v.Bool())
	case reflect.String:
		add(v.String() + "x")
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		add(v.Uint() + 1)
		add(v.Uint() - 1)
	case reflect.Slice, reflect.Array:
		changed := reflect.New(v.Type()).Elem()
		if v.Kind() == reflect.Slice {
			changed.Set(reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v))
		} else {
			changed.Set(v)
		}
		if e := changed.Index(changed.Len() - 1); e.Kind() == reflect.Uint8 {
			e.SetUint(e.Uint() ^ 1)
		} else if e.Kind() == reflect.String {
			e.SetString(e.String() + "x")
		}
		out = append(out, changed)
	}
	return out
}

// Every member of Claims is judged by the field that the table names, and by no other,
// or the table says why it is not.
func TestNoClaimIsForgotten(t *testing.T) {
	t.Parallel()
	stop := func(path string, x reflect.Type) bool {
		return x == reflect.TypeFor[time.Time]() || x == reflect.TypeFor[wire.Digest]() || x == reflect.TypeFor[[64]byte]() ||
			path == "RuntimeData" || path == "Configuration"
	}
	var seen []string
	for _, l := range leaves(reflect.TypeFor[attestation.Claims](), "", stop, itself) {
		seen = append(seen, l.path)
		x, ok := judged[l.path]
		if !ok {
			t.Errorf("%s is in Claims: which field judges it, or why does none?", l.path)
			continue
		}
		if x.not != "" {
			continue
		}
		s := x.base()
		if got := s.refused(t); got != nil {
			t.Fatalf("%s: refused %v before", l.path, got)
		}
		tried, refused := 0, 0
		kind := l.at(reflect.ValueOf(s.c).Elem()).Kind()
		for i := range wrongs(l.at(reflect.ValueOf(s.c).Elem())) {
			s := x.base()
			v := l.at(reflect.ValueOf(s.c).Elem())
			if w := wrongs(v)[i]; reflect.DeepEqual(w.Interface(), v.Interface()) || l.path == "Intel.Advisories" && w.IsZero() {
				continue // nothing is wrong
			} else {
				v.Set(w)
			}
			tried++
			if slices.Equal(s.refused(t), []Field{x.field}) {
				refused++
			}
		}
		// Of numbers, one direction may be the better one.
		ordered := kind >= reflect.Int && kind <= reflect.Uint64 || strings.HasSuffix(l.path, "TEETCBSVN")
		if refused == 0 || !ordered && refused < tried {
			t.Errorf("%s: %d of %d wrong values are refused by %s alone", l.path, refused, tried, x.field)
		}
	}
	for path := range judged {
		if !slices.Contains(seen, path) {
			t.Errorf("%s is not in Claims", path)
		}
	}
}

// Every member of a policy, made another, shows in Diff, and in the direction that is
// weaker as Weaker: only the members that are for people, and the version, do not.
func TestNoMemberIsForgottenInDiff(t *testing.T) {
	t.Parallel()
	stop := func(path string, x reflect.Type) bool {
		return x.Kind() == reflect.Slice || x == reflect.TypeFor[time.Time]()
	}
	bases := map[string]*TrustPolicy{"": allPlatforms()}
	for _, l := range leaves(reflect.TypeFor[TrustPolicy](), "", stop, itself) {
		if l.path == "Version" || strings.HasSuffix(l.path, ".Waived") {
			continue
		}
		shown, weaker := false, false
		base := bases[""]
		for i := range wrongs(l.at(reflect.ValueOf(base).Elem())) {
			changed := allPlatforms()
			v := l.at(reflect.ValueOf(changed).Elem())
			x := wrongs(v)[i]
			if reflect.DeepEqual(x.Interface(), v.Interface()) {
				continue
			}
			v.Set(x)
			if l.path == "RuntimeData.Want" {
				shown, weaker = true, true // one word is all there is
				continue
			}
			for _, d := range [][]Change{Diff(base, changed), Diff(changed, base)} {
				shown = shown || len(d) > 0
				weaker = weaker || slices.ContainsFunc(d, func(c Change) bool { return c.Weaker })
			}
		}
		if !shown && l.path != "Revocation.Want" {
			t.Errorf("%s can change without showing", l.path)
		}
		if !weaker && l.path != "Name" && l.path != "Revocation.Want" {
			t.Errorf("%s can change without ever being weaker", l.path)
		}
	}
}

// Every rule that may be waived is listed among the waivers, and its waiver shows in Diff.
func TestNoWaiverIsForgotten(t *testing.T) {
	t.Parallel()
	count := 0
	var visit func(path string, at func(reflect.Value) reflect.Value, v reflect.Value)
	visit = func(path string, at func(reflect.Value) reflect.Value, v reflect.Value) {
		switch {
		case v.Kind() == reflect.Pointer && !v.IsNil():
			visit(path, func(r reflect.Value) reflect.Value { return at(r).Elem() }, v.Elem())
		case v.Kind() == reflect.Struct && v.NumField() == 2 && v.Type().Field(1).Name == "Waived":
			if strings.HasSuffix(path, ".Measurement") && v.Field(0).IsNil() {
				return // endorsed or signed instead
			}
			count++
			p := allPlatforms()
			rule := at(reflect.ValueOf(p).Elem())
			rule.Set(reflect.Zero(rule.Type()))
			rule.FieldByName("Waived").SetString("reason-of-mine")
			if problem := p.check(); problem != nil {
				t.Errorf("%s cannot be waived: %v", path, problem)
			}
			if len(p.waived()) != 1 || p.waived()[0].reason != "reason-of-mine" {
				t.Errorf("%s, waived, is not listed: %v", path, p.waived())
			}
			if d := Diff(allPlatforms(), p); len(d) != 1 || !d[0].Weaker {
				t.Errorf("%s, waived, is no weaker policy: %+v", path, d)
			}
			if f := Lint(p, testNow.AddDate(-1, 0, 0)); len(f) == 0 || f[0].Level != LevelWarning {
				t.Errorf("%s, waived, is nothing to warn of: %+v", path, f)
			}
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				visit(path+"."+v.Type().Field(i).Name, func(r reflect.Value) reflect.Value { return at(r).Field(i) }, v.Field(i))
			}
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				visit(fmt.Sprintf("%s[%d]", path, i), func(r reflect.Value) reflect.Value { return at(r).Index(i) }, v.Index(i))
			}
		}
	}
	visit("", itself, reflect.ValueOf(allPlatforms()).Elem())
	if count < 30 {
		t.Errorf("only %d rules were found", count)
	}
	for _, f := range slices.Collect(maps.Keys(remedies)) {
		if f == "" {
			t.Error("a remedy of nothing")
		}
	}
}
