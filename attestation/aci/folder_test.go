package aci_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/passclave/passclave/attestation"
	"github.com/passclave/passclave/attestation/aci"
)

var (
	report = bytes.Repeat([]byte{7}, 1184)
	policy = []byte("package policy\n")
	cose   = []byte{0xd2, 0x84}
	host   = []byte(`{"tcbm":"1"}`)
)

func file(data []byte) *fstest.MapFile { return &fstest.MapFile{Data: data} }

func encoded(data []byte) *fstest.MapFile {
	return file([]byte(base64.StdEncoding.EncodeToString(data) + "\n"))
}

func asACI() fstest.MapFS {
	return fstest.MapFS{
		"security-policy-base64": encoded(policy), "reference-info-base64": encoded(cose), "host-amd-cert-base64": encoded(host),
		"report.bin": file(report), "README.md": file([]byte("not looked at")),
	}
}

func TestReadFolder(t *testing.T) {
	t.Parallel()
	clear := fstest.MapFS{
		"security-policy.rego": file(policy), "uvm-reference-info.cose": file(cose), "host-amd-cert.json": file(host),
		"report.hex": file([]byte(hex.EncodeToString(report[:592]) + "\n" + hex.EncodeToString(report[592:]) + "\n")),
	}
	inBase64 := asACI()
	delete(inBase64, "report.bin")
	inBase64["report-base64"] = encoded(report)
	for name, folder := range map[string]fs.FS{"ACI": asACI(), "clear": clear, "base64": inBase64} {
		b, err := aci.ReadFolder(folder)
		if err != nil || b.Platform != attestation.PlatformSEVSNP || !bytes.Equal(b.Report, report) || !bytes.Equal(b.SecurityPolicy, policy) ||
			len(b.Endorsements) != 1 || !bytes.Equal(b.Endorsements[0], cose) || !bytes.Equal(b.HostAMD, host) || b.RuntimeData != nil || !aci.IsFolder(folder) {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	b, err := aci.ReadFolder(fstest.MapFS{"report.bin": file(report)})
	if err != nil || b.SecurityPolicy != nil || b.Endorsements != nil || b.HostAMD != nil {
		t.Errorf("report alone: %+v, %v", b, err)
	}
	if aci.IsFolder(fstest.MapFS{"security-policy-base64": encoded(policy)}) {
		t.Error("a folder without a report")
	}
}

func TestReadFolderRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  error
	}{
		"two reports":      {fstest.MapFS{"report-base64": encoded(report)}, aci.ErrAmbiguous},
		"two policies":     {fstest.MapFS{"security-policy.rego": file(policy)}, aci.ErrAmbiguous},
		"two endorsements": {fstest.MapFS{"reference-info.cose": file(cose)}, aci.ErrAmbiguous},
		"two host files":   {fstest.MapFS{"host-amd-cert.json": file(host)}, aci.ErrAmbiguous},
		"short report":     {fstest.MapFS{"report.bin": file(report[:1183])}, aci.ErrNoReport},
		"empty report":     {fstest.MapFS{"report.bin": file(nil)}, aci.ErrNoReport},
		"not base64":       {fstest.MapFS{"reference-info-base64": file([]byte("0o!"))}, aci.ErrEncoding},
		"base64url":        {fstest.MapFS{"reference-info-base64": file([]byte("_-8="))}, aci.ErrEncoding},
		"base64 with bits": {fstest.MapFS{"reference-info-base64": file([]byte("AB=="))}, aci.ErrEncoding},
		"large":            {fstest.MapFS{"reference-info-base64": file(make([]byte, 1<<20+1))}, aci.ErrTooLarge},
		"a folder":         {fstest.MapFS{"report.bin": {Mode: fs.ModeDir}}, fs.ErrInvalid},
		"a pipe":           {fstest.MapFS{"report.bin": {Mode: fs.ModeNamedPipe}}, fs.ErrInvalid},
	} {
		folder := asACI()
		maps.Copy(folder, c.files)
		if _, err := aci.ReadFolder(folder); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := aci.ReadFolder(fstest.MapFS{}); !errors.Is(err, aci.ErrNoReport) || !strings.Contains(err.Error(), "report.bin") {
		t.Errorf("empty folder: %v", err)
	}
	if _, err := aci.ReadFolder(fstest.MapFS{"report.hex": file([]byte("0x07"))}); !errors.Is(err, aci.ErrEncoding) {
		t.Errorf("not hex: %v", err)
	}
}

func TestRunning(t *testing.T) {
	t.Parallel()
	context := func(folder string, p []byte) fstest.MapFS {
		return fstest.MapFS{folder + "/security-policy-base64": encoded(p), folder + "/reference-info-base64": file(nil)}
	}
	join := func(list ...fstest.MapFS) fstest.MapFS {
		out := fstest.MapFS{}
		for _, m := range list {
			maps.Copy(out, m)
		}
		return out
	}
	kata := context("opt/confidential-containers/share/kata-containers", []byte("kata"))
	one, named := context("security-context-1234", []byte("aci")), context("run/named", []byte("named"))
	variables := map[string]string{"UVM_SECURITY_POLICY": "dmFyaWFibGU=", "UVM_HOST_AMD_CERTIFICATE": "e30="}
	for _, c := range []struct {
		name string
		root fstest.MapFS
		env  map[string]string
		want string
		err  error
	}{
		{"named folder first", join(kata, one, named), map[string]string{"UVM_SECURITY_CONTEXT_DIR": "/run/named", "UVM_SECURITY_POLICY": "dmFyaWFibGU="}, "named", nil},
		{"then the one of its name", join(kata, one), variables, "aci", nil},
		{"then variables", kata, variables, "variable", nil},
		{"then kata's", kata, nil, "kata", nil},
		{"none", fstest.MapFS{}, nil, "", aci.ErrNone},
		{"named folder is empty", one, map[string]string{"UVM_SECURITY_CONTEXT_DIR": "/nowhere"}, "", aci.ErrNone},
		{"two of its name", join(one, context("security-context-5", nil)), nil, "", aci.ErrAmbiguous},
		{"variable not base64", fstest.MapFS{}, map[string]string{"UVM_REFERENCE_INFO": "?"}, "", aci.ErrEncoding},
	} {
		got, err := aci.Running(c.root, func(name string) string { return c.env[name] })
		if !errors.Is(err, c.err) || err == nil && string(got.SecurityPolicy) != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	// What the host says of a folder's name stays below the root.
	got, err := aci.Running(named, func(string) string { return "../../../run/./named/" })
	if err != nil || string(got.SecurityPolicy) != "named" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzReadFolder(f *testing.F) {
	f.Add([]byte(fmt.Sprintf("%x", report)), []byte(base64.StdEncoding.EncodeToString(policy)))
	f.Fuzz(func(t *testing.T, r, p []byte) {
		b, err := aci.ReadFolder(fstest.MapFS{"report.hex": file(r), "security-policy-base64": file(p)})
		if err != nil {
			return
		}
		again, err := aci.ReadFolder(fstest.MapFS{"report.bin": file(b.Report), "security-policy-base64": encoded(b.SecurityPolicy)})
		if err != nil || !bytes.Equal(again.Report, b.Report) || !bytes.Equal(again.SecurityPolicy, b.SecurityPolicy) {
			t.Errorf("%v", err)
		}
	})
}
