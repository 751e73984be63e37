package attestation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
	"github.com/passclave/passclave/wire"
)

// text fills n bytes in base64url.
func text(b byte, n int) string {
	return base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{b}, n))
}

// goldenClient and goldenRelease are the formats, byte for byte.
var (
	goldenSigner  = `{"public":"` + text(5, 32) + `"}`
	goldenLedger  = `{"id":"` + text(3, 32) + `","backend":"local","genesis":"` + text(4, 32) + `","number":1,"signers":[` + goldenSigner + `,{"public":"` + text(6, 32) + `","signature":"` + text(7, 64) + `"}]}`
	goldenClient  = `{"purpose":"client","hpke":"` + text(0xff, 1216) + `","config":"` + text(2, 32) + `","ledger":` + goldenLedger + `,"nonce":"` + text(8, 32) + `"}`
	goldenKey     = `{"kid":"a-key","kty":"RSA","key_ops":["encrypt"],"n":"` + text(0xc1, 256) + `","e":"AQAB"}`
	goldenRelease = `{"keys":[` + goldenKey + `],"purpose":"release","config":"` + text(2, 32) + `"}`
)

func TestRuntimeData(t *testing.T) {
	t.Parallel()
	file := at.Configuration(t)
	client, release := at.ClientData(t, file), at.ReleaseData(t, file)
	for _, r := range []attestation.RuntimeData{client, release} {
		data, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := attestation.ParseRuntimeData(data); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
	for _, golden := range []string{goldenClient, goldenRelease,
		`{"keys":[` + goldenKey + `],"purpose":"release","config":"` + text(2, 32) + `","nonce":"` + text(1, 64) + `"}`,
		strings.Replace(goldenRelease, "a-key", "aZ09-_.", 1),
		strings.Replace(goldenClient, `,"signers":[`+goldenSigner+`,{"public":"`+text(6, 32)+`","signature":"`+text(7, 64)+`"}]`, "", 1), // no KEK yet
	} {
		r, err := attestation.ParseRuntimeData([]byte(golden))
		if err != nil {
			t.Fatalf("%s: %v", golden, err)
		}
		if again, err := r.Encode(); err != nil || string(again) != golden {
			t.Errorf("%s, %v: want %s", again, err, golden)
		}
	}
}

// replace changes the golden data in one place, and fails the test if there is none.
func replace(t *testing.T, in, old, by string) string {
	t.Helper()
	out := strings.Replace(in, old, by, 1)
	if out == in {
		t.Fatalf("%q is not in %s", old, in)
	}
	return out
}

func TestRuntimeDataRefused(t *testing.T) {
	t.Parallel()
	c, r := goldenClient, goldenRelease
	nonce := `"nonce":"` + text(8, 32) + `"`
	for name, data := range map[string]string{
		"empty":                  "",
		"null":                   "null",
		"no object":              `"purpose"`,
		"cut":                    c[:len(c)-1],
		"trailing byte":          c + "\n",
		"trailing object":        c + "{}",
		"leading space":          " " + c,
		"space":                  replace(t, c, ":", ": "),
		"too large":              c + strings.Repeat(" ", 64<<10),
		"unknown member":         replace(t, c, `{"purpose"`, `{"a":1,"purpose"`),
		"unknown in ledger":      replace(t, c, `"number":1`, `"number":1,"a":1`),
		"unknown in signer":      replace(t, c, `"public"`, `"a":1,"public"`),
		"unknown in key":         replace(t, r, `"kid"`, `"d":"AQ","kid"`),
		"duplicate purpose":      replace(t, c, `"purpose":"client"`, `"purpose":"release","purpose":"client"`),
		"duplicate key":          replace(t, r, `"n":`, `"n":"`+text(0xc2, 256)+`","n":`),
		"reordered":              replace(t, replace(t, c, `"purpose":"client",`, ""), `,"nonce"`, `,"purpose":"client","nonce"`),
		"name in another case":   replace(t, c, `"purpose"`, `"Purpose"`),
		"escaped name":           replace(t, c, `"purpose"`, `"p\u0075rpose"`),
		"escaped value":          replace(t, c, `"client"`, `"cl\u0069ent"`),
		"null member":            replace(t, c, `"purpose"`, `"keys":null,"purpose"`),
		"empty member":           replace(t, c, `"purpose"`, `"keys":[],"purpose"`),
		"padded base64":          replace(t, c, text(8, 32), text(8, 32)+"="),
		"loose base64":           replace(t, c, text(2, 32), text(2, 32)[:42]+"J"),
		"base64 with a newline":  replace(t, c, text(8, 32), text(8, 32)+`\n`),
		"JSON in the nonce":      replace(t, c, nonce, `"nonce":"AA","keys":[`+goldenKey+`],"x":"AA"`),
		"no purpose":             replace(t, c, `"purpose":"client",`, ""),
		"empty purpose":          replace(t, c, `"client"`, `""`),
		"unknown purpose":        replace(t, c, `"client"`, `"owner"`),
		"reserved purpose":       replace(t, c, `"client"`, `"endorser"`),
		"client as release":      replace(t, c, `"client"`, `"release"`),
		"release as client":      replace(t, r, `"release"`, `"client"`),
		"client with keys":       replace(t, c, `{"purpose"`, `{"keys":[`+goldenKey+`],"purpose"`),
		"client without hpke":    replace(t, c, `"hpke":"`+text(0xff, 1216)+`",`, ""),
		"huge hpke":              replace(t, c, text(0xff, 1216), text(0xff, 4097)),
		"client without ledger":  replace(t, c, `"ledger":`+goldenLedger+",", ""),
		"client without config":  replace(t, c, `"config":"`+text(2, 32)+`",`, ""),
		"long config":            replace(t, c, text(2, 32), text(2, 33)),
		"short config":           replace(t, r, text(2, 32), text(2, 31)),
		"long nonce":             replace(t, c, text(8, 32), text(8, 65)),
		"empty nonce":            replace(t, c, nonce, `"nonce":""`),
		"short ledger ID":        replace(t, c, text(3, 32), text(3, 31)),
		"no ledger backend":      replace(t, c, `"local"`, `""`),
		"odd ledger backend":     replace(t, c, `"local"`, `"lo<cal"`),
		"long ledger backend":    replace(t, c, `"local"`, `"`+strings.Repeat("l", 65)+`"`),
		"short ledger genesis":   replace(t, c, text(4, 32), text(4, 31)),
		"ledger number 0":        replace(t, c, `"number":1`, `"number":0`),
		"ledger number -1":       replace(t, c, `"number":1`, `"number":-1`),
		"ledger number 1e0":      replace(t, c, `"number":1`, `"number":1e0`),
		"short ledger key":       replace(t, c, text(5, 32), text(5, 31)),
		"first signer is signed": replace(t, c, goldenSigner, `{"public":"`+text(5, 32)+`","signature":"`+text(7, 64)+`"}`),
		"second signer is not":   replace(t, c, `,"signature":"`+text(7, 64)+`"`, ""),
		"short signature":        replace(t, c, text(7, 64), text(7, 63)),
		"too many signers": replace(t, c, goldenSigner, goldenSigner+strings.Repeat(
			fmt.Sprintf(`,{"public":"%s","signature":"%s"}`, text(6, 32), text(7, 64)), 127)),
		"release without keys":  replace(t, r, `"keys":[`+goldenKey+`],`, ""),
		"release with two keys": replace(t, r, goldenKey, goldenKey+","+goldenKey),
		"release with hpke":     replace(t, r, `"config"`, `"hpke":"`+text(1, 32)+`","config"`),
		"release with ledger":   replace(t, r, text(2, 32)+`"`, text(2, 32)+`","ledger":`+goldenLedger),
		"no kid":                replace(t, r, `"a-key"`, `""`),
		"odd kid":               replace(t, r, `"a-key"`, `"a/key"`),
		"EC key":                replace(t, r, `"RSA"`, `"EC"`),
		"no key_ops":            replace(t, r, `["encrypt"]`, `[]`),
		"more key_ops":          replace(t, r, `["encrypt"]`, `["encrypt","sign"]`),
		"other key_ops":         replace(t, r, `["encrypt"]`, `["decrypt"]`),
		"tiny modulus":          replace(t, r, text(0xc1, 256), text(0xc1, 127)),
		"huge modulus":          replace(t, r, text(0xc1, 256), text(0xc1, 1025)),
		"leading zero":          replace(t, r, `"n":"`+text(0xc1, 256), `"n":"`+base64.RawURLEncoding.EncodeToString(append([]byte{0}, bytes.Repeat([]byte{1}, 256)...))),
		"exponent 3":            replace(t, r, `"AQAB"`, `"Aw"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := attestation.ParseRuntimeData([]byte(data))
			wantCheck(t, err, attestation.CheckRuntimeData)
		})
	}
}

func TestReportData(t *testing.T) {
	t.Parallel()
	got := attestation.ReportData([]byte(goldenClient))
	want := sha256.Sum256([]byte(goldenClient))
	if !bytes.Equal(got[:32], want[:]) || !bytes.Equal(got[32:], make([]byte, 32)) {
		t.Errorf("report data %x", got)
	}
}

// Encode refuses what ParseRuntimeData would.
func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	r := at.ReleaseData(t, at.Configuration(t))
	r.HPKE = wire.Base64{1}
	if data, err := r.Encode(); err == nil {
		t.Errorf("encoded %s", data)
	}
}

func FuzzRuntimeData(f *testing.F) {
	for _, golden := range []string{goldenClient, goldenRelease} {
		if _, err := attestation.ParseRuntimeData([]byte(golden)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(golden))
		f.Add([]byte(golden + " "))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := attestation.ParseRuntimeData(data)
		if err != nil {
			wantCheck(t, err, attestation.CheckRuntimeData)
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q was accepted and is %q, %v", data, again, err)
		}
		if (r.Purpose == attestation.PurposeRelease) != (len(r.Keys) == 1) {
			t.Errorf("purpose %q with %d keys", r.Purpose, len(r.Keys))
		}
	})
}
