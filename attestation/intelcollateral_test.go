package attestation_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/passclave/passclave/attestation"
)

func level(m map[string]any, i int) map[string]any { return m["tcbLevels"].([]any)[i].(map[string]any) }

func module(m *intelMachine, i int) map[string]any {
	return m.tcbInfo["tdxModuleIdentities"].([]any)[i].(map[string]any)
}

// Without collateral nothing is known of the firmware; half of it says nothing either.
func TestCollateralAbsent(t *testing.T) {
	t.Parallel()
	eachTEE(t, func(t *testing.T, tdx bool) {
		for name, leave := range map[string]func(*intelMachine){
			"all":      func(m *intelMachine) { m.tcbInfo, m.qeIdentity, m.pckCRL, m.rootCRL = nil, nil, nil, nil },
			"tcb info": func(m *intelMachine) { m.tcbInfo, m.pckCRL = nil, nil },
			"identity": func(m *intelMachine) { m.qeIdentity, m.rootCRL = nil, nil },
		} {
			m := newIntelMachine(t, tdx)
			leave(m)
			c, err := m.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if want := (&attestation.Intel{FMSPC: unhex(testFMSPC), PCESVN: 11}); !reflect.DeepEqual(c.Intel, want) {
				t.Errorf("without %s: %+v", name, c.Intel)
			}
			if c.RevocationChecked { // one list alone leaves half of the chain
				t.Errorf("without %s: says that revocation was checked", name)
			}
		}
		m := newIntelMachine(t, tdx)
		m.swap = func(l []attestation.Collateral) []attestation.Collateral {
			return append(l, attestation.Collateral{Name: "something-new", Data: []byte("?")})
		}
		if c, err := m.verify(t); err != nil || c.Intel.TCBStatus != "UpToDate" {
			t.Errorf("with a name of later: %v", err)
		}
	})
}

func TestTCBStatus(t *testing.T) {
	t.Parallel()
	pck := func(pce, cpu int) func(*testing.T, *intelMachine) {
		return func(t *testing.T, m *intelMachine) {
			m.pck.ExtraExtensions[0] = pckExtension(t, testFMSPC, "0000", pce, cpu)
		}
	}
	qe := func(svn byte) func(*testing.T, *intelMachine) {
		return func(_ *testing.T, m *intelMachine) { m.qe[258] = svn }
	}
	body := func(i int, v byte) func(*testing.T, *intelMachine) {
		return func(_ *testing.T, m *intelMachine) { m.body[i] = v }
	}
	all := func(list ...func(*testing.T, *intelMachine)) func(*testing.T, *intelMachine) {
		return func(t *testing.T, m *intelMachine) {
			for _, f := range list {
				f(t, m)
			}
		}
	}
	none := func(*testing.T, *intelMachine) {}
	for name, c := range map[string]struct {
		change     func(*testing.T, *intelMachine)
		tdx        bool // TDX alone
		status     string
		year       int
		advisories string
	}{
		"up to date":                      {none, false, "UpToDate", 2026, ""},
		"better than known":               {all(pck(99, 99), qe(99)), false, "UpToDate", 2026, ""},
		"CPU":                             {pck(11, 4), false, "SWHardeningNeeded", 2025, "INTEL-SA-00001 INTEL-SA-00002"},
		"CPU lower":                       {pck(11, 3), false, "ConfigurationNeeded", 2024, "INTEL-SA-00003"},
		"PCE":                             {pck(10, 5), false, "OutOfDate", 2023, ""},
		"CPU revoked":                     {pck(11, 1), false, "Revoked", 2022, ""},
		"QE":                              {qe(5), false, "OutOfDate", 2026, "INTEL-SA-00007"},
		"QE revoked":                      {qe(4), false, "Revoked", 2026, ""},
		"QE and CPU that needs hardening": {all(qe(5), pck(11, 4)), false, "OutOfDate", 2025, "INTEL-SA-00001 INTEL-SA-00002 INTEL-SA-00007"},
		"QE and CPU to be configured":     {all(qe(5), pck(11, 3)), false, "OutOfDateConfigurationNeeded", 2024, "INTEL-SA-00003 INTEL-SA-00007"},
		"QE and CPU revoked":              {all(qe(5), pck(11, 1)), false, "Revoked", 2022, "INTEL-SA-00007"},
		"one advisory from two": {func(_ *testing.T, m *intelMachine) {
			m.qe[258], level(m.tcbInfo, 0)["advisoryIDs"] = 5, []string{"INTEL-SA-00007"}
		}, false, "OutOfDate", 2026, "INTEL-SA-00007"},
		"QE and both": {func(_ *testing.T, m *intelMachine) {
			m.qe[258], level(m.tcbInfo, 0)["tcbStatus"] = 5, "ConfigurationAndSWHardeningNeeded"
		}, false, "OutOfDateConfigurationNeeded", 2026, "INTEL-SA-00007"},
		"QE and already so": {func(_ *testing.T, m *intelMachine) {
			m.qe[258], level(m.tcbInfo, 0)["tcbStatus"] = 5, "OutOfDateConfigurationNeeded"
		}, false, "OutOfDateConfigurationNeeded", 2026, "INTEL-SA-00007"},
		"FMSPC in capitals":        {func(_ *testing.T, m *intelMachine) { m.tcbInfo["fmspc"] = strings.ToUpper(testFMSPC) }, false, "UpToDate", 2026, ""},
		"QE's 64 bits":             {qeReport(48, 0x15), false, "UpToDate", 2026, ""},
		"TDX loader":               {body(2, 6), true, "OutOfDate", 2023, ""},
		"TDX module":               {body(0, 3), true, "OutOfDate", 2026, "INTEL-SA-00009"},
		"TDX module and CPU":       {all(body(0, 3), pck(11, 3)), true, "OutOfDateConfigurationNeeded", 2024, "INTEL-SA-00003 INTEL-SA-00009"},
		"TDX module of version 3":  {all(body(0, 3), body(1, 3)), true, "UpToDate", 2026, ""},
		"TDX module, version 0":    {versionZero, true, "UpToDate", 2026, ""},
		"TDX module, 0, below all": {all(versionZero, body(0, 4)), true, "OutOfDate", 2019, ""},
	} {
		for _, tdx := range []bool{true, false} {
			if c.tdx && !tdx {
				continue
			}
			m := newIntelMachine(t, tdx)
			c.change(t, m)
			got, err := m.verify(t)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if i := got.Intel; i.TCBStatus != c.status || i.TCBDate.Year() != c.year || strings.Join(i.Advisories, " ") != c.advisories {
				t.Errorf("%s, TDX %v: %s, %s, %s", name, tdx, i.TCBStatus, i.TCBDate, i.Advisories)
			}
		}
	}
}

// qeReport sets a byte of the quoting enclave's report.
func qeReport(i int, v byte) func(*testing.T, *intelMachine) {
	return func(_ *testing.T, m *intelMachine) { m.qe[i] = v }
}

// versionZero is a TDX module of the first generation, without an identity of its own.
func versionZero(_ *testing.T, m *intelMachine) {
	delete(m.tcbInfo, "tdxModuleIdentities")
	m.body[1] = 0
	m.tcbInfo["tcbLevels"] = []any{tcbLevel("UpToDate", "2026-01-01", 11, 5, 5, 0, 7), tcbLevel("OutOfDate", "2019-01-01", 11, 5, 4, 0, 7)}
}

func TestEvaluationNumber(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, true)
	m.tcbInfo["tcbEvaluationDataNumber"], m.qeIdentity["tcbEvaluationDataNumber"] = 20, 19
	if c, err := m.verify(t); err != nil || c.Intel.EvaluationNumber != 19 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestCollateralRefused(t *testing.T) {
	t.Parallel()
	tcbInfo, qeIdentity, revocation := attestation.CheckTCBInfo, attestation.CheckQEIdentity, attestation.CheckRevocation
	yesterday, tomorrow := "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z"
	onlyTDX := true
	change := func(name string, f func(*attestation.Collateral)) func(*intelMachine) {
		return func(m *intelMachine) {
			m.swap = func(l []attestation.Collateral) []attestation.Collateral {
				for i := range l {
					if l[i].Name == name {
						f(&l[i])
					}
				}
				return l
			}
		}
	}
	twice := func(name string) func(*intelMachine) {
		return func(m *intelMachine) {
			m.swap = func(l []attestation.Collateral) []attestation.Collateral {
				i := slices.IndexFunc(l, func(c attestation.Collateral) bool { return c.Name == name })
				return append(l, l[i])
			}
		}
	}
	type attack struct {
		change func(*intelMachine)
		want   attestation.Check
		tdx    bool
	}
	cases := map[string]attack{
		"TCB info of another FMSPC":   {func(m *intelMachine) { m.tcbInfo["fmspc"] = "00906ed50001" }, tcbInfo, false},
		"TCB info without FMSPC":      {func(m *intelMachine) { delete(m.tcbInfo, "fmspc") }, tcbInfo, false},
		"TCB info of another PCE":     {func(m *intelMachine) { m.tcbInfo["pceId"] = "0001" }, tcbInfo, false},
		"TCB info of the other TEE":   {func(m *intelMachine) { m.tcbInfo["id"] = map[bool]string{true: "SGX", false: "TDX"}[m.tdx] }, tcbInfo, false},
		"TCB info of version 2":       {func(m *intelMachine) { m.tcbInfo["version"] = 2 }, tcbInfo, false},
		"TCB info of another type":    {func(m *intelMachine) { m.tcbInfo["tcbType"] = 1 }, tcbInfo, false},
		"TCB info expired":            {func(m *intelMachine) { m.tcbInfo["nextUpdate"] = yesterday }, tcbInfo, false},
		"TCB info of tomorrow":        {func(m *intelMachine) { m.tcbInfo["issueDate"] = tomorrow }, tcbInfo, false},
		"TCB info without dates":      {func(m *intelMachine) { delete(m.tcbInfo, "nextUpdate") }, tcbInfo, false},
		"TCB info without levels":     {func(m *intelMachine) { m.tcbInfo["tcbLevels"] = []any{} }, tcbInfo, false},
		"TCB under all levels":        {func(m *intelMachine) { m.pck.ExtraExtensions[0] = pckExtension(t, testFMSPC, "0000", 11, 0) }, tcbInfo, false},
		"PCE under all levels":        {func(m *intelMachine) { m.pck.ExtraExtensions[0] = pckExtension(t, testFMSPC, "0000", 9, 5) }, tcbInfo, false},
		"TCB level of unknown status": {func(m *intelMachine) { level(m.tcbInfo, 4)["tcbStatus"] = "Fine" }, tcbInfo, false},
		"TCB level without status":    {func(m *intelMachine) { delete(level(m.tcbInfo, 0), "tcbStatus") }, tcbInfo, false},
		"TCB level without date":      {func(m *intelMachine) { delete(level(m.tcbInfo, 0), "tcbDate") }, tcbInfo, false},
		"TCB levels without components": {func(m *intelMachine) {
			for i := range 5 {
				delete(level(m.tcbInfo, i)["tcb"].(map[string]any), "sgxtcbcomponents")
			}
		}, tcbInfo, false},
		"TDX levels without components": {func(m *intelMachine) {
			for i := range 5 {
				delete(level(m.tcbInfo, i)["tcb"].(map[string]any), "tdxtcbcomponents")
			}
		}, tcbInfo, onlyTDX},
		"TDX loader under all levels":    {func(m *intelMachine) { m.body[2] = 5 }, tcbInfo, onlyTDX},
		"TDX module unknown":             {func(m *intelMachine) { m.body[1] = 2 }, tcbInfo, onlyTDX},
		"TDX module under all levels":    {func(m *intelMachine) { m.body[0] = 2 }, tcbInfo, onlyTDX},
		"TDX module of another signer":   {func(m *intelMachine) { m.body[64] = 1 }, tcbInfo, onlyTDX},
		"TDX module 0, another signer":   {func(m *intelMachine) { versionZero(t, m); m.body[64] = 1 }, tcbInfo, onlyTDX},
		"TDX module of other attributes": {func(m *intelMachine) { module(m, 1)["attributes"] = "0100000000000000" }, tcbInfo, onlyTDX},
		"TDX module 0, other attributes": {func(m *intelMachine) {
			versionZero(t, m)
			m.tcbInfo["tdxModule"].(map[string]any)["attributes"] = "0100000000000000"
		}, tcbInfo, onlyTDX},
		"TDX module without mask":        {func(m *intelMachine) { delete(module(m, 1), "attributesMask") }, tcbInfo, onlyTDX},
		"TDX module of a strange status": {func(m *intelMachine) { level(module(m, 1), 0)["tcbStatus"] = "SWHardeningNeeded" }, tcbInfo, onlyTDX},

		"identity of the other QE":    {func(m *intelMachine) { m.qeIdentity["id"] = map[bool]string{true: "QE", false: "TD_QE"}[m.tdx] }, qeIdentity, false},
		"identity of a verifier":      {func(m *intelMachine) { m.qeIdentity["id"] = "QVE" }, qeIdentity, false},
		"identity of version 3":       {func(m *intelMachine) { m.qeIdentity["version"] = 3 }, qeIdentity, false},
		"identity expired":            {func(m *intelMachine) { m.qeIdentity["nextUpdate"] = yesterday }, qeIdentity, false},
		"identity of tomorrow":        {func(m *intelMachine) { m.qeIdentity["issueDate"] = tomorrow }, qeIdentity, false},
		"identity of another signer":  {func(m *intelMachine) { m.qeIdentity["mrsigner"] = strings.Repeat("00", 32) }, qeIdentity, false},
		"identity of another product": {func(m *intelMachine) { m.qeIdentity["isvprodid"] = 3 }, qeIdentity, false},
		"identity, other attributes":  {func(m *intelMachine) { m.qeIdentity["attributes"] = "01" + strings.Repeat("00", 15) }, qeIdentity, false},
		"identity without mask":       {func(m *intelMachine) { delete(m.qeIdentity, "attributesMask") }, qeIdentity, false},
		"identity, other misc select": {func(m *intelMachine) { m.qeIdentity["miscselect"] = "01000000" }, qeIdentity, false},
		"QE's misc select":            {func(m *intelMachine) { m.qe[16] = 1 }, qeIdentity, false},
		"QE's attributes":             {func(m *intelMachine) { m.qe[48] |= 0x20 }, qeIdentity, false},
		"QE under all levels": {func(m *intelMachine) {
			m.qeIdentity["tcbLevels"] = m.qeIdentity["tcbLevels"].([]any)[:2]
			m.qe[258] = 4
		}, qeIdentity, false},
		"QE of a strange status": {func(m *intelMachine) { level(m.qeIdentity, 0)["tcbStatus"] = "ConfigurationNeeded" }, qeIdentity, false},

		"PCK revoked":                  {func(m *intelMachine) { m.pckCRL.RevokedCertificateEntries = revoked(9, 3) }, revocation, false},
		"CA revoked":                   {func(m *intelMachine) { m.rootCRL.RevokedCertificateEntries = revoked(9, 2) }, revocation, false},
		"signer of collateral revoked": {func(m *intelMachine) { m.rootCRL.RevokedCertificateEntries = revoked(9, 4) }, revocation, false},
		"signer revoked, identity alone": {func(m *intelMachine) {
			m.tcbInfo, m.rootCRL.RevokedCertificateEntries = nil, revoked(4)
		}, revocation, false},
		"signer revoked, info alone": {func(m *intelMachine) {
			m.qeIdentity, m.rootCRL.RevokedCertificateEntries = nil, revoked(4)
		}, revocation, false},
		"PCK revoked, list alone": {func(m *intelMachine) {
			m.rootCRL, m.pckCRL.RevokedCertificateEntries = nil, revoked(3)
		}, revocation, false},
		"PCK list expired":            {func(m *intelMachine) { m.pckCRL.NextUpdate = intelNow.Add(-time.Second) }, revocation, false},
		"PCK list of tomorrow":        {func(m *intelMachine) { m.pckCRL.ThisUpdate = intelNow.Add(time.Second) }, revocation, false},
		"root list expired":           {func(m *intelMachine) { m.rootCRL.NextUpdate = intelNow.Add(-time.Second) }, revocation, false},
		"root list of tomorrow":       {func(m *intelMachine) { m.rootCRL.ThisUpdate = intelNow.Add(time.Second) }, revocation, false},
		"PCK list by a stranger":      {func(m *intelMachine) { m.pckCRLBy = p256(t) }, revocation, false},
		"root list by the CA":         {func(m *intelMachine) { m.rootCRLBy = m.caKey }, revocation, false},
		"PCK list about users alone":  {func(m *intelMachine) { m.pckCRL.ExtraExtensions = usersAlone }, revocation, false},
		"root list about users alone": {func(m *intelMachine) { m.rootCRL.ExtraExtensions = usersAlone }, revocation, false},
		"lists exchanged": {func(m *intelMachine) {
			m.swap = func(l []attestation.Collateral) []attestation.Collateral {
				l[2].Data, l[3].Data = l[3].Data, l[2].Data
				return l
			}
		}, revocation, false},
		"list in another authority's name": {func(m *intelMachine) {
			other := *m.ca
			other.Subject = intelSubject("Intel SGX PCK Processor CA")
			der, err := x509.CreateRevocationList(rand.Reader, m.pckCRL, &other, m.caKey)
			if err != nil {
				t.Fatal(err)
			}
			change("pck-crl", func(c *attestation.Collateral) { c.Data = der })(m)
		}, revocation, false},
		"PCK list is none":  {change("pck-crl", func(c *attestation.Collateral) { c.Data = []byte("CRL") }), revocation, false},
		"root list is none": {change("root-crl", func(c *attestation.Collateral) { c.Data = nil }), revocation, false},
		"PCK list twice":    {twice("pck-crl"), revocation, false},
		"root list twice":   {twice("root-crl"), revocation, false},
	}
	// Both statements of Intel's are signed in the same way.
	for name, check := range map[string]attestation.Check{"tcb-info": tcbInfo, "qe-identity": qeIdentity} {
		alone := func(f func(*intelMachine)) func(*intelMachine) {
			return func(m *intelMachine) {
				if name == "tcb-info" {
					m.qeIdentity = nil
				} else {
					m.tcbInfo = nil
				}
				f(m)
			}
		}
		for attackName, f := range map[string]func(*intelMachine){
			"twice":    twice(name),
			"not JSON": change(name, func(c *attestation.Collateral) { c.Data = []byte("TCB") }),
			"empty":    change(name, func(c *attestation.Collateral) { c.Data = []byte("{}") }),
			"cut":      change(name, func(c *attestation.Collateral) { c.Data = c.Data[:len(c.Data)-1] }),
			"changed": change(name, func(c *attestation.Collateral) {
				c.Data = bytes.Replace(c.Data, []byte("2026-11"), []byte("2027-11"), 1)
			}),
			"reordered": change(name, func(c *attestation.Collateral) { c.Data = bytes.Replace(c.Data, []byte(`:{"`), []byte(`: {"`), 2) }),
			"one member more": change(name, func(c *attestation.Collateral) {
				c.Data = append([]byte(`{"more":1,`), c.Data[1:]...)
			}),
			"without signature":    change(name, func(c *attestation.Collateral) { c.Data = append(c.Data[:bytes.LastIndexByte(c.Data, ',')], '}') }),
			"half a signature":     change(name, func(c *attestation.Collateral) { c.Data = append(c.Data[:len(c.Data)-66], `"}`...) }),
			"signature not hex":    change(name, func(c *attestation.Collateral) { c.Data[len(c.Data)-4] = 'x' }),
			"signed by a stranger": func(m *intelMachine) { m.dataSigner = p256(t) },
			"signed by the PCK":    func(m *intelMachine) { m.dataSigner = m.pckKey },
			"signer by a stranger": func(m *intelMachine) { m.tcbSigner = p256(t) },
			"signer by the CA":     func(m *intelMachine) { m.tcbSigner = m.caKey },
			"signer's name":        func(m *intelMachine) { m.tcb.Subject = intelSubject("Intel SGX PCK Certificate") },
			"signer not Intel's":   func(m *intelMachine) { m.tcb.Subject.Country = []string{"DE"} },
			"signer is a CA":       func(m *intelMachine) { m.tcb.IsCA = true },
			"signer expired":       func(m *intelMachine) { m.tcb.NotAfter = intelNow.Add(-time.Second) },
			"signer not yet":       func(m *intelMachine) { m.tcb.NotBefore = intelNow.Add(time.Second) },
			"Intel's root":         func(m *intelMachine) { m.collateralRoot = intelRootDER(t) },
			"another machine's root": func(m *intelMachine) {
				other := newIntelMachine(t, m.tdx) // whose collateral it is, altogether
				other.tcbInfo, other.qeIdentity = m.tcbInfo, m.qeIdentity
				other.report(t)
				list := other.collateral(t)
				m.swap = func(l []attestation.Collateral) []attestation.Collateral { return append(l[1:], list[0]) }
			},
			"signer by another name": func(m *intelMachine) {
				other := *m.root
				other.Subject = intelSubject("Intel SGX PCK Platform CA")
				change(name, func(c *attestation.Collateral) { c.Issuer[0] = m.certify(t, m.tcb, &other, m.tcbKey, m.rootKey) })(m)
			},
			"without issuer":   change(name, func(c *attestation.Collateral) { c.Issuer = nil }),
			"without root":     change(name, func(c *attestation.Collateral) { c.Issuer = c.Issuer[:1] }),
			"issuers swapped":  change(name, func(c *attestation.Collateral) { c.Issuer[0], c.Issuer[1] = c.Issuer[1], c.Issuer[0] }),
			"one issuer more":  change(name, func(c *attestation.Collateral) { c.Issuer = append(c.Issuer, c.Issuer[1]) }),
			"issuer not DER":   change(name, func(c *attestation.Collateral) { c.Issuer[0] = []byte("signer") }),
			"issuer too large": change(name, func(c *attestation.Collateral) { c.Issuer[0] = make([]byte, 5000) }),
		} {
			cases[name+": "+attackName] = attack{alone(f), check, false}
		}
	}
	eachTEE(t, func(t *testing.T, tdx bool) {
		for name, c := range cases {
			if c.tdx && !tdx {
				continue
			}
			t.Run(name, func(t *testing.T) {
				m := newIntelMachine(t, tdx)
				c.change(m)
				_, err := m.verify(t)
				wantCheck(t, err, c.want)
				if errors.Is(err, attestation.ErrRevoked) != (c.want == revocation && strings.Contains(name, "revoked")) {
					t.Errorf("is it revoked? %v", err)
				}
			})
		}
	})
}

// usersAlone says that a list has no authorities: issuing distribution point,
// onlyContainsUserCerts.
var usersAlone = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x81, 1, 0xff}}}

func revoked(serials ...int64) (list []x509.RevocationListEntry) {
	for _, n := range serials {
		list = append(list, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: intelNow.AddDate(0, -1, 0)})
	}
	return list
}

// The answer of a QE identity does not pass for TCB info, nor the other way round.
func TestCollateralExchanged(t *testing.T) {
	t.Parallel()
	m := newIntelMachine(t, true)
	m.swap = func(l []attestation.Collateral) []attestation.Collateral {
		l[0].Name, l[1].Name = l[1].Name, l[0].Name
		return l
	}
	_, err := m.verify(t)
	wantCheck(t, err, attestation.CheckTCBInfo)
}
