package attestation_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/passclave/passclave/attestation"
	at "github.com/passclave/passclave/attestation/attestationtest"
)

func reportedTCB(b *attestation.Bundle) uint64 { return binary.LittleEndian.Uint64(b.Report[0x180:]) }

func TestHostAMD(t *testing.T) {
	t.Parallel()
	b := bundle(t)
	good := at.HostAMD(t, b.Certificates, reportedTCB(b))
	b.HostAMD = good
	if _, err := genuine(t, b); err != nil {
		t.Fatal(err)
	}
	certificates := b.Certificates
	b.Certificates = nil // they come from there
	if _, err := genuine(t, b); err != nil {
		t.Fatal(err)
	}
	list, tcb, err := attestation.ParseHostAMD(good)
	if err != nil || tcb != reportedTCB(b) || len(list) != 3 || !bytes.Equal(list[2], certificates[2]) {
		t.Errorf("%d certificates, %x, %v", len(list), tcb, err)
	}
	// Without leading zeros, and in lower case.
	b.HostAMD = []byte(strings.Replace(string(good), `"tcbm":"DB`, `"tcbm":"db`, 1))
	if _, err := genuine(t, b); err != nil {
		t.Error(err)
	}

	text := string(good)
	for name, changed := range map[string]string{
		"another tcbm":        string(at.HostAMD(t, certificates, reportedTCB(b)+1)),
		"tcbm of the future":  string(at.HostAMD(t, certificates, reportedTCB(b)+1<<56)),
		"tcbm is a number":    strings.Replace(text, `"tcbm":"DB18000000000004"`, `"tcbm":1`, 1),
		"tcbm is empty":       strings.Replace(text, "DB18000000000004", "", 1),
		"tcbm is decimal":     strings.Replace(text, "DB18000000000004", "-1", 1),
		"tcbm is too long":    strings.Replace(text, "DB18000000000004", "0DB18000000000004", 1),
		"no tcbm":             strings.Replace(text, `"tcbm"`, `"TCBM"`, 1),
		"tcbm twice":          strings.Replace(text, "{", `{"tcbm":"DB18000000000004",`, 1),
		"unknown member":      strings.Replace(text, "{", `{"more":"",`, 1),
		"nested member":       strings.Replace(text, "{", `{"cacheControl":{},`, 1),
		"null":                strings.Replace(text, `"86400"`, "null", 1),
		"no VCEK":             strings.Replace(text, `"vcekCert"`, `"vcek"`, 1),
		"no chain":            strings.Replace(text, `"certificateChain"`, `"chain"`, 1),
		"chain of one":        string(at.HostAMD(t, certificates[:2], reportedTCB(b))),
		"between":             strings.Replace(text, `-----BEGIN`, `x-----BEGIN`, 1),
		"a line before":       strings.Replace(text, `-----BEGIN`, `x\n-----BEGIN`, 1),
		"another type":        strings.ReplaceAll(text, "CERTIFICATE-----", "PUBLIC KEY-----"),
		"a header":            strings.Replace(text, `CERTIFICATE-----\n`, `CERTIFICATE-----\nA: b\n\n`, 1),
		"something follows":   text + "{}",
		"a list":              "[" + text + "]",
		"not JSON":            text[:len(text)-1],
		"not UTF-8":           strings.Replace(text, "86400", "\xff", 1),
		"large":               text + strings.Repeat(" ", 32<<10),
		"two VCEKs":           strings.Replace(text, `"vcekCert":"`, `"vcekCert":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`, 1),
		"only white space":    " ",
		"escaped member name": strings.Replace(text, `"tcbm"`, `"tcb\u006d":"1","tcbm"`, 1),
	} {
		if changed == text {
			t.Fatalf("%s: nothing changed", name)
		}
		b.HostAMD, b.Certificates = []byte(changed), certificates
		_, err := genuine(t, b)
		t.Run(name, func(t *testing.T) { wantCheck(t, err, attestation.CheckHostAMD) })
	}
	_, _, err = attestation.ParseHostAMD(nil)
	wantCheck(t, err, attestation.CheckHostAMD)

	// Whose certificates they are is for the chain to say.
	other, err := stranger()
	if err != nil {
		t.Fatal(err)
	}
	b.Certificates, b.HostAMD = nil, at.HostAMD(t, other.Certificates(), reportedTCB(b))
	_, err = genuine(t, b)
	wantCheck(t, err, attestation.CheckRoot)
}

func TestSecurityPolicy(t *testing.T) {
	t.Parallel()
	b := bundle(t) // HOST_DATA is the configuration's hash
	b.SecurityPolicy = b.Configuration
	if c, err := genuine(t, b); err != nil || !bytes.Equal(c.SecurityPolicy, b.Configuration) {
		t.Fatalf("%v", err)
	}
	b.SecurityPolicy = append(bytes.Clone(b.Configuration), '\n')
	_, err := genuine(t, b)
	wantCheck(t, err, attestation.CheckSecurityPolicy)
}
