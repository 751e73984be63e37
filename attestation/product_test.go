package attestation_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

func hardware(b *attestation.Bundle, roots attestation.Roots) (*attestation.Claims, error) {
	return attestation.Hardware(b, roots, time.Now())
}

// Every product line with either kind of key, in every version of the report.
func TestProductsAndSigners(t *testing.T) {
	t.Parallel()
	tcbs := map[string]attestation.TCB{
		"Milan": {Bootloader: 4, SNP: 24, Microcode: 219}, "Genoa": {Bootloader: 9, SNP: 23, Microcode: 72},
		"Turin": {FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 70},
	}
	for line, tcb := range tcbs {
		for _, vlek := range []bool{false, true} {
			for version := uint32(2); version <= 5; version++ {
				a := at.NewAMD(t, line, vlek)
				b, roots := a.Sign(t, func(r *sevsnp.Report) {
					r.Version = version
					switch version {
					case 2:
						r.Cpuid1EaxFms = 0
					case 5:
						r.LaunchMitVector, r.CurrentMitVector = 3, 7
					}
				})
				c, err := hardware(b, roots)
				if err != nil {
					t.Fatalf("%s, VLEK %v, version %d: %v", line, vlek, version, err)
				}
				signer, csp, chip := attestation.SignerVCEK, "", 64
				if vlek {
					signer, csp, chip = attestation.SignerVLEK, "Test Cloud", 0
				}
				if c.Product != line || c.Signer != signer || c.SNP.CSP != csp || len(c.ChipID) != chip || c.ReportVersion != version || !c.Simulated ||
					c.ReportedTCB != tcb || c.CommittedTCB != tcb || c.CurrentTCB != tcb || c.LaunchTCB != tcb || c.RevocationChecked || c.UVM != nil {
					t.Errorf("%s, VLEK %v, version %d: %+v", line, vlek, version, c)
				}
				if version == 5 && (c.SNP.LaunchMitigation != 3 || c.SNP.CurrentMitigation != 7) {
					t.Errorf("mitigations: %+v", c.SNP)
				}
			}
		}
	}
}

// Processors are known by family and model, whatever the stepping.
func TestProcessors(t *testing.T) {
	t.Parallel()
	for line, list := range map[string][]uint32{
		"Milan": {0x00a00f10, 0x00a00f82}, "Genoa": {0x00a10f10, 0x00aa0f02}, "Turin": {0x00b00f20, 0x00b10f10},
	} {
		for _, fms := range list {
			b, roots := at.NewAMD(t, line, false).Sign(t, func(r *sevsnp.Report) { r.Cpuid1EaxFms = fms })
			if c, err := hardware(b, roots); err != nil || c.Product != line {
				t.Errorf("%#x: %v", fms, err)
			}
		}
	}
	for _, fms := range []uint32{0x00800f11, 0x00a20f10, 0x00b40f40, 0x00b20f10} {
		b, roots := at.NewAMD(t, "Milan", false).Sign(t, func(r *sevsnp.Report) { r.Cpuid1EaxFms = fms })
		_, err := hardware(b, roots)
		wantCheck(t, err, attestation.CheckPlatform)
	}
}

func TestTurinAttacked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		chain  func(*at.AMD)
		report func(*sevsnp.Report)
		want   attestation.Check
	}{
		"other FMC":               {report: func(r *sevsnp.Report) { r.ReportedTcb++ }, want: attestation.CheckTCB},
		"other SNP":               {report: func(r *sevsnp.Report) { r.ReportedTcb += 1 << 24 }, want: attestation.CheckTCB},
		"reserved TCB":            {report: func(r *sevsnp.Report) { r.ReportedTcb += 1 << 32 }, want: attestation.CheckTCB},
		"TCB in Milan's layout":   {report: func(r *sevsnp.Report) { r.ReportedTcb = 0x4604000000000302 }, want: attestation.CheckTCB},
		"other chip":              {report: func(r *sevsnp.Report) { r.ChipId[7] ^= 1 }, want: attestation.CheckChip},
		"chip of 64 bytes":        {report: func(r *sevsnp.Report) { r.ChipId[8] = 1 }, want: attestation.CheckChip},
		"certificate's FMC gone":  {chain: func(a *at.AMD) { a.Extend(nil, 3, 9) }, want: attestation.CheckChain},
		"certificate's SNP gone":  {chain: func(a *at.AMD) { a.Extend(nil, 3, 3) }, want: attestation.CheckChain},
		"reserved level not zero": {chain: func(a *at.AMD) { a.Extend([]byte{2, 1, 1}, 3, 5) }, want: attestation.CheckChain},
		"hardware ID of Milan":    {chain: func(a *at.AMD) { a.Extend(bytes.Repeat([]byte{0xc4}, 64), 4) }, want: attestation.CheckChain},
		"hardware ID of 7 bytes":  {chain: func(a *at.AMD) { a.Extend(bytes.Repeat([]byte{0xc4}, 7), 4) }, want: attestation.CheckChain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := at.NewAMD(t, "Turin", false)
			if c.chain != nil {
				c.chain(a)
			}
			_, err := hardware(a.Sign(t, c.report))
			wantCheck(t, err, c.want)
		})
	}
	// An OCTET STRING is what the standard asks for.
	a := at.NewAMD(t, "Turin", false)
	der, err := asn1.Marshal(bytes.Repeat([]byte{0xc4}, 8))
	if err != nil {
		t.Fatal(err)
	}
	a.Extend(der, 4)
	if _, err := hardware(a.Sign(t, nil)); err != nil {
		t.Error(err)
	}
}

func TestVLEKAttacked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		chain  func(*at.AMD)
		report func(*sevsnp.Report)
		want   attestation.Check
	}{
		"report names a VCEK":    {report: func(r *sevsnp.Report) { r.SignerInfo = 0 }, want: attestation.CheckChain},
		"report names nobody":    {report: func(r *sevsnp.Report) { r.SignerInfo = 7 << 2 }, want: attestation.CheckSigner},
		"other TCB":              {report: func(r *sevsnp.Report) { r.ReportedTcb++ }, want: attestation.CheckTCB},
		"issued by the ASK":      {chain: func(a *at.AMD) { a.AS.Subject.CommonName = "SEV-Milan" }, want: attestation.CheckChain},
		"issued for Genoa":       {chain: func(a *at.AMD) { a.AS.Subject.CommonName = "SEV-VLEK-Genoa" }, want: attestation.CheckChain},
		"called VCEK":            {chain: func(a *at.AMD) { a.EK.Subject.CommonName = "SEV-VCEK" }, want: attestation.CheckChain},
		"without its cloud":      {chain: func(a *at.AMD) { a.Extend(nil, 5) }, want: attestation.CheckChain},
		"with a chip":            {chain: func(a *at.AMD) { a.Extend(make([]byte, 64), 4) }, want: attestation.CheckChain},
		"with a stepping":        {chain: func(a *at.AMD) { a.Extend([]byte("\x16\x08Milan-B1"), 2) }, want: attestation.CheckChain},
		"product not IA5":        {chain: func(a *at.AMD) { a.Extend([]byte("\x0c\x05Milan"), 2) }, want: attestation.CheckChain},
		"level of two bytes":     {chain: func(a *at.AMD) { a.Extend([]byte{2, 2, 1, 0}, 3, 8) }, want: attestation.CheckChain},
		"level and more":         {chain: func(a *at.AMD) { a.Extend([]byte{2, 1, 4, 0}, 3, 1) }, want: attestation.CheckChain},
		"unknown level":          {chain: func(a *at.AMD) { a.Extend([]byte{2, 1, 4}, 3, 10) }, want: attestation.CheckChain},
		"unknown extension":      {chain: func(a *at.AMD) { a.Extend([]byte{2, 1, 4}, 6) }, want: attestation.CheckChain},
		"level of Turin":         {chain: func(a *at.AMD) { a.Extend([]byte{2, 1, 4}, 3, 9) }, want: attestation.CheckChain},
		"without structVersion":  {chain: func(a *at.AMD) { a.Extend(nil, 1) }, want: attestation.CheckChain},
		"without a reserved one": {chain: func(a *at.AMD) { a.Extend(nil, 3, 4) }, want: attestation.CheckChain},
		"on P-256":               {chain: func(a *at.AMD) { a.Curve = elliptic.P256() }, want: attestation.CheckChain},
		"expired":                {chain: func(a *at.AMD) { a.EK.NotAfter = time.Now().Add(-time.Minute) }, want: attestation.CheckValidity},
		"ASVK expired":           {chain: func(a *at.AMD) { a.AS.NotAfter = time.Now().Add(-time.Minute) }, want: attestation.CheckValidity},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := at.NewAMD(t, "Milan", true)
			if c.chain != nil {
				c.chain(a)
			}
			_, err := hardware(a.Sign(t, c.report))
			wantCheck(t, err, c.want)
		})
	}
	// A VLEK says nothing about the chip: what the report names is not claimed.
	b, roots := at.NewAMD(t, "Milan", true).Sign(t, func(r *sevsnp.Report) { r.ChipId[0] ^= 1 })
	if c, err := hardware(b, roots); err != nil || c.ChipID != nil {
		t.Errorf("chip ID %x, %v", c.ChipID, err)
	}
	// A VCEK under the ASVK is none.
	a := at.NewAMD(t, "Milan", false)
	a.AS.Subject.CommonName = "SEV-VLEK-Milan"
	_, err := hardware(a.Sign(t, nil))
	wantCheck(t, err, attestation.CheckChain)
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	now := time.Now()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, vlek := range []bool{false, true} {
		a := at.NewAMD(t, "Genoa", vlek)
		b, roots := a.Sign(t, nil)
		try := func(list ...attestation.Collateral) (*attestation.Claims, error) {
			with := *b
			with.Collateral = list
			return hardware(&with, roots)
		}
		hour := time.Hour
		ok := a.CRL(t, b, now.Add(-hour), now.Add(hour), big.NewInt(77))
		if c, err := try(ok); err != nil || !c.RevocationChecked {
			t.Fatalf("%v", err)
		}
		ark, err := x509.ParseCertificate(b.Certificates[2])
		if err != nil {
			t.Fatal(err)
		}
		stranger := *ark
		stranger.RawSubject, stranger.Subject.CommonName = nil, "ARK-Milan"
		partial := a.SignCRL(t, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: now.Add(-hour), NextUpdate: now.Add(hour), SignatureAlgorithm: x509.SHA384WithRSAPSS,
			ExtraExtensions: usersAlone,
		}, ark, nil)
		truncated := attestation.Collateral{Name: ok.Name, Data: ok.Data[:len(ok.Data)-1]}
		flipped := attestation.Collateral{Name: ok.Name, Data: bytes.Clone(ok.Data)}
		flipped.Data[len(flipped.Data)/2] ^= 1
		for name, list := range map[string][]attestation.Collateral{
			"intermediate revoked":       {a.CRL(t, b, now.Add(-hour), now.Add(hour), big.NewInt(1), a.AS.SerialNumber)},
			"revoked in the second list": {ok, a.CRL(t, b, now.Add(-hour), now.Add(hour), a.AS.SerialNumber)},
			"root revoked":               {a.CRL(t, b, now.Add(-hour), now.Add(hour), a.ARK.SerialNumber)},
			"old":                        {a.CRL(t, b, now.Add(-2*hour), now.Add(-hour))},
			"not yet":                    {a.CRL(t, b, now.Add(hour), now.Add(2*hour))},
			"in another's name":          {a.CRLBy(t, &stranger, nil, now.Add(-hour), now.Add(hour))},
			"about users alone":          {partial},
			"by another key":             {a.CRLBy(t, ark, other, now.Add(-hour), now.Add(hour))},
			"truncated":                  {truncated},
			"changed":                    {flipped},
			"empty":                      {{Name: ok.Name}},
			"too large":                  {a.CRL(t, b, now.Add(-hour), now.Add(hour), slices.Repeat([]*big.Int{big.NewInt(1)}, 6000)...)},
		} {
			_, err := try(list...)
			t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckRevocation) })
			if errors.Is(err, attestation.ErrRevoked) != strings.Contains(name, "revoked") {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = try(attestation.Collateral{Name: "tcb-info", Data: []byte("{}")})
		wantCheck(t, err, attestation.CheckBundle)
	}
}
